"""What the machine refuses the workflow is one line before any job; and what ends it leaves nothing half done."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import check_config
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
    ("refused", "place", "message"),
    [
        (_read_only, ".", "checkout: cannot be written to; run in a copy"),
        (_read_only, "results", "results: cannot be written to"),
        (_full, "results", "results: 0.1 MB are free, too little to begin with; make room for 16 MB"),
        (_small, "results", "results: this run needs about 1"),
    ],
)
def test_no_room_and_no_permission_are_told_before_any_job(
    refused: object, place: str, message: str, workflow: Workflow
) -> None:
    (workflow.root / "results").mkdir()
    workflow.configure({"models": {"mnasnet0_5": {}}})
    with refused(workflow.root / place):  # type: ignore[operator]
        done = workflow.call()
    assert done.returncode == 2 and message in done.stdout
    assert "Traceback" not in done.stdout and done.stdout.count("mnasbench: error") == 1
    assert list((workflow.root / "results").iterdir()) == []


_LAUGHS = "".join(f"a{level}: &a{level} [{f'*a{level - 1}, ' * 10}]\n" for level in range(1, 10))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("models: 3", "models: 3 is not of type 'object'"),
        ("models: [mnasnet0_5]", "models: ['mnasnet0_5'] is not of type 'object'"),
        ("models: {all: {name: mnasnet0_5}}", "models.all: is the name of a step of the workflow"),
        ("models: {summarize: {name: mnasnet0_5}}", "models.summarize: is the name of a step of the workflow"),
        ("models: {mnasnet0_5: 3}", "models.mnasnet0_5: 3 is not of type 'object'"),
        ("models: {mnasnet0_5: {}}\nshards: 1\nshards: 2", "test.yaml: is not valid YAML (key 'shards' stands twice"),
        (f"models: {{mnasnet0_5: {{}}}}\na0: &a0 [ha]\n{_LAUGHS}", "aliases (*name) are not accepted"),
    ],
)
def test_a_configuration_that_is_none_is_one_line(content: str, message: str, workflow: Workflow) -> None:
    (workflow.root / "test.yaml").write_text(content)
    done = workflow.call("--dry-run")
    ours = [line for line in done.stdout.splitlines() if line.startswith("mnasbench: error in the configuration: ")]
    assert done.returncode == 2 and len(ours) == 1 and message in ours[0], done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no settings"),
        (b"- a\n", "holds no settings"),
        (b"just words", "holds no settings"),
        (b"models: {a: \xff}", "is not UTF-8 text"),
        (b"models: {a", "is not valid YAML"),
        (b"models: !!bool x", "is not valid YAML"),
        (b"models: " + b"{a: " * 3000, "is not valid YAML"),
        (b"#" + b"x" * 2_000_000, "it has more than 1048576 bytes"),
        (None, "cannot be read (Not a regular file)"),
    ],
)
def test_what_snakemake_could_not_read_is_told_before_it_begins(
    content: bytes | None,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    file = tmp_path / "config/config.yaml"
    file.write_bytes(content) if content is not None else os.mkfifo(file)
    assert check_config.main(["--files_only"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_home_without_room_for_snakemakes_cache_is_told(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository)
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert check_config.main(["--files_only"]) == 2
    assert "/dev/null/snakemake: cannot be made (Not a directory)" in capsys.readouterr().err


@pytest.mark.parametrize("cores", [0, -1])
def test_a_run_on_no_cores_is_refused_and_does_not_wait_for_ever(cores: int, workflow: Workflow) -> None:
    workflow.configure({"models": {"mnasnet0_5": {}}})
    done = workflow.call(cores=cores)
    assert done.returncode == 2 and f"mnasbench: error: --cores {cores}: expected a number of cores" in done.stdout
    assert "Traceback" not in done.stdout and not (workflow.root / "results/data").exists()
    assert workflow.call("--dry-run", cores=cores).returncode == 0


def test_a_results_folder_that_is_a_link_to_nothing_is_one_line(workflow: Workflow) -> None:
    workflow.configure({"models": {"mnasnet0_5": {}}})
    (workflow.root / "results").symlink_to("nowhere")
    done = workflow.call("--dry-run")
    assert done.returncode == 2 and "nowhere: cannot be written to" in done.stdout
    assert "Traceback" not in done.stdout and done.stdout.count("mnasbench: error") == 1


def test_a_checkout_that_another_ones_python_runs_is_told(workflow: Workflow, repository: Path) -> None:
    workflow.configure({"models": {"mnasnet0_5": {}}})
    workflow.environment["PYTHONPATH"] = str(repository / "workflow")
    done = workflow.call("--dry-run")
    assert done.returncode == 2 and "belongs to another checkout than the mnasbench of this Python" in done.stdout
    assert "Traceback" not in done.stdout and done.stdout.count("mnasbench: error") == 1


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
