"""The chain through a real SLURM: a killed job is tried again, and the numbers are those of a local run."""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from checkout import make_workflow
from mnasbench.plan.estimate import recorded_jobs
from small_case import ODD_ON_CLUSTER, prepare, untimed_results


def _sbatch_comment(rule: str) -> str:
    """SLURM's job number of the first job of a rule that runs; Snakemake names the rule in the job's comment."""
    done = subprocess.run(["squeue", "--noheader", "--format=%i %T %k"], capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        number, state, comment = line.split(maxsplit=2)
        if state == "RUNNING" and rule in comment:
            return number
    return ""


@pytest.mark.usefixtures("slurm")
def test_the_chain_runs_on_slurm_and_survives_a_killed_job(repository: Path, tmp_path: Path) -> None:
    workflow = make_workflow(repository, tmp_path / "checkout")
    prepare(workflow, tmp_path, odd=ODD_ON_CLUSTER, shards=2)
    command = ["python", "-m", "snakemake", "--profile", "profiles/slurm", "--configfile", "test.yaml", "--nocolor"]
    # No accounting database; and the node pretends to eight cores, of which a measurement gets them all.
    command += ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2"]
    command += ["--slurm-no-account", "--seconds-between-status-checks", "3", "--latency-wait", "10"]
    log = tmp_path / "slurm-run.log"
    with log.open("wb") as stream:
        run = subprocess.Popen(
            command, cwd=workflow.root, env=workflow.environment, stdout=stream, stderr=subprocess.STDOUT
        )
    try:
        killed = ""
        deadline = time.monotonic() + 600
        while run.poll() is None and time.monotonic() < deadline:
            # Not before the step itself is at work: its log is there.
            at_work = any((workflow.root / "results/logs/model").glob("export_model*.log"))
            if not killed and at_work and (killed := _sbatch_comment("export_model")):
                subprocess.run(["scancel", "--signal=KILL", "--full", killed], check=True)
            time.sleep(0.2)
    finally:
        if run.poll() is None:
            run.kill()
            run.wait()
    said = log.read_text()
    if "SLURM_TEST_LOG" in os.environ:
        Path(os.environ["SLURM_TEST_LOG"]).write_text(said)
    assert run.returncode == 0, said[-5000:]
    assert killed, "no job of export_model was seen running"
    assert re.search(r"[Tt]rying to restart", said), said[-5000:]
    _measured_alone()
    _got_what_they_used(workflow.root / "results")
    assert workflow.planned() == {}

    local = make_workflow(repository, tmp_path / "local")
    (local.root / "test.yaml").write_text((workflow.root / "test.yaml").read_text())
    local.run()
    assert untimed_results(workflow.root / "results") == untimed_results(local.root / "results")


def _jobs() -> list[str]:
    """What SLURM remembers of its jobs, a line each."""
    done = subprocess.run(["scontrol", "--oneliner", "show", "job"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def _measured_alone() -> None:
    """Measurements asked for their node alone."""
    jobs = [line for line in _jobs() if "measure_performance" in line]
    assert len(jobs) == 2
    assert all("OverSubscribe=NO" in line for line in jobs)
    others = [line for line in _jobs() if "run_accuracy" in line]
    assert others and all("OverSubscribe=OK" in line for line in others)


def _got_what_they_used(results: Path) -> None:
    """Jobs asked for the memory, the time and the cores that their receipts say they took, at least."""
    asked: dict[str, tuple[float, float, int]] = {}
    for line in _jobs():
        rule = re.search(r"Comment=rule_(\w+?)(?:_wildcards| )", line)
        memory, minutes = re.search(r"MinMemoryNode=(\d+)M", line), re.search(r"TimeLimit=00:(\d+):00", line)
        cores = re.search(r"CPUs/Task=(\d+)", line)
        assert rule and memory and minutes and cores, line
        found = (float(memory[1]) * 1e6, float(minutes[1]) * 60, int(cores[1]))
        asked[rule[1]] = min(found, asked.get(rule[1], found))
    submitted = [job for job in recorded_jobs(results).values() if job.time.rule in asked]
    assert {job.time.rule for job in submitted} == set(asked) and len(asked) > 6
    for job in submitted:
        used = (job.time.peak_bytes, job.time.seconds, job.plan.threads)
        assert all(most >= one for most, one in zip(asked[job.time.rule], used, strict=True)), job
