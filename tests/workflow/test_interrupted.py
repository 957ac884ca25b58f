"""kill -9 at random moments, of Snakemake or of a job: the next call finishes, and the numbers are the same."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from checkout import Workflow, make_workflow
from small_case import prepare, untimed_results

# Every run draws its own moments; the seed is printed, and MNASBENCH_SEED repeats it. MNASBENCH_KILLS: how many.
KILLS = int(os.environ.get("MNASBENCH_KILLS", "3"))


def _start(workflow: Workflow) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "test.yaml", "--nocolor"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=workflow.root, env=workflow.environment, **streams)


def _kill(run: subprocess.Popen[str], draw: random.Random) -> str:
    """Kill Snakemake or one of the processes below it; says which."""
    if draw.random() < 0.5:
        run.kill()
        return "Snakemake"
    below = psutil.Process(run.pid).children(recursive=True)
    steps = [process for process in below if process.is_running()]
    if not steps:
        run.kill()
        return "Snakemake, as no job ran"
    victim = draw.choice(steps)
    victim.send_signal(signal.SIGKILL)
    return f"a job's process {victim.pid}"


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
            # All was done already; begin anew, so that every kill hits something.
            subprocess.run(["rm", "-r", str(disturbed.root / "results")], check=True)
            run = _start(disturbed)
            time.sleep(8)
        if kill == 0:
            second = disturbed.call()
            assert second.returncode != 0
            assert "Another run works on" in second.stdout, second.stdout[-3000:]
        if run.poll() is None:
            print(_kill(run, draw))
        run.communicate()
    said = disturbed.run()
    assert untimed_results(disturbed.root / "results") == wanted, said[-2000:]
    assert disturbed.planned() == {}
