"""The errors that mnasbench raises on purpose.

Each message is one line: what is wrong, where, what was expected, what to do. Commands print it and
exit with ``exit_code``; anything else that escapes is a fault of ours and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class MnasbenchError(Exception):
    """Base of the family: something went wrong that is not the caller's mistake (exit code 1)."""

    exit_code = 1


class InputError(MnasbenchError):
    """The arguments or a file that the user gave are wrong (exit code 2)."""

    exit_code = 2


class SettingsError(InputError):
    """A setting is unknown, of the wrong type, or impossible together with another."""


class DatasetError(InputError):
    """An image, a label file or a list of them is not what it should be."""


class WeightsError(InputError):
    """A weights file is missing, damaged, or belongs to another architecture."""


class ModelError(InputError):
    """An exported or compiled model is damaged or not of the expected form."""


class PairingError(InputError):
    """Inputs, outputs, labels and answers do not belong together, so no accuracy comes of them."""


class OutputError(InputError):
    """A file cannot be written where it was asked for: the disk is full, or the folder is not ours to write to."""


class BuildError(MnasbenchError):
    """A build did not pass its own gate, so no files were written."""


class MeasurementError(MnasbenchError):
    """A run produced outputs that cannot be paired with its inputs, or none at all."""


class RunningError(MnasbenchError):
    """Another run works on the same results."""


class ToolError(MnasbenchError):
    """An external tool is missing, failed, or printed something else than its contract says."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest known word, or the list of known words where none is near."""
    names = sorted(choices)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(names)}"


def one_line(text: object) -> str:
    """``text`` on a single line, so that an error stays one line whatever a file name holds."""
    return str(text).encode("unicode_escape").decode("ascii") if not str(text).isprintable() else str(text)


def named(names: Iterable[str], most: int = 10) -> str:
    """The first few names and how many more there are, for an error message."""
    listed = list(names)
    rest = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(one_line(name) for name in listed[:most]) + rest
