"""Bars on a terminal, lines in a step of the workflow, nothing elsewhere; and colours on terminals only."""

import json
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import pytest

LOOP = """
import sys, time
from mnasbench.commands.progress import Shown
Shown().step("laying out")
for _ in Shown().loop("drawing", range(30), 30):
    time.sleep(0.13)
"""


def _on_a_terminal(command: list[str], environment: dict[str, str]) -> str:
    """What a command writes to a terminal of its own."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    child = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    said = b""
    try:
        while piece := os.read(ours, 65536):
            said += piece
    except OSError:  # Linux's word for a terminal that nobody holds any more
        pass
    os.close(ours)
    assert child.wait() == 0
    return said.decode()


def _record(folder: Path, repository: Path, command: list[str]) -> list[str]:
    arguments = ["--receipt", str(folder / "r.receipt.json"), "--settings", "{}", "--code", "0"]
    arguments += ["--log", str(folder / "make_demo-x.log")]
    return [sys.executable, str(repository / "workflow/scripts/record.py"), *arguments, "--", *command]


@pytest.fixture
def environment(repository: Path) -> dict[str, str]:
    """The scripts on the path, no colour chosen either way."""
    paths = [str(repository / "workflow"), str(repository / "workflow/scripts")]
    kept = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "MNASBENCH_PROGRESS"}}
    return kept | {"PYTHONPATH": os.pathsep.join(paths)}


def test_a_terminal_shows_a_bar_with_rate_and_time_left(environment: dict[str, str]) -> None:
    said = _on_a_terminal([sys.executable, "-c", LOOP], environment)
    assert "laying out" in said
    assert re.search(r"drawing: +\d+%.*\d+/30 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+ images/s\]", said)


def test_without_a_terminal_nothing_is_said(environment: dict[str, str]) -> None:
    done = subprocess.run([sys.executable, "-c", LOOP], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_a_step_of_the_workflow_says_lines_on_a_terminal_and_its_log_stays_clean(
    tmp_path: Path, repository: Path, environment: dict[str, str]
) -> None:
    command = _record(tmp_path, repository, [sys.executable, "-c", LOOP])
    said = _on_a_terminal(command, environment)
    assert re.search(r"make_demo-x: drawing, \d+ of 30 images, [\d.]+ a second, 00:0\d left", said)
    assert re.search(r"make_demo-x: \d+\.\d s", said)
    assert (tmp_path / "make_demo-x.log").read_text() == ""
    assert json.loads((tmp_path / "r.receipt.json").read_text())["rule"] == "make_demo"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"make_demo-x: \d+\.\d s\n", done.stdout + done.stderr)


def test_a_step_that_says_nothing_is_said_to_run(tmp_path: Path, repository: Path, environment: dict[str, str]) -> None:
    said = _on_a_terminal(_record(tmp_path, repository, ["sleep", "2.5"]), environment)
    assert "make_demo-x: running" in said and "make_demo-x: 2.5 s" in said


@pytest.mark.parametrize(
    ("variable", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)]
)
def test_no_color_is_obeyed(environment: dict[str, str], variable: dict[str, str], is_coloured: bool) -> None:
    program = "import sys; from mnasbench.commands.colour import coloured; print(coloured('failed', 'red', sys.stdout))"
    said = _on_a_terminal([sys.executable, "-c", program], environment | variable)
    assert ("\x1b[31m" in said) == is_coloured and "failed" in said
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "failed\n"


def test_a_secret_of_the_environment_reaches_neither_receipt_nor_log(
    tmp_path: Path, repository: Path, environment: dict[str, str]
) -> None:
    secret = "hunter2-4711"
    command = _record(tmp_path, repository, [sys.executable, "-c", "print('done')"])
    subprocess.run(command, env=environment | {"API_TOKEN": secret}, cwd=tmp_path, check=True, capture_output=True)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert (tmp_path / "r.receipt.json") in written
    assert not any(secret.encode() in path.read_bytes() for path in written)
