"""Choices that depend on an image's name alone, so that another image's coming or going moves (nearly) nothing."""

import hashlib
import zlib
from collections.abc import Mapping, Sequence


def shard_of(name: str, shards: int) -> int:
    """The shard (0-based) of an image."""
    return zlib.crc32(name.encode()) % shards


def sample_of(names: Sequence[str], images: int) -> list[str]:
    """``images`` of the names (all, where there are no more), sorted: those whose digests come first.

    As good as drawn at random, but always the same, and one name's coming or going moves at most one other.
    """
    return sorted(names if len(names) <= images else sorted(names, key=_name_digest)[:images])


def _name_digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def calibration_choice(classes: Mapping[str, int], images: int, seed: int) -> list[str]:
    """``images`` names, sorted: the first of every class in the seed's order, then the second of every class, ..."""
    ranked = sorted(classes, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    rounds: dict[int, int] = {}
    turns = []
    for rank, name in enumerate(ranked):
        turn = rounds[classes[name]] = rounds.get(classes[name], -1) + 1
        turns.append((turn, rank))
    return sorted(ranked[rank] for _, rank in sorted(turns)[:images])
