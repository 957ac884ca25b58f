"""Print what a run came to: the table of results and where the time went."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mnasbench.commands.arguments import parser_for
from mnasbench.commands.colour import coloured
from mnasbench.commands.command_line import run
from mnasbench.errors import InputError
from mnasbench.files import read_json, read_text
from mnasbench.result.summary import COLUMNS, exclusion_notes, read_csv, terminal_notes, terminal_table
from mnasbench.result.times import find_receipts, job_times, times_table


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=Path("results"), help="folder of the results")
    parser.add_argument(
        "--receipts", type=Path, nargs="*", help="only these jobs; default: every one that left a receipt"
    )
    return parser


def show(arguments: argparse.Namespace) -> None:
    """Print both tables."""
    summary = arguments.results / "summary.csv"
    rows = read_csv(read_text(summary))
    if not rows or set(COLUMNS) - set(rows[0]):
        raise InputError(f"{summary}: is not a summary; make it with `make run`")
    receipts = arguments.receipts or find_receipts(arguments.results)
    print(f"\nWhere the time went\n\n{times_table(job_times(receipts))}\n\nResults\n\n{terminal_table(rows)}\n")
    for note in terminal_notes(rows, _reasons(arguments.results, rows), _exclusions(arguments.results, rows[0])):
        print(coloured(note, "yellow", sys.stdout) if note.startswith("*") else note)
    page = arguments.results / "report.html"
    print(f"\nEverything, decision first: {page if page.is_file() else summary}")
    print(f"All columns: {summary}; what each means: docs/measurement.md")


def _reasons(results: Path, rows: Sequence[Mapping[str, str]]) -> dict[tuple[str, str], str]:
    """The first reason that each measurement gave for not being VALID."""
    found = {}
    for row in rows:
        file = results / "run" / row["model"] / row["precision"] / "performance.json"
        reasons = (read_json(file).get("verdict") or {}).get("reasons") if file.is_file() else None
        if reasons:
            found[row["model"], row["precision"]] = reasons[0]
    return found


def _exclusions(results: Path, row: Mapping[str, str]) -> list[str]:
    file = results / "result" / row["model"] / row["precision"] / "accuracy.json"
    return exclusion_notes(read_json(file)) if file.is_file() else []


def main(argv: Sequence[str] | None = None) -> int:
    """Show the results."""
    return run(build_parser(), show, argv)


if __name__ == "__main__":
    sys.exit(main())
