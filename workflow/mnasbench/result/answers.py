"""The table of answers: for each image its label, the model's first classes, and how far its logits are off."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mnasbench.errors import InputError, PairingError, one_line
from mnasbench.files import write_text
from mnasbench.result.text_table import numbers, read_text_table

TOP = 5
RANKS = [f"top{rank}" for rank in range(1, TOP + 1)]
_WHOLE, _SUMS = ["label", *RANKS], ["signal", "noise"]


@dataclass(frozen=True)
class Answer:
    """One image's label and the model's first classes, best first; sums of squares against the reference's logits.

    ``signal`` is the sum over classes of the reference's squared logits, ``noise`` that of the squared differences;
    both None where there was no reference.
    """

    name: str
    label: int
    classes: tuple[int, ...]
    signal: float | None = None
    noise: float | None = None


def answers_table(answers: Iterable[Answer]) -> pd.DataFrame:
    """The answers as a table, sorted by name.

    Columns name (str), label and top1 to top5 (Int64; a model of fewer than five classes leaves the last ones missing),
    signal and noise (float64).
    """
    rows = [
        (one.name, one.label, *one.classes[:TOP], *[None] * (TOP - len(one.classes)), one.signal, one.noise)
        for one in answers
    ]
    table = pd.DataFrame(rows, columns=["name", *_WHOLE, *_SUMS], dtype=object)
    return _sorted(table.astype(dict.fromkeys(_WHOLE, "Int64") | dict.fromkeys(_SUMS, "float64")))


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    # Stable: two tables of the same images in the same order stay so, also where names are equal.
    return table.sort_values("name", kind="stable", ignore_index=True)


def write_answers(path: Path, table: pd.DataFrame) -> None:
    """Write answers as CSV; floats in full precision, so that sums over shards are exact."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def read_answers(paths: Sequence[Path]) -> pd.DataFrame:
    """Answers from one table or several, sorted by name; InputError where one is not such a table."""
    table = _sorted(pd.concat(map(_read, paths), ignore_index=True))
    twice = table.name[table.name.duplicated()]
    if not twice.empty:
        raise PairingError(f"{one_line(twice.iloc[0])}: answered twice; its image is in two shards")
    return table


def _read(path: Path) -> pd.DataFrame:
    table = read_text_table(path)
    if list(table.columns) != ["name", *_WHOLE, *_SUMS]:
        raise InputError(f"{one_line(path)}: is not a table of answers; delete it, and the next run makes it again")
    for name in _WHOLE:
        table[name] = numbers(path, table[name], whole=True)
    for name in _SUMS:
        table[name] = numbers(path, table[name])
    ranks = table[RANKS].to_numpy("int64", na_value=-1)
    given = ranks >= 0
    ordered = np.sort(np.where(given, ranks, -1 - np.arange(TOP)), axis=1)
    wrong = (
        table.label.isna()
        | table.top1.isna()
        | (table[_WHOLE] < 0).any(axis=1)
        | (np.diff(ordered, axis=1) == 0).any(axis=1)
    )
    if wrong.any():
        line = int(np.flatnonzero(wrong.to_numpy(bool))[0]) + 2
        raise InputError(f"{one_line(path)}, line {line}: is not an answer; delete the file and run again")
    return table


def is_top1(table: pd.DataFrame) -> pd.Series:
    """Whether the first class is the label, of each image."""
    return (table.top1 == table.label).astype(bool)


def is_top5(table: pd.DataFrame) -> pd.Series:
    """Whether the label is among the first five classes, of each image."""
    return table[RANKS].eq(table.label, axis=0).fillna(False).any(axis=1).astype(bool)
