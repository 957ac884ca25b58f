"""Parsers and types of arguments that every command shares."""

import argparse
import math
from collections.abc import Callable
from typing import NoReturn

from mnasbench.errors import SettingsError, one_line
from mnasbench.preprocessing import Size, sides_from_json


class HelpfulFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults that say something, and keeps the description's line breaks."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, as of any other input; argparse would repeat all its flags."""

    def error(self, message: str) -> NoReturn:
        """End with the message and exit code 2."""
        self.exit(2, f"{self.prog}: error: {one_line(message)}; --help says what is expected\n")


def parser_for(description: str | None) -> argparse.ArgumentParser:
    """A parser that wants its flags whole (an abbreviation in a script breaks with the next new flag)."""
    return OneLineParser(description=description, formatter_class=HelpfulFormatter, allow_abbrev=False)


# More images, pixels, processes or requests than this nobody has; larger numbers break what they are handed to.
MOST = 1_000_000_000
# Of one request, and of sessions, threads or processes: the schema's bounds.
MOST_IMAGES = MOST_SESSIONS = 1024


def whole(least: int = 1, most: int = MOST) -> Callable[[str], int]:
    """The type of an argument that is a whole number within these bounds."""

    def number(text: str) -> int:
        try:
            value = int(text) if len(text) <= 20 else most + 1
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text[:40]} is not within {least} to {most}")
        return value

    return number


def sides(text: str) -> int | Size:
    """``224``, the side of a square in pixels, or height and width: ``48x192``, ``48,192`` or ``[48, 192]``."""
    words = text.strip().removeprefix("[").removesuffix("]").replace("x", ",").split(",")
    numbers = [whole()(word.strip()) for word in words]
    try:
        return sides_from_json(numbers if len(numbers) > 1 else numbers[0], "it")
    except SettingsError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no side in pixels, and not HEIGHTxWIDTH either") from None


def real(least: float = 0.0, most: float = MOST, *, above: bool = False) -> Callable[[str], float]:
    """The type of an argument that is a finite number within these bounds, or ``above`` the lower one."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not (math.isfinite(value) and least <= value <= most) or (above and value == least):
            raise argparse.ArgumentTypeError(f"{text[:40]} is not within {least:g} to {most:g}")
        return value

    return number
