"""How long a run will take, from the receipts of earlier ones."""

from pathlib import Path

from mnasbench.result.times import JobTime, PlannedJob, duration, estimate, job_times


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
