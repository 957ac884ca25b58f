"""Result texts: the vendor's form of answers, five lines an image.

``<path>: Relay top-{k} id: {i}, prob: {p:.8f}, class name: {c}`` with k from 0. A path may hold colons and anything
else but line ends, so the line is taken apart from its fixed middle, not at its first colon.
"""

import re
from pathlib import Path

import pandas as pd

from mnasbench.data.image_keys import ImageKeys
from mnasbench.errors import DatasetError, one_line
from mnasbench.files import read_text
from mnasbench.result.answers import TOP, Answer, answers_table

# Greedy: the last such middle of a line is the real one, whatever the path holds.
_LINE = re.compile(
    r"(?P<path>.*): Relay top-(?P<rank>\d+) id: (?P<id>\d+), prob: (?P<prob>[-+.\deE]+|nan|inf), class name: .*"
)


def read_result_text(path: Path) -> dict[str, tuple[int, ...]]:
    """First classes of each image (best first) by image path; DatasetError names a line that is not of the form."""
    ranked: dict[str, dict[int, int]] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.rstrip("\r"))
        if match is None:
            raise DatasetError(
                f"{one_line(path)}, line {number}: expected '<path>: Relay top-<k> id: <class>, prob: <p>, "
                f"class name: <name>'; is this the file that sample_cls.py wrote?"
            )
        ranks = ranked.setdefault(match["path"], {})
        if int(match["rank"]) in ranks:
            raise DatasetError(f"{one_line(path)}, line {number}: a second top-{match['rank']} of the same image")
        ranks[int(match["rank"])] = int(match["id"])
    if not ranked:
        raise DatasetError(f"{one_line(path)}: holds no answers")
    for name, ranks in ranked.items():
        # Some of the vendor's tools count from 0, others from 1.
        if sorted(ranks) not in (list(range(len(ranks))), list(range(1, len(ranks) + 1))):
            raise DatasetError(f"{one_line(path)}: {one_line(name)} lacks some of its ranks (it has {sorted(ranks)})")
    return {name: tuple(ranks[rank] for rank in sorted(ranks))[:TOP] for name, ranks in ranked.items()}


def answers_from_text(path: Path, labels: dict[str, int]) -> pd.DataFrame:
    """The table of answers of a result text; ``labels`` maps image keys to classes.

    Raises DatasetError for an image without a label.
    """
    classes = read_result_text(path)
    images = ImageKeys(labels)
    answers: dict[str, Answer] = {}
    for name, ranked in classes.items():
        key = images.find(name)
        if key is None:
            raise DatasetError(f"{one_line(path)}: {one_line(name)} has no label; give the label file of this dataset")
        if key in answers:
            raise DatasetError(
                f"{one_line(path)}: {one_line(name)} is answered twice; its label is that of {one_line(key)}"
            )
        answers[key] = Answer(key, labels[key], ranked)
    return answers_table(answers.values())
