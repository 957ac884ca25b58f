"""How a command ends: any error becomes one line and an exit code."""

import argparse
import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType

from mnasbench.errors import MnasbenchError, one_line
from mnasbench.out_of_memory import is_out_of_memory, not_enough_memory

# What the system says of a place that cannot be written to, or a path that leads nowhere: the caller's to mend.
_REFUSALS = frozenset(
    getattr(errno, name)
    for name in (
        *("ENOSPC", "EDQUOT", "EFBIG", "EACCES", "EPERM", "EROFS"),
        *("ENOENT", "ENOTDIR", "EISDIR", "EEXIST", "ENOTEMPTY", "ENAMETOOLONG", "ELOOP"),
    )
)


class Stopped(BaseException):
    """A signal asked this command to end; ``signal`` is its number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


def run(
    parser: argparse.ArgumentParser,
    action: Callable[[argparse.Namespace], int | None],
    argv: Sequence[str] | None = None,
) -> int:
    """Parse ``argv``, run ``action``, give the exit code; without ``argv``, end this process with it.

    0 done; 2 wrong input, or a place that cannot be written to; 128 + n ended by signal n; 1 anything else.
    """
    code = _run(parser, action, argv)
    if argv is None:
        # Python would first take every object and library apart, for up to a third of a second. Files are closed and
        # workers joined where they were used; what was said before an error is still to be flushed.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)
    return code


def _run(
    parser: argparse.ArgumentParser, action: Callable[[argparse.Namespace], int | None], argv: Sequence[str] | None
) -> int:
    # Started with a stream closed (>&-): Python then has none, and what is said goes nowhere.
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - until the end
    arguments = parser.parse_args(argv)
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = action(arguments) or 0
        sys.stdout.flush()
        # For a caller in this process. After a signal they stay: a second one must not disturb what is to be said.
        for handled, handler in handlers.items():
            signal.signal(handled, handler)
        return code
    except MnasbenchError as error:
        if error.__cause__ is not None and is_out_of_memory(error.__cause__):
            # Whatever it was taken for where it was caught: a runtime that is not installed, a graph that is damaged.
            print(f"{parser.prog}: error: {not_enough_memory(str(error))}", file=sys.stderr)
            return 1
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Stopped, KeyboardInterrupt) as stop:
        number = stop.signal if isinstance(stop, Stopped) else int(signal.SIGINT)
        print(f"{parser.prog}: {'interrupted' if number == signal.SIGINT else 'terminated'}", file=sys.stderr)
        return 128 + number
    except Exception as error:
        if is_out_of_memory(error):
            print(f"{parser.prog}: error: {not_enough_memory()}", file=sys.stderr)
            return 1
        if not isinstance(error, OSError):
            raise
        # The system's own words say what, the file says where.
        where = f"{one_line(error.filename)}: " if error.filename else ""
        print(f"{parser.prog}: error: {where}{error.strerror or error}", file=sys.stderr)
        return 2 if error.errno in _REFUSALS else 1


def _stop(number: int, _frame: FrameType | None) -> None:
    # One is enough: a terminal signals a step and, through record.py, signals it again while it is cleaning up.
    for further in (signal.SIGINT, signal.SIGTERM):
        signal.signal(further, signal.SIG_IGN)
    raise Stopped(number)
