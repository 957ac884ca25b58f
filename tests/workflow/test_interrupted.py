"""kill -9 at random moments, of Snakemake or of a job, or power off: the next call finishes with the same numbers."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from checkout import Workflow, make_workflow
from mnasbench.receipts import RECEIPT_SUFFIX
from small_case import prepare, untimed_results

# Every run draws its own moments; the seed is printed, and MNASBENCH_SEED repeats it. MNASBENCH_KILLS: how many.
KILLS = int(os.environ.get("MNASBENCH_KILLS", "3"))


def _start(workflow: Workflow) -> subprocess.Popen[str]:
    # By a file: every target must find the lock of every other.
    command = [sys.executable, "-m", "snakemake", "results/report.html", "--cores", "2"]
    command += ["--configfile", "test.yaml", "--nocolor"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=workflow.root, env=workflow.environment, **streams)


def _wait_for_locks(root: Path) -> list[Path]:
    """Snakemake's own locks, once it has planned."""
    for _ in range(600):
        locks = list((root / ".snakemake/locks").glob("*.lock"))
        if locks:
            return locks
        time.sleep(0.2)
    raise AssertionError("the run made no lock")


def _kill(run: subprocess.Popen[str], root: Path, draw: random.Random) -> str:
    """Kill Snakemake, one of the processes below it, or all as a power cut does; says which."""
    below = psutil.Process(run.pid).children(recursive=True)
    match draw.randrange(3):
        case 0:
            run.kill()
            return "Snakemake"
        case 1:
            for process in (run, *below):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            run.wait()
            psutil.wait_procs(below)
            return f"power off, {_lose_what_is_not_on_disk(root, draw)} files empty"
    steps = [process for process in below if process.is_running()]
    if not steps:
        run.kill()
        return "Snakemake, as no job ran"
    victim = draw.choice(steps)
    victim.send_signal(signal.SIGKILL)
    return f"a job's process {victim.pid}"


def _lose_what_is_not_on_disk(root: Path, draw: random.Random) -> int:
    """Empty some of the latest files, as a power cut does, but for those that are flushed to disk; says how many."""
    flushed = {root / ".snakemake/mnasbench.lock"}
    for receipt in (root / "results").rglob(f"*{RECEIPT_SUFFIX}"):
        with contextlib.suppress(ValueError):  # emptied before
            flushed |= {root / name for name in json.loads(receipt.read_text())["outputs"]}
    latest = time.time() - 30  # seconds after which Linux has written a file by itself
    files = [path for folder in ("results", ".snakemake") for path in (root / folder).rglob("*") if path.is_file()]
    lost = [path for path in files if path not in flushed and path.stat().st_mtime > latest and draw.random() < 0.5]
    for path in lost:
        path.write_bytes(b"")
    return len(lost)


def test_a_killed_run_is_finished_by_the_next(repository: Path, tmp_path: Path) -> None:
    seed = int(os.environ.get("MNASBENCH_SEED", random.randrange(10**6)))
    print(f"MNASBENCH_SEED={seed}")
    draw = random.Random(seed)
    undisturbed = make_workflow(repository, tmp_path / "undisturbed")
    prepare(undisturbed, tmp_path, shards=2)
    undisturbed.run()
    wanted = untimed_results(undisturbed.root / "results")

    disturbed = make_workflow(repository, tmp_path / "disturbed")
    (disturbed.root / "test.yaml").write_text((undisturbed.root / "test.yaml").read_text())
    for kill in range(KILLS):
        run = _start(disturbed)
        time.sleep(4 + draw.random() * 10)
        if run.poll() is not None:
            said, _ = run.communicate()
            assert run.returncode == 0, said[-3000:]
            # All was done already; begin anew, so that every kill hits something.
            subprocess.run(["rm", "-r", str(disturbed.root / "results")], check=True)
            run = _start(disturbed)
            time.sleep(8)
        if kill == 0:
            locks = _wait_for_locks(disturbed.root)
            for targets in [], ["results/report.html"]:
                second = disturbed.call(*targets)
                assert second.returncode == 1
                assert "mnasbench: error: Another run works on" in second.stdout, second.stdout[-3000:]
            assert set(locks) <= set((disturbed.root / ".snakemake/locks").iterdir())
        if run.poll() is None:
            print(_kill(run, disturbed.root, draw))
        run.communicate()
    said = disturbed.run()
    assert untimed_results(disturbed.root / "results") == wanted, said[-2000:]
    assert disturbed.planned() == {}
