"""Print what a run came to: the table of results and where the time went."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.commands.arguments import parser_for
from mnasbench.commands.colour import coloured
from mnasbench.commands.command_line import run
from mnasbench.result.results_folder import Results, read_results
from mnasbench.result.summary_tables import calibration_notes, exclusion_notes, terminal_notes, terminal_table
from mnasbench.result.times import job_times, times_table


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
    results = read_results(arguments.results)
    rows = [result.row for result in results.rows]
    # The report could not name the receipt of its own job.
    receipts = arguments.receipts or [
        *(one.path for one in results.receipts),
        arguments.results / "report.receipt.json",
    ]
    print(f"\nWhere the time went\n\n{times_table(job_times(receipts))}\n\nResults\n\n{terminal_table(rows)}\n")
    for note in terminal_notes(rows, _reasons(results), _on_images(results)):
        print(coloured(note, "yellow", sys.stdout) if note.startswith("*") else note)
    page, summary = (arguments.results / name for name in ("report.html", "summary.csv"))
    print(f"\nEverything, decision first: {page if page.is_file() else summary}")
    print(f"All columns: {summary}; what each means: docs/measurement.md")


def _on_images(results: Results) -> list[str]:
    """Which images do not count, or count doubly."""
    accuracy = results.rows[0].accuracy
    return [*exclusion_notes(accuracy), *calibration_notes([result.row for result in results.rows], accuracy)]


def _reasons(results: Results) -> dict[tuple[str, str], str]:
    """The first reason that each measurement gave for not being VALID."""
    reasons = {}
    for result in results.rows:
        given = (result.performance.get("verdict") or {}).get("reasons")
        if given:
            reasons[result.row.model, result.row.precision] = given[0]
    return reasons


def main(argv: Sequence[str] | None = None) -> int:
    """Show the results."""
    return run(build_parser(), show, argv)


if __name__ == "__main__":
    sys.exit(main())
