"""Two results folders against each other: a table, a page, and gates for continuous integration.

compare.py RESULTS_A RESULTS_B --html differences.html --fail-if 'top1_drop > 0.5' --fail-if 'throughput_ratio < 0.95'

A is compared with, B is judged: a drop is A minus B, a ratio B over A. Exit code 1 where a gate fails.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.commands.arguments import parser_for
from mnasbench.commands.command_line import run
from mnasbench.files import write_text
from mnasbench.result.comparison import (
    compare,
    comparison_page,
    comparison_table,
    failures,
    gate_columns,
    only_in,
    parse_gate,
)
from mnasbench.result.results_folder import read_results


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    parser.add_argument("results_a", type=Path, help="results to compare with: last month's, another machine's")
    parser.add_argument("results_b", type=Path, help="results to judge")
    parser.add_argument("--html", type=Path, help="page to write")
    parser.add_argument(
        "--fail-if",
        dest="gates",
        action="append",
        metavar="'COLUMN OPERATOR NUMBER'",
        help="fail where this holds for a row, or cannot be told; may be given again. Columns: "
        + ", ".join(gate_columns()),
    )
    return parser


def show_comparison(arguments: argparse.Namespace) -> int:
    """Compare, print, judge."""
    gates = [parse_gate(text) for text in arguments.gates or ()]
    a, b = read_results(arguments.results_a), read_results(arguments.results_b)
    rows = compare(a, b)
    print(comparison_table(rows))
    for name, missing in (("A", only_in(a, b)), ("B", only_in(b, a))):
        if missing:
            print(f"only in {name}: {', '.join(missing)}")
    if arguments.html:
        write_text(arguments.html, comparison_page(a, b, rows, gates))
    failed = failures(rows, gates)
    for line in failed:
        print(f"compare.py: gate failed: {line}", file=sys.stderr)
    return 1 if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Compare two folders."""
    return run(build_parser(), show_comparison, argv)


if __name__ == "__main__":
    sys.exit(main())
