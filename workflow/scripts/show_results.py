"""Print what a run came to: the table of results and where the time went."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from command_line import parser_for, run
from mnasbench.errors import InputError
from mnasbench.files import read_text
from mnasbench.provenance import RECEIPT_SUFFIX
from mnasbench.result.summary import COLUMNS, read_csv, table
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
    summary = arguments.results / "summary.csv"
    rows = read_csv(read_text(summary))
    if not rows or set(COLUMNS) - set(rows[0]):
        raise InputError(f"{summary}: is not a summary; make it with `make run`")
    receipts = arguments.receipts or sorted(arguments.results.rglob(f"*{RECEIPT_SUFFIX}"))
    print(f"\nWhere the time went\n\n{times_table(job_times(receipts))}\n\nResults\n\n{table(rows)}\n")
    print(f"All columns: {summary}; what each means: docs/measurement.md")


def main(argv: Sequence[str] | None = None) -> int:
    """Show the results."""
    return run(build_parser(), show, argv)


if __name__ == "__main__":
    sys.exit(main())
