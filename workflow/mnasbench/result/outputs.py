"""The scores that a run left, in shards or in one npz an image, as arrays with the names of their images."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnasbench.data.npz import npz_names, read_output
from mnasbench.data.shard import Scores, is_shard, read_scores
from mnasbench.errors import PairingError, one_line


@dataclass(frozen=True)
class Outputs:
    """The scores of some images: their names, and float32 (images, classes) in that order."""

    path: Path
    names: list[str]
    scores: Scores


def read_outputs(paths: Iterable[Path]) -> Iterator[Outputs]:
    """The outputs of a run: shards of scores, or folders of these or of one npz an image; a part at a time.

    Raises PairingError for a folder without any, and where two files of a folder have other numbers of classes.
    """
    for path in paths:
        if not path.is_dir():
            if not path.exists():
                raise PairingError(f"{one_line(path)}: no such outputs; run vamp with --path_output first")
            yield _shard_outputs(path)
            continue
        names = npz_names(path)
        if not names:
            raise PairingError(f"{one_line(path)}: holds no outputs; run vamp with --path_output first")
        shards = [name for name in names if is_shard(path / name)]
        yield from (_shard_outputs(path / name) for name in shards)
        if len(shards) < len(names):
            yield _file_outputs(path, [name for name in names if name not in set(shards)])


def _shard_outputs(path: Path) -> Outputs:
    names, scores = read_scores(path)
    return Outputs(path, list(names), scores)


def _file_outputs(folder: Path, names: list[str]) -> Outputs:
    rows = [read_output(folder / name) for name in names]
    other = next((name for name, row in zip(names, rows, strict=True) if row.size != rows[0].size), None)
    if other is not None:
        raise PairingError(f"{one_line(folder / other)}: has another number of classes than {one_line(names[0])}")
    return Outputs(folder, [name.removesuffix(".npz") for name in names], np.stack(rows))


def require_outputs_of(expected: Iterable[str], answered: Iterable[str]) -> None:
    """PairingError for an image without output, an output of no image that is expected, or two of one image."""
    expected, keys = set(expected), list(answered)
    doubled = {key for key, times in Counter(keys).items() if times > 1} if len(set(keys)) < len(keys) else set()
    for these, what in (
        (expected.difference(keys), "has no output"),
        (set(keys) - expected, "has an output but belongs to no input"),
        (doubled, "answered twice"),
    ):
        if these:
            raise PairingError(
                f"{one_line(min(these))}: {what} ({len(these)} such of {len(expected)}); was the run interrupted, or "
                "was it given another list? Run it again"
            )
