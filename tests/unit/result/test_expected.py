"""fp32 accuracies that are not the published ones are said to be so."""

import pytest

from mnasbench.result import columns
from mnasbench.result.expected import USUAL_CAUSES, deviations
from mnasbench.result.summary import Row

PUBLISHED = dict.fromkeys(columns.names()) | {
    "model": "mnasnet0_75",
    "precision": "fp32",
    "images": 50_000,
    "top1": 71.18,
    "reference_top1": 71.18,
    "reference_source": "torchvision IMAGENET1K_V1",
}


def _row(**changes: object) -> Row:
    return Row(**(PUBLISHED | changes))


@pytest.mark.parametrize("top1", [71.131, 71.18, 71.229])
def test_within_the_tolerance_nothing_is_said(top1: float) -> None:
    assert deviations([_row(top1=top1)]) == []


@pytest.mark.parametrize(("top1", "gap"), [(70.9, "-0.280"), (71.24, "+0.060")])
def test_beyond_it_the_row_and_the_usual_causes(top1: float, gap: str) -> None:
    first, last = deviations([_row(top1=top1), _row()])
    assert first == (
        f"mnasnet0_75: fp32 top-1 is {top1:.3f}, {gap} points off the published 71.180 (torchvision IMAGENET1K_V1)"
    )
    assert all(cause in last for cause in USUAL_CAUSES)


@pytest.mark.parametrize("change", [{"images": 49_999}, {"precision": "int8-max"}, {"reference_top1": None}])
def test_what_cannot_be_compared_is_not(change: dict) -> None:
    assert deviations([_row(top1=12.0, **change)]) == []
