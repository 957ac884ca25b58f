"""Where a run's time went, and how long the next will take, from the receipts of earlier ones."""

import json
from pathlib import Path

import pytest

from mnasbench.plan.estimate import (
    PlannedJob,
    duration,
    estimate,
    held_seconds,
    longest_chain,
    makespan,
    recorded_jobs,
    wall_seconds,
)
from mnasbench.result.times import JobTime, find_receipts, job_times


def _planned(rule: str, needs: tuple[str, ...] = (), threads: int = 1, name: str = "") -> PlannedJob:
    return PlannedJob(rule, Path(f"{name or rule}.receipt.json"), threads, needs)


def _took(rule: str, seconds: float, name: str = "") -> JobTime:
    return JobTime(Path(f"{name or rule}.receipt.json"), rule, seconds, seconds, 0)


def test_jobs_run_side_by_side_where_cores_and_inputs_allow() -> None:
    planned = {
        "draw": _planned("draw"),
        "train": _planned("train", ("draw",)),
        "list": _planned("list", ("draw",)),
        "measure": _planned("measure", ("train", "list"), threads=8),
        "all": PlannedJob("all", None, 1, ("measure",)),
    }
    earlier = [_took("draw", 5), _took("train", 60), _took("list", 10), _took("measure", 30)]
    # On two cores the list is made while the net is trained; the measurement takes all cores that there are.
    assert estimate(planned, earlier, 2).seconds == 5 + 60 + 30
    assert estimate(planned, earlier, 1).seconds == 5 + 60 + 10 + 30


def test_a_measurement_of_all_cores_waits_for_the_others() -> None:
    planned = {"a": _planned("a"), "b": _planned("b"), "all cores": _planned("c", threads=2)}
    assert estimate(planned, [_took("a", 10), _took("b", 4), _took("c", 3)], 2).seconds == 10 + 3


def test_a_job_that_never_ran_takes_what_others_of_its_rule_took() -> None:
    planned = {"x": _planned("build", name="x"), "y": _planned("build", name="y")}
    earlier = [_took("build", 10, "x"), _took("build", 20, "z")]
    assert estimate(planned, earlier, 1).seconds == 10 + 15


def test_what_is_not_known_is_named_and_never_guessed() -> None:
    planned = {"draw": _planned("draw"), "train": _planned("train", ("draw",))}
    assert estimate(planned, [], 2).seconds is None
    found = estimate(planned, [_took("draw", 5)], 2)
    assert (found.seconds, found.unknown) == (5, ("train",))
    assert estimate({"all": PlannedJob("all", None, 1, ())}, [], 2).seconds == 0


def test_an_unreadable_receipt_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.receipt.json").write_text("{")
    assert job_times([tmp_path / "a.receipt.json"]) == []


def test_durations_as_people_say_them() -> None:
    assert [duration(value) for value in (0.4, 89, 90, 300, 5399, 7800)] == [
        "0 s",
        "89 s",
        "2 min",
        "5 min",
        "1 h 30 min",
        "2 h 10 min",
    ]


def _record(results: Path, name: str, begin: int, seconds: float, inputs: list[str], outputs: list[str]) -> None:
    path = results / f"{name}.receipt.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"rule": name.partition("/")[0], "inputs": dict.fromkeys(inputs), "outputs": dict.fromkeys(outputs)}
    content |= {"folders": {}, "started": f"2026-01-02T03:04:{begin:02}.000+00:00", "seconds": seconds}
    path.write_text(json.dumps(content | {"cpu_seconds": seconds, "peak_bytes": 1, "threads": 2 if seconds > 9 else 1}))


def test_a_finished_run_is_read_back_with_what_needed_what(tmp_path: Path) -> None:
    results = tmp_path / "elsewhere"
    _record(results, "draw/0", 1, 4, ["/somewhere/image"], ["results/draw/a"])
    _record(results, "list/0", 1, 3, [], ["results/list/b"])
    _record(results, "train/0", 6, 10, ["results/draw/a"], ["results/train/c"])
    _record(results, "run/0", 17, 2, ["results/train/train.receipt.json", "results/train/0.receipt.json"], [])
    _record(results, "run/outputs/x", 0, 60, [], [])  # a job fills this folder; no receipt is looked for in it
    found = recorded_jobs(results)
    assert [job.relative_to(results).as_posix() for job in find_receipts(results)] == [
        f"{name}/0.receipt.json" for name in ("draw", "list", "run", "train")
    ]
    key = {job.time.rule: receipt for receipt, job in found.items()}
    assert {rule: found[receipt].plan.needs for rule, receipt in key.items()} == {
        "draw": set(),
        "list": set(),
        "train": {key["draw"]},
        "run": {key["train"]},
    }
    assert wall_seconds(found.values()) == 18
    plans = {receipt: job.plan for receipt, job in found.items()}
    seconds = {receipt: job.time.seconds for receipt, job in found.items()}
    assert [found[receipt].time.rule for receipt in longest_chain(plans, seconds)] == ["draw", "train", "run"]
    assert held_seconds(plans, seconds, 2) == pytest.approx((4 + 3 + 2 + 2 * 10) / 2)
    assert held_seconds(plans, seconds, 1) == pytest.approx(4 + 3 + 2 + 10)
    assert makespan(plans, seconds, 2) == 16
    assert recorded_jobs(tmp_path / "nowhere") == {} and wall_seconds([]) == 0
