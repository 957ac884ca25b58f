"""From the outputs of an accuracy run to answers, and from answers to accuracies.

Outputs are paired with their inputs by name, never by position, and classes are compared by index, never by name.
An answer is kept for each image, so that shards add up exactly and two models can be compared image by image.
"""

import csv
import io
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnasbench.data.shard import Scores
from mnasbench.errors import DatasetError, InputError, PairingError, one_line
from mnasbench.files import read_text, write_text
from mnasbench.result.outputs import Outputs, require_outputs_of
from mnasbench.result.statistics import PairedComparison, sqnr_db, wilson_interval
from mnasbench.run.scores import best_classes

TOP = 5


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

    @property
    def is_top1(self) -> bool:
        """Whether the first class is the label."""
        return self.classes[0] == self.label

    @property
    def is_top5(self) -> bool:
        """Whether the label is among the first five classes."""
        return self.label in self.classes[:TOP]


def evaluate_outputs(
    outputs: Iterable[Outputs], labels: Mapping[str, int], reference: Iterable[Outputs] | None = None
) -> tuple[list[Answer], list[Answer] | None]:
    """The answers of a run, and those of the reference where there is one, both sorted by name.

    ``labels`` by image key says which images must be answered: PairingError for one without output, and for an output
    without label; DatasetError where a label is not a class of the model. The parts of ``outputs`` and ``reference``
    must pair up: each with the same images, in any order.
    """
    answers: list[Answer] = []
    theirs: list[Answer] = []
    for part, other in itertools.zip_longest(outputs, () if reference is None else reference):
        expected = None if reference is None else _in_order_of(part, other)
        _check_labels(part, labels)
        answers += _answers(part, labels, part.scores, expected)
        if expected is not None:
            theirs += _answers(part, labels, expected, None)
    answers.sort(key=lambda answer: answer.name)
    require_outputs_of(labels, [answer.name for answer in answers])
    return answers, None if reference is None else sorted(theirs, key=lambda answer: answer.name)


def _in_order_of(part: Outputs | None, other: Outputs | None) -> Scores:
    """The reference's scores in the order of a part."""
    if part is None or other is None or set(part.keys) != set(other.keys):
        where = " and ".join(one_line(one.path) for one in (part, other) if one is not None)
        raise PairingError(f"{where}: have other images; run model and reference with the same lists, in one order")
    if part.scores.shape != other.scores.shape:
        raise PairingError(
            f"{one_line(part.path)}: {part.scores.shape[1]} classes, its reference {other.scores.shape[1]}"
        )
    if part.keys == other.keys:
        return other.scores
    rows = {key: row for row, key in enumerate(other.keys)}
    return other.scores[[rows[key] for key in part.keys]]


def _check_labels(part: Outputs, labels: Mapping[str, int]) -> None:
    classes = part.scores.shape[1]
    require_outputs_of(labels.keys() & set(part.keys), part.keys)
    wrong = next((key for key in part.keys if not 0 <= labels[key] < classes), None)
    if wrong is not None:
        raise DatasetError(
            f"{one_line(wrong)}: its label is class {labels[wrong]}, but the model has {classes} classes (0 to "
            f"{classes - 1}); the label file belongs to another set of classes"
        )


def _answers(part: Outputs, labels: Mapping[str, int], scores: Scores, expected: Scores | None) -> list[Answer]:
    best = best_classes(scores, TOP).tolist()
    if expected is None:
        return [Answer(key, labels[key], tuple(classes)) for key, classes in zip(part.keys, best, strict=True)]
    # Each row is summed by itself, so what an image gets does not depend on those beside it.
    logits = expected.astype(np.float64)
    signal = np.square(logits).sum(axis=1).tolist()
    noise = np.square(logits - scores).sum(axis=1).tolist()
    return [
        Answer(key, labels[key], tuple(classes), *sums)
        for key, classes, *sums in zip(part.keys, best, signal, noise, strict=True)
    ]


# ---------------------------------------------------------------------------------------------------- answer tables
_COLUMNS = ("name", "label", *(f"top{rank}" for rank in range(1, TOP + 1)), "signal", "noise")


def write_answers(path: Path, answers: Iterable[Answer]) -> None:
    """Write answers as CSV; floats in full precision, so that sums over shards are exact."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for answer in answers:
        # A model of fewer than five classes leaves the last ranks empty.
        ranks = [*answer.classes, *[""] * TOP][:TOP]
        sums = ["" if value is None else repr(value) for value in (answer.signal, answer.noise)]
        writer.writerow([answer.name, answer.label, *ranks, *sums])
    write_text(path, text.getvalue())


def read_answers(paths: Iterable[Path]) -> list[Answer]:
    """Answers from the tables of all shards, sorted by name; InputError where one is not such a table."""
    answers: list[Answer] = []
    for path in paths:
        rows = csv.reader(io.StringIO(read_text(path), newline=""))
        try:
            if tuple(next(rows, ())) != _COLUMNS:
                raise InputError(
                    f"{one_line(path)}: is not a table of answers; delete it, and the next run makes it again"
                )
            answers.extend(map(_answer, rows))
        except (ValueError, IndexError, csv.Error) as error:
            raise InputError(
                f"{one_line(path)}, line {rows.line_num}: is not an answer; delete the file and run again"
            ) from error
    answers.sort(key=lambda answer: answer.name)
    for before, after in itertools.pairwise(answers):
        if before.name == after.name:
            raise PairingError(f"{one_line(after.name)}: answered twice; its image is in two shards")
    return answers


def _answer(row: Sequence[str]) -> Answer:
    ranks = tuple(int(value) for value in row[2 : 2 + TOP] if value)
    signal, noise = (float(value) if value else None for value in row[2 + TOP :])
    label = int(row[1])
    if not ranks or len(set(ranks)) < len(ranks) or min(label, *ranks) < 0:
        raise ValueError(row)
    if not all(value is None or math.isfinite(value) for value in (signal, noise)):
        raise ValueError(row)
    return Answer(row[0], label, ranks, signal, noise)


def accuracy(answers: Sequence[Answer], reference: Sequence[Answer] | None = None) -> dict[str, object]:
    """The figures of one model: percentages with 95 % intervals, and against ``reference`` what changed.

    Raises PairingError where there is no answer, or the two are not about the same images.
    """
    if not answers:
        raise PairingError("no image was evaluated, so there is no accuracy; is the dataset empty?")
    images = len(answers)
    top1, top5 = sum(answer.is_top1 for answer in answers), sum(answer.is_top5 for answer in answers)
    low, high = wilson_interval(top1, images)
    figures: dict[str, object] = {
        "images": images,
        "correct_top1": top1,
        "correct_top5": top5,
        "top1": 100 * top1 / images,
        "top1_low": 100 * low,
        "top1_high": 100 * high,
        "top5": 100 * top5 / images,
    }
    if reference is not None:
        figures |= _against(answers, reference)
    return figures


def _against(answers: Sequence[Answer], reference: Sequence[Answer]) -> dict[str, object]:
    if [answer.name for answer in answers] != [answer.name for answer in reference]:
        raise PairingError("the model and its fp32 reference were not evaluated on the same images; run both again")
    pairs = list(zip(reference, answers, strict=True))
    lost = [mine.name for theirs, mine in pairs if theirs.is_top1 and not mine.is_top1]
    gained = [mine.name for theirs, mine in pairs if mine.is_top1 and not theirs.is_top1]
    comparison = PairedComparison(len(pairs), len(lost), len(gained))
    low, high = comparison.drop_interval()
    compared = [answer for answer in answers if answer.signal is not None and answer.noise is not None]
    return {
        "top1_drop": 100 * comparison.drop,
        "top1_drop_low": 100 * low,
        "top1_drop_high": 100 * high,
        "mcnemar_p": comparison.mcnemar_p,
        "agreement": 100 * sum(mine.classes[0] == theirs.classes[0] for theirs, mine in pairs) / len(pairs),
        # fsum is exact, so neither shards nor their order can change the last digit.
        "sqnr_db": sqnr_db(
            math.fsum(answer.signal or 0.0 for answer in compared),
            math.fsum(answer.noise or 0.0 for answer in compared),
        ),
        "lost": lost,
        "gained": gained,
    }
