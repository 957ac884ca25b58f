"""One run holds the results; what a killed one left is removed, what a live one holds is not."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnasbench.errors import RunningError
from mnasbench.plan import names
from mnasbench.plan.run_lock import hold_results
from mnasbench.processes import former_holder, this_process

HOLD = "import sys; from mnasbench.plan.run_lock import hold_results; hold_results(); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mnasbench.processes._held", [])
    (tmp_path / ".snakemake/locks").mkdir(parents=True)
    yield tmp_path


def _other(place: Path) -> subprocess.Popen[str]:
    run = subprocess.Popen(
        [sys.executable, "-c", HOLD], cwd=place, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None and run.stdout.readline() == "held\n"
    (place / ".snakemake/locks/0.input.lock").write_text("a\n")
    return run


def test_a_live_run_is_left_alone(place: Path) -> None:
    other = _other(place)
    try:
        with pytest.raises(RunningError, match=rf"Another run works on .*results \(process .*:{other.pid}:"):
            hold_results()
        assert (place / ".snakemake/locks/0.input.lock").is_file()
    finally:
        other.communicate()


def test_the_lock_of_a_killed_run_is_removed(place: Path) -> None:
    other = _other(place)
    other.kill()
    other.communicate()
    assert hold_results()
    assert list((place / ".snakemake/locks").iterdir()) == []
    assert former_holder(names.LOCK) == this_process()


def test_a_lock_that_nobody_signed_is_somebodys(place: Path) -> None:
    (place / ".snakemake/locks/0.input.lock").write_text("a\n")
    assert not hold_results()
    assert (place / ".snakemake/locks/0.input.lock").is_file()
