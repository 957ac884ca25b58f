"""How long a run takes on 1 to 64 nodes, predicted from the receipts of runs that were made.

A job costs a + b x images core-seconds, by least squares over the jobs of its rule and row in all results folders
given; one job that takes several threads is as many times faster as such jobs were seen to be. So give two runs with
shards of different sizes: with one size a and b cannot be told apart, all cost then counts as by image, and large
runs are predicted too slow. A row that only one size was seen of has the constant of its rule's other rows; so a small
run of all variants and precisions is enough to add them to a large run of a few. A table shows all costs. Jobs start
as soon as their inputs and cores are there; a measurement takes a whole node. `--job-seconds` is what comes on top of
each job: record.py and Snakemake, or a cluster's queue.

Each run is then predicted by the others alone, where they have what it takes, and by all of them, and set beside its
wall time: from the first start of a job to the last end. A table shows whether a rule's memory grows with images.

    python benchmarks/scale.py RESULTS [RESULTS...] [--images 50000] [--shards 16] [--node-cores 8]

`benchmarks/imagenet_size.py --keep FOLDER` makes such runs (RESULTS is then FOLDER/cold).
Last line: one JSON object.
"""

import argparse
import json
import re
import sys
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls
from tabulate import tabulate

from mnasbench.files import read_json
from mnasbench.plan.estimate import (
    PlannedJob,
    RecordedJob,
    held_seconds,
    longest_chain,
    makespan,
    recorded_jobs,
    wall_seconds,
)

ALONE = "measure_performance"
# These go through as many images as a setting of theirs says.
SAMPLED = {"check_parity": "parity", "sample_calibration": "calibration"}
BY_SHARD = ("index_shard", "write_npz", "run_accuracy")
BY_ALL = ("index_dataset", "evaluate_outputs")
# Threads that jobs ask for, as workflow/rules says: a number, or one for so many images.
THREADS = {"make_demo": 2, "compile_model": 2}
IMAGES_A_THREAD = {"index_shard": 2000, "write_npz": 2000, "run_accuracy": 2000, "check_parity": 1000}
MOST_THREADS = 16
NODES = (1, 2, 4, 8, 16, 32, 64)
_SHARD = re.compile(r"(?<=[-/])\d+(?=\.receipt\.json$)")


@dataclass(frozen=True)
class Run:
    """A finished run: its jobs by what they are (receipt, a shard's number left out) and shard."""

    results: Path
    jobs: dict[tuple[str, int | None], RecordedJob]
    needs: dict[tuple[str, int | None], set[tuple[str, int | None]]]
    images: int
    shards: int
    cores: int
    samples: dict[str, int | None]

    @classmethod
    def read(cls, results: Path) -> "Run":
        """From the receipts of a results folder."""
        recorded = recorded_jobs(results)
        if not recorded:
            sys.exit(f"{results}: no receipts; name the results folder of a run")
        keys = {receipt: _identity(results, receipt, job.time.rule) for receipt, job in recorded.items()}
        jobs = {keys[receipt]: job for receipt, job in recorded.items()}
        needs = {keys[receipt]: {keys[need] for need in job.plan.needs} for receipt, job in recorded.items()}
        lines = sum(len(file.read_text().splitlines()) - 1 for file in results.glob("data/*/manifests/*.csv"))
        shards = 1 + max((shard for _, shard in jobs if shard is not None), default=0)
        cores = max(job.plan.threads for job in recorded.values() if job.time.rule == ALONE)
        samples = {}
        for receipt, job in recorded.items():
            if (setting := SAMPLED.get(job.time.rule)) is not None:
                samples[job.time.rule] = read_json(Path(str(receipt)))["settings"].get(setting, {}).get("images")
        return cls(results, jobs, needs, lines, shards, cores, samples)

    def count(self, rule: str, images: int, shards: int) -> int:
        """How many images a job of a rule goes through in a run of this size; 0 where that does not matter."""
        if rule in BY_SHARD:
            return -(-images // shards)
        if rule in SAMPLED:
            return min(images, self.samples.get(rule) or images)
        return images if rule in BY_ALL else 0

    def planned(
        self, images: int, shards: int, node_cores: int
    ) -> tuple[dict[Hashable, PlannedJob], dict[Hashable, tuple[str, int]]]:
        """The jobs of a run of this size, and of each what it is and how many images it goes through."""
        plans: dict[Hashable, PlannedJob] = {}
        sizes: dict[Hashable, tuple[str, int]] = {}
        for what, shard in self.jobs:
            if shard not in (None, 0):
                continue
            rule = self.jobs[what, shard].time.rule
            count = self.count(rule, images, shards)
            for number in [None] if shard is None else range(shards):
                needs = self._needs(what, number, shards)
                plans[what, number] = PlannedJob(rule, Path(what), threads(rule, count, node_cores), needs)
                sizes[what, number] = (what, count)
        return plans, sizes

    def _needs(self, what: str, number: int | None, shards: int) -> set[Hashable]:
        needs: set[Hashable] = set()
        here = self.needs[what, None if number is None else 0]
        for other, shard in here:
            if shard is None:
                needs.add((other, None))
            elif number is not None:
                needs.add((other, number))
            elif self.shards > 1 and (other, 1) not in here:  # of one shard, as a measurement's images
                needs.add((other, shard))
            else:
                needs.update((other, each) for each in range(shards))
        return needs


def _identity(results: Path, receipt: Hashable, rule: str) -> tuple[str, int | None]:
    name = Path(str(receipt)).relative_to(results).as_posix()
    shard = _SHARD.search(name) if rule in BY_SHARD else None
    return (_SHARD.sub("#", name), int(shard[0])) if shard else (name, None)


def threads(rule: str, count: int, cores: int) -> int:
    """Threads of a job on a node."""
    if rule == ALONE:
        return cores
    if rule in IMAGES_A_THREAD:
        return max(1, min(MOST_THREADS, cores, count // IMAGES_A_THREAD[rule]))
    return min(THREADS.get(rule, 1), cores)


class Costs:
    """Core-seconds of a job: constant and per image; and how much faster threads make it."""

    def __init__(self, runs: Iterable[Run]) -> None:
        points: dict[str, list[tuple[int, float]]] = {}
        speedups: dict[str, list[float]] = {}
        self.rules: dict[str, str] = {}
        for run in runs:
            for (what, _), job in run.jobs.items():
                rule, time, held = job.time.rule, job.time, job.plan.threads
                self.rules[what] = rule
                several = held > 1 and rule != ALONE
                cost = max(time.seconds, time.cpu_seconds) if several else time.seconds
                points.setdefault(what, []).append((run.count(rule, run.images, run.shards), cost))
                if several:
                    speedups.setdefault(rule, []).append(cost / time.seconds / held)
        by_rule: dict[str, list[float]] = {}
        for what, measured in points.items():
            if _is_by_size(measured):
                by_rule.setdefault(self.rules[what], []).append(_fit(measured)[0])
        constants = {rule: float(np.median(measured)) for rule, measured in by_rule.items()}
        self.fitted = {
            what: _fit(measured)
            if _is_by_size(measured)
            else _fit_slope(measured, constants.get(self.rules[what], 0.0))
            for what, measured in points.items()
        }
        self._efficiency = {rule: float(np.mean(measured)) for rule, measured in speedups.items()}

    def knows(self, what: Collection[str]) -> bool:
        """Whether all these kinds of jobs were seen."""
        return set(what) <= set(self.fitted)

    def seconds(self, what: str, count: int, plan: PlannedJob) -> float:
        """Wall seconds of a job."""
        constant, slope = self.fitted[what]
        cost = constant + slope * count
        if plan.threads == 1 or plan.rule == ALONE:
            return cost
        return cost / max(1.0, plan.threads * self._efficiency.get(plan.rule, 1.0))

    def table(self) -> str:
        """The costs of each rule, from the cheapest row to the dearest, and of its threads."""
        rows = []
        for rule in dict.fromkeys(self.rules.values()):
            fits = [self.fitted[what] for what, of in self.rules.items() if of == rule]
            efficiency = f"{self._efficiency[rule]:.2f}" if rule in self._efficiency else "-"
            constants, slopes = zip(*fits, strict=True)
            rows.append(
                (rule, len(fits), _span(constants, "{:.1f}"), _span([1000 * b for b in slopes], "{:.2f}"), efficiency)
            )
        headers = ("rule", "kinds", "seconds", "core-ms an image", "of a thread")
        return tabulate(rows, headers, colalign=("left", *["right"] * 4), disable_numparse=True)


def _span(values: Sequence[float], form: str) -> str:
    low, high = (form.format(value) for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _is_by_size(measured: Sequence[tuple[int, float]]) -> bool:
    return len({count for count, _ in measured}) > 1


def _fit_slope(measured: Sequence[tuple[int, float]], constant: float) -> tuple[float, float]:
    """The cost by image beside a constant that is known, or at most all of what was seen."""
    count, cost = measured[0][0], float(np.mean([cost for _, cost in measured]))
    if not count:
        return cost, 0.0
    constant = min(constant, cost)
    return constant, (cost - constant) / count


def _fit(measured: Sequence[tuple[int, float]]) -> tuple[float, float]:
    count, cost = np.array(measured, dtype=float).T
    # By relative error: the small sizes say what the constant is. Neither part can be negative.
    columns = np.stack([np.ones_like(count), count], axis=1) / cost[:, None]
    constant, slope = nnls(columns, np.ones_like(cost))[0]
    return float(constant), float(slope)


@dataclass(frozen=True)
class Prediction:
    """Wall seconds, and what they are bounded by: seconds by rule of the longest chain, or of the cores held."""

    seconds: float
    chain: dict[str, float]
    held: dict[str, float]

    @property
    def bound(self) -> str:
        """The greater bound and the two rules that most of it is spent in."""
        bound = max(("chain", self.chain), ("cores", self.held), key=lambda entry: sum(entry[1].values()))
        most = sorted(bound[1].items(), key=lambda entry: -entry[1])[:2]
        return f"{bound[0]} {sum(bound[1].values()):.0f} s: " + ", ".join(f"{rule} {s:.0f}" for rule, s in most)


def predict(
    run: Run, costs: Costs, images: int, shards: int, nodes: int, node_cores: int, job_seconds: float
) -> Prediction:
    """A run of this size on ``nodes`` of ``node_cores``, with the rows of ``run``."""
    plans, sizes = run.planned(images, shards, node_cores)
    seconds = {key: job_seconds + costs.seconds(*sizes[key], plan) for key, plan in plans.items()}
    chain: dict[str, float] = {}
    for key in longest_chain(plans, seconds):
        chain[plans[key].rule] = chain.get(plans[key].rule, 0.0) + seconds[key]
    cores = nodes * node_cores
    held: dict[str, float] = {}
    for key, plan in plans.items():
        held[plan.rule] = held.get(plan.rule, 0.0) + held_seconds({key: plan}, seconds, cores)
    return Prediction(makespan(plans, seconds, cores), chain, held)


def checks(runs: Sequence[Run], job_seconds: float) -> list[dict[str, Any]]:
    """Each run's wall time beside its predictions."""
    entries = []
    for run in runs:
        size = (run.images, run.shards, 1, run.cores, job_seconds)
        others = Costs(other for other in runs if other is not run)
        entry: dict[str, Any] = {
            "images": run.images,
            "shards": run.shards,
            "cores": run.cores,
            "measured_s": round(wall_seconds(run.jobs.values()), 1),
            "by_others_s": None,
            "by_all_s": round(predict(run, Costs(runs), *size).seconds, 1),
        }
        if len(runs) > 1 and others.knows({what for what, _ in run.jobs}):
            entry["by_others_s"] = round(predict(run, others, *size).seconds, 1)
        entries.append(entry)
    return entries


def memory_table(runs: Sequence[Run]) -> str:
    """Peak memory of each rule's largest job, a column for each run."""
    rules = dict.fromkeys(job.time.rule for run in runs for job in run.jobs.values())
    rows = []
    for rule in rules:
        peaks = [[job.time.peak_bytes for job in run.jobs.values() if job.time.rule == rule] for run in runs]
        rows.append((rule, *(f"{max(peak) / 1e6:.0f}" if peak else "-" for peak in peaks)))
    headers = ("peak MB", *(f"{run.images} in {run.shards}" for run in runs))
    return tabulate(rows, headers, colalign=("left", *["right"] * len(runs)), disable_numparse=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Fit, check, predict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="*", default=[Path("results")])
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--node-cores", type=int, default=8)
    parser.add_argument("--job-seconds", type=float, default=0.3, help="on top of each job; a local run's 0.3")
    arguments = parser.parse_args(argv)
    runs = [Run.read(results) for results in arguments.results]
    checked = checks(runs, arguments.job_seconds)
    print(tabulate(checked, headers="keys"), "\n")
    print(memory_table(runs), "\n")
    costs, model = Costs(runs), max(runs, key=lambda run: len({what for what, _ in run.jobs}))
    print(costs.table(), "\n")
    predictions = {
        nodes: predict(
            model, costs, arguments.images, arguments.shards, nodes, arguments.node_cores, arguments.job_seconds
        )
        for nodes in NODES
    }
    print(f"{arguments.images} images, {arguments.shards} shards, nodes of {arguments.node_cores} cores\n")
    rows = [(nodes, f"{prediction.seconds:.0f}", prediction.bound) for nodes, prediction in predictions.items()]
    print(
        tabulate(rows, ("nodes", "seconds", "bounded by"), colalign=("right", "right", "left"), disable_numparse=True)
    )
    result = {
        "checks": checked,
        "images": arguments.images,
        "shards": arguments.shards,
        "node_cores": arguments.node_cores,
        "seconds_by_nodes": {str(nodes): round(prediction.seconds, 1) for nodes, prediction in predictions.items()},
        "bounded_by": {str(nodes): prediction.bound for nodes, prediction in predictions.items()},
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
