"""What the machine refuses the workflow is one line before any job; and what ends it leaves nothing half done."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from checkout import Workflow
from small_case import prepare


@contextmanager
def _mounted(place: Path, *options: str) -> Iterator[None]:
    done = subprocess.run(["mount", *options, str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here ({done.stderr.strip()})")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def _read_only(place: Path) -> Iterator[None]:
    with _mounted(place, "--bind", str(place)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        yield


@contextmanager
def _full(place: Path) -> Iterator[None]:
    with _mounted(place, "-t", "tmpfs", "-o", "size=64k", "tmpfs"):
        yield


@contextmanager
def _small(place: Path) -> Iterator[None]:
    with _mounted(place, "-t", "tmpfs", "-o", "size=100m", "tmpfs"):
        yield


@pytest.mark.parametrize(
    ("refused", "place", "told"),
    [
        (_read_only, ".", "checkout: cannot be written to; run in a copy"),
        (_read_only, "results", "results: cannot be written to"),
        (_full, "results", "results: 0.1 MB are free, too little to begin with; make room for 16 MB"),
        (_small, "results", "results: this run needs about 0.2 GB there for a file for each picture, but 0.1 GB are"),
    ],
)
def test_no_room_and_no_permission_are_told_before_any_job(
    refused: object, place: str, told: str, workflow: Workflow
) -> None:
    (workflow.root / "results").mkdir()
    workflow.configure({"models": {"mnasnet0_5": {}}})
    with refused(workflow.root / place):  # type: ignore[operator]
        done = workflow.call()
    assert done.returncode == 2 and told in done.stdout
    assert "Traceback" not in done.stdout and done.stdout.count("mnasbench: error") == 1
    assert list((workflow.root / "results").iterdir()) == []


_LAUGHS = "".join(f"a{level}: &a{level} [{f'*a{level - 1}, ' * 10}]\n" for level in range(1, 10))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("models: 3", "models: 3 is not of type 'object'"),
        ("models: [mnasnet0_5]", "models: ['mnasnet0_5'] is not of type 'object'"),
        ("models: {mnasnet0_5: 3}", "models.mnasnet0_5: 3 is not of type 'object'"),
        ("models: {mnasnet0_5: {}}\nshards: 1\nshards: 2", "test.yaml: is not valid YAML (key 'shards' stands twice"),
        (f"models: {{mnasnet0_5: {{}}}}\na0: &a0 [ha]\n{_LAUGHS}", "aliases (*name) are not accepted"),
    ],
)
def test_a_configuration_that_is_none_is_one_line(content: str, told: str, workflow: Workflow) -> None:
    (workflow.root / "test.yaml").write_text(content)
    done = workflow.call("--dry-run")
    ours = [line for line in done.stdout.splitlines() if line.startswith("mnasbench: error in the configuration: ")]
    assert done.returncode == 2 and len(ours) == 1 and told in ours[0], done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_and_leaves_nothing_half_done(
    number: signal.Signals, workflow: Workflow, tmp_path: Path
) -> None:
    prepare(workflow, tmp_path, precisions=["fp32"])
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "test.yaml", "--nocolor"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    run = subprocess.Popen(command, cwd=workflow.root, env=workflow.environment, **streams)
    assert run.stdout is not None
    for line in run.stdout:
        if " steps (" in line:
            break
    # A terminal signals the whole group, a supervisor Snakemake alone.
    os.killpg(run.pid, number) if number == signal.SIGINT else run.send_signal(number)
    said, _ = run.communicate(timeout=120)
    assert run.returncode != 0
    assert "Traceback" not in said, said
    assert "Terminating processes" in said or "Will exit after finishing" in said
    assert list((workflow.root / ".snakemake").glob("locks/*")) == []
    assert list((workflow.root / "results").rglob(".new-*")) == []
    assert workflow.planned() != {}
