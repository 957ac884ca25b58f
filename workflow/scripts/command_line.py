"""What every command does alike: parse, act, and turn an error of ours into one line and an exit code."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from mnasbench.errors import MnasbenchError, one_line


class HelpfulFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults and keeps the description's line breaks."""


def parser_for(description: str | None) -> argparse.ArgumentParser:
    """A parser that wants its flags whole (an abbreviation in a script breaks with the next new flag)."""
    return argparse.ArgumentParser(description=description, formatter_class=HelpfulFormatter, allow_abbrev=False)


def run(
    parser: argparse.ArgumentParser,
    action: Callable[[argparse.Namespace], int | None],
    argv: Sequence[str] | None = None,
) -> int:
    """Parse ``argv``, run ``action``, give the exit code: 0 done, 2 wrong input, 130 interrupted, 1 anything else."""
    arguments = parser.parse_args(argv)
    try:
        return action(arguments) or 0
    except MnasbenchError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # A full disk, a folder without permission: the system's own words say what, the file says where.
        where = f"{one_line(error.filename)}: " if error.filename else ""
        print(f"{parser.prog}: error: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return 130
