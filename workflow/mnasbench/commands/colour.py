"""Colours on a terminal."""

import os
from typing import Literal, TextIO


def coloured(text: str, colour: Literal["red", "green", "yellow"], stream: TextIO) -> str:
    """``text`` in a colour where ``stream`` is a terminal and NO_COLOR (no-color.org) is not set."""
    if not stream.isatty() or os.environ.get("NO_COLOR"):
        return text
    code = {"red": 31, "green": 32, "yellow": 33}[colour]
    return f"\x1b[{code}m{text}\x1b[0m"
