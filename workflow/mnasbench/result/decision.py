"""Which row to ship: the Pareto front of accuracy and throughput, and one recommendation with its reason."""

from collections.abc import Sequence
from dataclasses import dataclass

from mnasbench.result.summary import Row

# MLPerf Inference's criterion for a quantized model: 99 % of the accuracy of the fp32 reference.
KEPT_SHARE = 0.99
_KEPT_PERCENT = f"{100 * KEPT_SHARE:g} %"
# A rate that differs by less is hardly a reason to give up accuracy: runs on a busy machine differ by as much.
_WORTH_NAMING = 1.1


@dataclass(frozen=True)
class Recommendation:
    """The row to ship (None where none qualifies) and the sentence that says why.

    ``provisional``: no performance run was VALID, so throughputs may change when measured again.
    """

    row: Row | None
    sentence: str
    provisional: bool


def pareto_front(rows: Sequence[Row]) -> list[Row]:
    """Rows that no other beats in both top-1 and throughput, by falling throughput; unknown throughputs left out."""
    measured = [row for row in rows if row.throughput_qps is not None]
    measured.sort(key=lambda row: (-row.throughput_qps, -row.top1))
    front: list[Row] = []
    for row in measured:
        if not front or row.top1 > front[-1].top1:
            front.append(row)
    return front


def keeps_accuracy(row: Row) -> bool:
    """Whether a row is fp32, or keeps KEPT_SHARE of fp32's top-1; False where its loss is unknown."""
    if row.precision == "fp32":
        return True
    return row.top1_drop is not None and row.top1_drop <= (1 - KEPT_SHARE) * (row.top1 + row.top1_drop)


def recommend(rows: Sequence[Row]) -> Recommendation:
    """The most accurate variant in its fastest precision that keeps its accuracy; VALID runs only, if there are any.

    Ties in accuracy go to the faster row.
    """
    measured = [row for row in rows if row.throughput_qps]
    valid = [row for row in measured if row.verdict == "VALID"]
    provisional = not valid
    candidates = [row for row in valid or measured if keeps_accuracy(row)]
    if not candidates:
        return Recommendation(None, _why_none(measured), provisional)
    fastest = [max((row for row in candidates if row.model == model), key=_speed) for model in _models(candidates)]
    chosen = max(fastest, key=lambda row: (row.top1, _speed(row)))
    sentence = f"Ship {chosen.model} as {chosen.precision}: {_reason(chosen, rows)}{_alternative(chosen, fastest)}."
    return Recommendation(chosen, sentence, provisional)


def _models(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.model for row in rows))


def _speed(row: Row) -> float:
    return row.throughput_qps or 0.0


def _why_none(measured: Sequence[Row]) -> str:
    if not measured:
        return "No recommendation: no row has a throughput yet."
    return (
        f"No recommendation: no quantized row is known to keep {_KEPT_PERCENT} of fp32's top-1, and fp32 was not "
        "measured with it; add fp32 to the precisions."
    )


def _reason(chosen: Row, rows: Sequence[Row]) -> str:
    accuracy = f"{chosen.top1:.1f} % top-1 at {_speed(chosen):.0f} images/s"
    if chosen.precision == "fp32":
        return f"{accuracy}; no precision is faster and keeps {_KEPT_PERCENT} of its top-1"
    lost = f"{_change(chosen.top1_drop or 0.0)} against fp32"
    if chosen.top1_drop_high is not None:
        lost += f" (the loss is at most {chosen.top1_drop_high:.2f} at 95 %)"
    reference = next((row for row in rows if row.model == chosen.model and row.precision == "fp32"), None)
    if reference is None or not reference.throughput_qps:
        return f"{accuracy}; {lost}"
    return f"{accuracy}, {_speed(chosen) / reference.throughput_qps:.2f} times fp32's rate; {lost}"


def _change(drop: float) -> str:
    if abs(drop) < 0.005:  # shown with two digits
        return "it loses nothing"
    return f"it {'loses' if drop > 0 else 'gains'} {abs(drop):.2f} points"


def _alternative(chosen: Row, fastest: Sequence[Row]) -> str:
    other = max(fastest, key=_speed)
    if _speed(other) < _WORTH_NAMING * _speed(chosen):
        return ""
    return (
        f". Where that is too slow, {other.model} as {other.precision} gives {_speed(other):.0f} images/s "
        f"for {chosen.top1 - other.top1:.1f} points less"
    )
