"""How a long function says how far it is, to whoever called it."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Progress(Protocol):
    """What a long function is given to speak to; it neither prints nor knows who listens."""

    def loop(self, what: str, items: Iterable[Item], total: int, unit: str = "image") -> Iterable[Item]:
        """Give ``items``, of which there are ``total``, while saying how many were given; ``unit`` is their name."""

    def step(self, what: str) -> None:
        """Say what begins now, where nothing is known of how long it takes."""


class _Silent:
    def loop(self, what: str, items: Iterable[Item], total: int, unit: str = "image") -> Iterable[Item]:
        return items

    def step(self, what: str) -> None:
        pass


# Nobody listens.
SILENT: Progress = _Silent()
