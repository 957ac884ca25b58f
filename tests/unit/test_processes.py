"""A process that ended is told from one that lives, and a lock goes with its holder."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mnasbench.processes import former_holder, is_gone, sign, take, this_process

HOLD = "import sys, time, pathlib; from mnasbench.processes import sign, take; p = pathlib.Path(sys.argv[1])\nassert take(p) is None; sign(p); print('held', flush=True); time.sleep(600)"


def test_a_lock_goes_with_the_process_that_held_it(tmp_path: Path, repository: Path) -> None:
    lock = tmp_path / "a" / "lock"
    environment = os.environ | {"PYTHONPATH": str(repository / "workflow")}
    holder = subprocess.Popen([sys.executable, "-c", HOLD, lock], stdout=subprocess.PIPE, env=environment)
    try:
        assert holder.stdout.readline() == b"held\n"
        name = former_holder(lock)
        assert name.split(":")[1] == str(holder.pid)
        assert take(lock) == name
        assert not is_gone(name)
    finally:
        holder.kill()
        holder.wait()
    assert is_gone(name)
    assert take(lock) is None
    sign(lock)
    assert former_holder(lock) == this_process()


def test_what_cannot_be_known_is_not_gone() -> None:
    host, pid, start = this_process().split(":")
    assert not is_gone(this_process())
    assert not is_gone(f"elsewhere:{pid}:{start}")
    assert not is_gone("")
    assert is_gone(f"{host}:{pid}:1")  # the number was used again


POOL = """
import sys, time
from mnasbench.data.parallel import map_in_processes
def wait(number):
    print(number, flush=True)
    time.sleep(600)
list(map_in_processes(wait, range(64), workers=2))
"""
STEP = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"


@pytest.mark.parametrize("kind", ["a step", "workers"])
def test_what_works_for_a_killed_process_ends_with_it(tmp_path: Path, repository: Path, kind: str) -> None:
    scripts = repository / "workflow/scripts"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(repository / "workflow"), str(scripts)])}
    command = [sys.executable, "-c", POOL]
    if kind == "a step":
        log = tmp_path / "wait.log"
        command = [
            sys.executable,
            str(scripts / "record.py"),
            "--receipt",
            str(tmp_path / "r.json"),
            "--settings",
            "{}",
        ]
        command += ["--code", "0", "--log", str(log), "--", sys.executable, "-c", STEP]
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(command, env=environment, stdout=said)
    started = log if kind == "a step" else tmp_path / "said"
    while not (started.is_file() and started.read_text().strip()):
        assert process.poll() is None
        time.sleep(0.05)
    below = psutil.Process(process.pid).children(recursive=True)
    try:
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(below, timeout=10)
        assert below and not alive
    finally:
        for child in below:
            if child.is_running():
                child.kill()
