"""How far a long step is: a bar on a terminal, lines for record.py in a step of the workflow, else nothing."""

import contextlib
import io
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

# Where a step of the workflow says how far it is: the descriptor that record.py listens on.
VARIABLE = "MNASBENCH_PROGRESS"


class Shown:
    """Progress (see mnasbench.progress) for whoever started a command."""

    def loop(self, what: str, items: Iterable[Item], total: int, unit: str = "image") -> Iterable[Item]:
        """A bar with rate and time left."""
        if sys.stderr.isatty():
            return tqdm(items, total=total, desc=what, unit=f" {unit}s")
        if _is_listened_to():
            return _Lines(items, total=total, desc=what, unit=unit, mininterval=1.0, file=io.StringIO())
        return items

    def step(self, what: str) -> None:
        """A line."""
        if sys.stderr.isatty():
            print(what, file=sys.stderr)
        elif _is_listened_to():
            _say(what)


@contextlib.contextmanager
def waiting(what: str, seconds: float) -> Iterator[None]:
    """A bar for something that says nothing of itself but takes about that long: a tick a second is all it costs."""
    ended = threading.Event()

    def tick() -> None:
        for _ in Shown().loop(what, range(round(seconds)), round(seconds), "second"):
            if ended.wait(1.0):
                return

    ticking = threading.Thread(target=tick, daemon=True)
    ticking.start()
    try:
        yield
    finally:
        ended.set()
        ticking.join()


class _Lines(tqdm):  # type: ignore[type-arg] # tqdm is generic in its stubs alone
    """A line a second for record.py, which shows one now and then."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        state = self.format_dict
        if state["elapsed"] >= 1 and state["n"]:  # before, nothing is known of the rate
            rate = state["n"] / state["elapsed"]
            left = tqdm.format_interval((state["total"] - state["n"]) / rate)
            done = f"{state['n']:,} of {state['total']:,} {state['unit']}s"
            # The rate of waiting is no news.
            pace = "" if state["unit"] == "second" else f", {rate:,.3g} a second, {left} left"
            _say(f"{self.desc.removesuffix(': ')}, {done}{pace}")


def _is_listened_to() -> bool:
    return os.environ.get(VARIABLE, "").isdigit()


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # whoever listened has gone
        os.write(int(os.environ[VARIABLE]), f"{line}\n".encode())
