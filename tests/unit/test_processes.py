"""A process that ended is told from one that lives, and a lock goes with its holder."""

import os
import subprocess
import sys
from pathlib import Path

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
