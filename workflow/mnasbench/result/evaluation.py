"""From the outputs of an accuracy run to answers, and from answers to accuracies.

Outputs are paired with their inputs by name, never by position, and classes are compared by index, never by name.
An answer is kept for each image, so that shards add up exactly and two models can be compared image by image.
"""

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from mnasbench.data.image_keys import ImageKeys
from mnasbench.data.shard import Scores
from mnasbench.errors import DatasetError, PairingError, one_line
from mnasbench.result.answers import TOP, Answer, answers_table, is_top1, is_top5
from mnasbench.result.outputs import Outputs, require_outputs_of
from mnasbench.result.statistics import PairedComparison, sqnr_db, wilson_interval
from mnasbench.run.scores import best_classes


def evaluate_outputs(
    outputs: Iterable[Outputs],
    labels: Mapping[str, int],
    reference: Iterable[Outputs] | None = None,
    *,
    probabilities: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """The answers of a run, and those of the reference where there is one, as tables of answers.

    ``labels`` by image key says which images must be answered: PairingError for one without output, and for an output
    of none of them; DatasetError where a label is not a class of the model. The parts of ``outputs`` and ``reference``
    must pair up: each with the same images, in any order. With ``probabilities`` only the reference's are logits, and
    the answers have neither signal nor noise.
    """
    answers: list[Answer] = []
    theirs: list[Answer] = []
    images = ImageKeys(labels)
    for part, other in itertools.zip_longest(outputs, () if reference is None else reference):
        keys = [] if part is None else [images[name] for name in part.names]
        expected = None if reference is None else _in_order_of(part, keys, other, images)
        _check_labels(part, keys, labels)
        answers += _answers(keys, labels, part.scores, None if probabilities else expected)
        if expected is not None:
            theirs += _answers(keys, labels, expected, None)
    require_outputs_of(labels, sorted(answer.name for answer in answers))
    return answers_table(answers), None if reference is None else answers_table(theirs)


def _in_order_of(part: Outputs | None, keys: Sequence[str], other: Outputs | None, images: ImageKeys) -> Scores:
    """The reference's scores in the order of a part, whose image keys are ``keys``."""
    theirs = [] if other is None else [images[name] for name in other.names]
    if part is None or other is None or set(keys) != set(theirs):
        where = " and ".join(one_line(one.path) for one in (part, other) if one is not None)
        raise PairingError(f"{where}: have other images; run model and reference with the same lists, in one order")
    if part.scores.shape != other.scores.shape:
        raise PairingError(
            f"{one_line(part.path)}: {part.scores.shape[1]} classes, its reference {other.scores.shape[1]}"
        )
    if keys == theirs:
        return other.scores
    rows = {key: row for row, key in enumerate(theirs)}
    return other.scores[[rows[key] for key in keys]]


def _check_labels(part: Outputs, keys: Sequence[str], labels: Mapping[str, int]) -> None:
    classes = part.scores.shape[1]
    require_outputs_of(labels.keys() & set(keys), keys)
    wrong = next((key for key in keys if not 0 <= labels[key] < classes), None)
    if wrong is not None:
        raise DatasetError(
            f"{one_line(wrong)}: its label is class {labels[wrong]}, but the model has {classes} classes (0 to "
            f"{classes - 1}); the label file belongs to another set of classes"
        )


def _answers(keys: Sequence[str], labels: Mapping[str, int], scores: Scores, expected: Scores | None) -> list[Answer]:
    best = best_classes(scores, TOP).tolist()
    if expected is None:
        return [Answer(key, labels[key], tuple(classes)) for key, classes in zip(keys, best, strict=True)]
    # Each row is summed by itself, so what an image gets does not depend on those beside it.
    logits = expected.astype(np.float64)
    signal = np.square(logits).sum(axis=1).tolist()
    noise = np.square(logits - scores).sum(axis=1).tolist()
    return [
        Answer(key, labels[key], tuple(classes), *sums)
        for key, classes, *sums in zip(keys, best, signal, noise, strict=True)
    ]


def held_out(
    answers: pd.DataFrame, reference: pd.DataFrame | None, calibration: Collection[str]
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """The two tables of answers without the images of these keys, which int8 ranges were taken from."""
    kept = None if reference is None else _without(reference, calibration)
    return _without(answers, calibration), kept


def _without(answers: pd.DataFrame, keys: Collection[str]) -> pd.DataFrame:
    return answers[~answers.name.isin(list(keys))].reset_index(drop=True)


def held_out_figures(
    answers: pd.DataFrame, reference: pd.DataFrame | None, calibration: Collection[str]
) -> dict[str, object]:
    """How many of the judged images are of these keys, and the accuracies of the others (none where there is none)."""
    others, theirs = held_out(answers, reference, calibration)
    figures = {} if others.empty else accuracy(others, theirs)
    return {
        "calibration_overlap": len(answers) - len(others),
        "held_out": {key: figures[key] for key in ("images", "top1", "top1_drop", "agreement") if key in figures},
    }


def accuracy(answers: pd.DataFrame, reference: pd.DataFrame | None = None) -> dict[str, object]:
    """The figures of one model: percentages with 95 % intervals, and against ``reference`` what changed.

    Both are tables of answers. Raises PairingError where there is no answer, or the two are not about the same images.
    """
    if answers.empty:
        raise PairingError("no image was evaluated, so there is no accuracy; is the dataset empty?")
    images = len(answers)
    top1, top5 = int(is_top1(answers).sum()), int(is_top5(answers).sum())
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


def _against(answers: pd.DataFrame, reference: pd.DataFrame) -> dict[str, object]:
    if list(answers.name) != list(reference.name):
        raise PairingError("the model and its fp32 reference were not evaluated on the same images; run both again")
    mine, theirs = is_top1(answers), is_top1(reference)
    lost, gained = answers.name[theirs & ~mine].to_list(), answers.name[mine & ~theirs].to_list()
    comparison = PairedComparison(len(answers), len(lost), len(gained))
    low, high = comparison.drop_interval()
    sums = answers[["signal", "noise"]].dropna()
    return {
        "top1_drop": 100 * comparison.drop,
        "top1_drop_low": 100 * low,
        "top1_drop_high": 100 * high,
        "mcnemar_p": comparison.mcnemar_p,
        "agreement": 100 * int((answers.top1 == reference.top1).sum()) / len(answers),
        # fsum is exact, so neither shards nor their order can change the last digit.
        "sqnr_db": sqnr_db(math.fsum(sums.signal), math.fsum(sums.noise)),
        "lost": lost,
        "gained": gained,
    }
