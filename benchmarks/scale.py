"""How long a run takes on 1 to 64 nodes, predicted from the receipts of runs that were made.

The cost of a rule's job is a + b x pictures of its shard, by least squares over its jobs in all given results folders
(where they have one size only, a is the shortest job of any rule: starting a step costs that much). Jobs are placed
on nodes as Snakemake places them on cores: a measurement takes a whole node, any other job one core. The first check
is the run itself: predicted on its own cores, beside the wall time from its first start to its last end.

    python benchmarks/scale.py RESULTS [RESULTS...] [--pictures 50000] [--shards 16] [--node-cores 8]

Last line: one JSON object.
"""

import argparse
import json
import re
import sys
from collections.abc import Hashable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "workflow"))

from mnasbench.files import read_json  # noqa: E402
from mnasbench.result.times import PlannedJob, _makespan  # noqa: E402

BY_SHARD = ("index_shard", "write_npz", "run_accuracy", "evaluate_outputs")
SAMPLED = "check_parity"  # by as many pictures as the setting says
BY_ALL = ("index_dataset", "gather_accuracy", SAMPLED)
ALONE = "measure_performance"
NODES = (1, 2, 4, 8, 16, 32, 64)


def receipts_of(results: Path) -> list[dict[str, Any]]:
    """The receipts of a results folder, outputs' folders not walked."""
    patterns = ("*", "data/*/*", "data/*/lists/*", "data/*/manifests/*", "model/*/*", "build/*/*/*", "run/*/*/*")
    patterns += ("result/*/*", "result/*/*/*")
    return [read_json(path) for pattern in patterns for path in results.glob(f"{pattern}.receipt.json")]


def sizes(results: Path, receipts: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """Pictures and shards of a run."""
    manifest = next(results.glob("data/*/manifest.csv"))
    shards = len([1 for receipt in receipts if receipt["rule"] == "index_shard"]) or 1
    return len(manifest.read_text().splitlines()) - 1, shards


def sample_of(receipt: dict[str, Any]) -> int | None:
    """How many pictures a job was told to choose; None for all."""
    images: int | None = receipt["settings"].get("parity", {}).get("images")
    return images


def costs(runs: Sequence[Path]) -> dict[str, tuple[float, float]]:
    """Seconds of a job of each rule: (a, b), a constant and a part for each picture."""
    points: dict[str, list[tuple[int, float]]] = {}
    for results in runs:
        receipts = receipts_of(results)
        pictures, shards = sizes(results, receipts)
        for receipt in receipts:
            rule = receipt["rule"]
            # Seconds of one core: a job of two threads on two cores took half as long.
            seconds = receipt["seconds"] if rule == ALONE else max(receipt["seconds"], receipt["cpu_seconds"])
            count = pictures if rule in BY_ALL else pictures // shards
            if rule == SAMPLED:
                count = min(pictures, sample_of(receipt) or pictures)
            points.setdefault(rule, []).append((count if rule in BY_SHARD + BY_ALL else 0, seconds))
    start = min(seconds for found in points.values() for _, seconds in found)
    fitted = {}
    for rule, found in points.items():
        count, seconds = np.array(found, dtype=float).T
        if rule in BY_SHARD + BY_ALL and len(set(count)) > 1:
            slope, constant = np.polyfit(count, seconds, 1)
        elif rule in BY_SHARD + BY_ALL:
            constant, slope = min(start, seconds.mean()), max(0.0, (seconds.mean() - start) / count[0])
        else:
            constant, slope = seconds.mean(), 0.0
        fitted[rule] = (max(float(constant), 0.0), max(float(slope), 0.0))
    return fitted


def jobs_of(receipts: Sequence[dict[str, Any]], former: int, shards: int) -> dict[Hashable, dict[str, Any]]:
    """The jobs of a run by their outputs, with those of shards repeated or left out to make ``shards`` of them."""
    made: dict[str, Hashable] = {}
    jobs: dict[Hashable, dict[str, Any]] = {}
    number = re.compile(r"(?<=[-/])0(?=\.)")
    for receipt in receipts:
        outputs = list(receipt["outputs"])
        files = [*outputs, *receipt["folders"]]
        log = outputs[0] if outputs else str(receipt["command"])
        is_of_shard = receipt["rule"] in BY_SHARD
        if is_of_shard and former > 1 and not any(number.search(file) for file in files):
            continue
        for shard in range(shards) if is_of_shard else [None]:
            key = (receipt["rule"], log, shard)
            jobs[key] = {"rule": receipt["rule"], "inputs": list(receipt["inputs"]), "shard": shard}
            jobs[key]["sample"] = sample_of(receipt)
            for file in files:
                made[number.sub(str(shard), file) if is_of_shard else file] = key
    for job in jobs.values():
        needs = set()
        for file in job["inputs"]:
            name = file.replace(".receipt.json", ".json")
            own = number.sub(str(job["shard"]), name) if job["shard"] is not None else name
            needs |= {made[known] for known in (own, name) if known in made}
        job["needs"] = needs
    return jobs


def predict(
    jobs: dict[Hashable, dict[str, Any]],
    cost: dict[str, tuple[float, float]],
    pictures: int,
    shards: int,
    nodes: int,
    cores: int,
) -> tuple[float, str]:
    """Wall seconds on ``nodes`` of ``cores``, and the rule that most of the longest chain of jobs is spent in."""
    planned, seconds = {}, {}
    for key, job in jobs.items():
        constant, slope = cost[job["rule"]]
        count = pictures / shards if job["rule"] in BY_SHARD else min(pictures, job["sample"] or pictures)
        seconds[key] = constant + slope * count
        planned[key] = PlannedJob(job["rule"], Path(), cores if job["rule"] == ALONE else 1, list(job["needs"]))
    wall = _makespan(planned, seconds, nodes * cores)
    work: dict[str, float] = {}
    for key, plan in planned.items():
        work[plan.rule] = work.get(plan.rule, 0) + seconds[key] * plan.threads / (nodes * cores)
    ends: dict[Hashable, tuple[float, Hashable | None]] = {}

    def end(key: Hashable) -> float:
        if key not in ends:
            before = max(((end(need), need) for need in planned[key].needs), key=lambda e: e[0], default=(0.0, None))
            ends[key] = (before[0] + seconds[key], before[1])
        return ends[key][0]

    key: Hashable | None = max(planned, key=end)
    chain: dict[str, float] = {}
    longest = end(key)
    while key is not None:
        chain[planned[key].rule] = chain.get(planned[key].rule, 0) + seconds[key]
        key = ends[key][1]
    bound = chain if longest > 0.8 * wall else work
    what = "longest chain" if bound is chain else "work"
    return wall, f"{what}: {max(bound, key=lambda rule: bound[rule])}"


def wall_of(receipts: Sequence[dict[str, Any]]) -> float:
    """Seconds from the first start to the last end."""
    starts = [(datetime.fromisoformat(receipt["started"]).timestamp(), receipt["seconds"]) for receipt in receipts]
    return max(start + seconds for start, seconds in starts) - min(start for start, _ in starts)


def main(argv: Sequence[str] | None = None) -> int:
    """Fit, check, predict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="*", default=[Path("results")])
    parser.add_argument("--pictures", type=int, default=50_000)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--node-cores", type=int, default=8)
    arguments = parser.parse_args(argv)
    cost = costs(arguments.results)
    checks = []
    for results in arguments.results:
        receipts = receipts_of(results)
        pictures, shards = sizes(results, receipts)
        cores = max(receipt["machine"]["cpus"] for receipt in receipts)
        wall, _ = predict(jobs_of(receipts, shards, shards), cost, pictures, shards, 1, cores)
        measured = wall_of(receipts)
        checks.append({"cores": cores, "measured_s": round(measured, 1), "predicted_s": round(wall, 1)})
        print(f"{results}: {pictures} pictures, {cores} cores: took {measured:.0f} s, the model says {wall:.0f} s")
    receipts = receipts_of(arguments.results[0])
    former = sizes(arguments.results[0], receipts)[1]
    jobs = jobs_of(receipts, former, arguments.shards)
    rows, found = [], {}
    for nodes in NODES:
        wall, bound = predict(jobs, cost, arguments.pictures, arguments.shards, nodes, arguments.node_cores)
        rows.append((nodes, f"{wall:.0f}", bound))
        found[str(nodes)] = round(wall, 1)
    print(f"\n{arguments.pictures} pictures, {arguments.shards} shards, nodes of {arguments.node_cores} cores\n")
    print(
        tabulate(rows, ("nodes", "seconds", "bounded by"), colalign=("right", "right", "left"), disable_numparse=True)
    )
    print(json.dumps({"checks": checks, "pictures": arguments.pictures, "seconds_by_nodes": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
