"""Put the table of a run into README.md, with what it was measured on (for maintainers)."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.commands.arguments import parser_for
from mnasbench.commands.command_line import run
from mnasbench.errors import InputError
from mnasbench.files import read_json, read_text, write_text
from mnasbench.result.summary import read_summary, rows_of
from mnasbench.result.summary_tables import terminal_notes, terminal_table
from mnasbench.runtimes import DISTRIBUTIONS

MARKS = (
    "<!-- table: written by workflow/scripts/write_readme_table.py from a run's results -->\n",
    "<!-- /table -->\n",
)


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=Path("results"), help="folder of the results")
    parser.add_argument("--readme", type=Path, default=Path("README.md"), help="the file to complete")
    return parser


def _block(results: Path) -> str:
    rows = rows_of(read_summary(results / "summary.csv"))
    receipt = read_json(results / "summary.receipt.json")
    machine = receipt["machine"]
    shown = (name for name in (*DISTRIBUTIONS, "torch") if name in receipt["versions"])
    versions = ", ".join(f"{name} {receipt['versions'][name]}" for name in shown)
    machine_line = f"{machine['cpu']}, {machine['cpus']} cores, {versions}, {receipt['started'][:10]}"
    notes = "\n".join(terminal_notes(rows, {}))
    return f"```text\n{terminal_table(rows)}\n\n{notes}\n```\n\n`make run` on {machine_line}.\n"


def complete(arguments: argparse.Namespace) -> None:
    """Replace what stands between the marks."""
    text = read_text(arguments.readme)
    before, opening, rest = text.partition(MARKS[0])
    _, closing, after = rest.partition(MARKS[1])
    if not opening or not closing:
        raise InputError(f"{arguments.readme}: lacks the two marks between which the table stands: {MARKS}")
    write_text(arguments.readme, f"{before}{opening}{_block(arguments.results)}{closing}{after}")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the table."""
    return run(build_parser(), complete, argv)


if __name__ == "__main__":
    sys.exit(main())
