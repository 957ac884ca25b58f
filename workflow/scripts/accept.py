"""Keep results that only an edit of the code makes stale, where you know that the edit changes none of them.

Lists them; with --because they count as made by the code of now, and their receipts say what was accepted, when and
why. Run it where the workflow runs. Whatever else makes a result stale still has it made again.
"""

import argparse
import sys
from collections.abc import Sequence

from mnasbench.commands.arguments import parser_for
from mnasbench.commands.command_line import run
from mnasbench.file_memory import memory_of_this_machine
from mnasbench.plan.accept import Edited, accept, edited_only
from mnasbench.plan.kept_code import KeptCode
from mnasbench.plan.names import RESULTS
from mnasbench.plan.run_lock import hold_results
from mnasbench.receipts import Records
from mnasbench.result.times import find_receipts


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    parser.add_argument("--because", metavar="TEXT", help="accept them, for this reason")
    parser.add_argument("--rule", nargs="*", default=[], metavar="RULE", help="only results of these rules")
    only = "only results of which nothing else was edited than these, as this command names them"
    parser.add_argument("--part", nargs="*", default=[], metavar="PART", help=only)
    return parser


def is_chosen(edited: Edited, arguments: argparse.Namespace) -> bool:
    """Whether the arguments name this result."""
    of_rule = not arguments.rule or edited.receipt.rule in arguments.rule
    return of_rule and (not arguments.part or set(edited.parts) <= set(arguments.part))


def accept_edits(arguments: argparse.Namespace) -> None:
    """List, and accept where a reason is given."""
    if arguments.because:
        hold_results()
    records, kept_code = Records(find_receipts(RESULTS)), KeptCode()
    everything = edited_only(records, memory_of_this_machine(), kept_code)
    chosen = [edited for edited in everything if is_chosen(edited, arguments)]
    for edited in chosen:
        print(f"{edited.path}: {edited.reason}")
    if arguments.because:
        accept(chosen, arguments.because, records, kept_code)
    done = "accepted" if arguments.because else "can be accepted with --because"
    print(f"{len(chosen)} of {len(everything)} results that only the code makes stale {done}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Accept edits."""
    return run(build_parser(), accept_edits, argv)


if __name__ == "__main__":
    sys.exit(main())
