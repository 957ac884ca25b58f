"""What Snakemake and the steps' start cost: planning when all is done, and a cold run beside its jobs' own times.

*Planning*: a small dataset and ImageNet's size, 4 variants x 6 precisions. A copy of the checkout is run by Snakemake
itself with a stand-in for record.py: it makes the manifests as the real step does, and of every other job the declared
outputs, empty, with folders of as many empty files as there are images, and receipts. Then `snakemake -n` is timed;
the first look at a new folder is not counted, as it is made once. `dry_run_s` and `dry_run_growth` have the targets
5 s and 1.3.

*Orchestration*: another copy makes the demo from nothing, as `make run` does after the installation. `orchestration`
is the wall time of that call over what its jobs alone need at least, target 1.25. That is the greater of two bounds
that no order of the jobs can beat: their longest chain (`chain_s`), and all the cores that they held, spread evenly
(`held_s`); a job's time is its step's own, from its receipt, without record.py and Snakemake. `order_s` is what
these times take when each job starts as soon as its inputs and cores are there.

*End to end*: see end_to_end.py. Last line: one JSON object.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from mnasbench.cpus import usable_cpus
from mnasbench.plan.estimate import held_seconds, longest_chain, makespan, recorded_jobs
from mnasbench.precisions import PRECISIONS
from mnasbench.result.times import times_table

REPOSITORY = Path(__file__).resolve().parents[1]
VARIANTS = ("mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3")
PARTS = ("planning", "orchestration", "end_to_end")
STAND_IN = """
import subprocess, sys
from pathlib import Path
import record_real
from mnasbench.data.manifest_file import read_manifest
from mnasbench.file_memory import FileMemory
from mnasbench.receipts import Receipt, input_digest, record_file, record_folder, write_receipt

def main():
    arguments = record_real.build_parser().parse_args()
    command = list(record_real._with_script(arguments.command[1:]))
    outputs = [path for path in arguments.outputs if path != arguments.receipt]
    script = next((word for word in command if word.endswith(".py")), "")
    if Path(script).name in ("index_dataset.py", "gather_manifest.py", "sample_calibration.py"):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    else:
        for path in outputs:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
        shard = arguments.folders[0].name if arguments.folders and arguments.folders[0].name.isdigit() else None
        for folder in arguments.folders:
            folder.mkdir(parents=True, exist_ok=True)
            if shard is not None:
                manifest = next(Path("results/data").glob(f"*/manifests/{shard}.csv"))
                for image in read_manifest(manifest):
                    (folder / Path(image.name).with_suffix(".npz").name).touch()
    memory = FileMemory(None)
    write_receipt(arguments.receipt, Receipt(
        arguments.log.stem.partition("-")[0], command, arguments.settings, arguments.code,
        {str(path): input_digest(path, memory) for path in arguments.inputs if path.is_file()},
        {str(path): record_file(path) for path in outputs},
        {str(path): record_folder(path) for path in arguments.folders},
        None, {}, {}, arguments.threads, "", 1.0, 1.0, 1,
    ))

main()
"""


def copy_checkout(checkout: Path) -> dict[str, str]:
    """What git would give of the checkout, at ``checkout``; gives the environment to call Snakemake in."""
    for name in ("workflow", "config", "profiles"):
        shutil.copytree(REPOSITORY / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "Snakefile", checkout)
    path = os.pathsep.join([str(checkout / "workflow"), str(checkout / "workflow" / "scripts")])
    return os.environ | {"PYTHONPATH": path}


def replicate(data: Path, photographs: Mapping[Path, int], images: int) -> None:
    """A dataset of ``images`` names, links to copies of the photographs, with the photographs' classes."""
    (data / "val").mkdir(parents=True)
    (data / "copies").mkdir()
    copies = [(Path(shutil.copy(file, data / "copies")), label) for file, label in photographs.items()]
    lines = []
    for number in range(images):
        copy, label = copies[number % len(copies)]
        name = f"image_{number:05d}.JPEG"
        os.link(copy, data / "val" / name)
        lines.append(f"{name} {label}\n")
    (data / "val_label.txt").write_text("".join(lines))


def photographs_below(root: Path) -> dict[Path, int]:
    """The photographs of a dataset and their classes."""
    lines = (root / "val_label.txt").read_text().splitlines()
    return {root / "val" / name: int(label) for name, label in (line.rsplit(maxsplit=1) for line in lines)}


def prepare(folder: Path, photographs: Mapping[Path, int], images: int, shards: int) -> dict[str, str]:
    """A checkout that only plans, with a dataset of links; gives the environment to call Snakemake in."""
    checkout = folder / "checkout"
    environment = copy_checkout(checkout)
    scripts = checkout / "workflow" / "scripts"
    (scripts / "record.py").rename(scripts / "record_real.py")
    (scripts / "record.py").write_text(STAND_IN)
    replicate(folder / "data", photographs, images)
    (folder / "weights.pth").write_text("")
    settings = {
        "dataset": {"name": "replicated", "root": str(folder / "data")},
        "calibration": {"images": 1000},
        "models": {variant: {"weights": str(folder / "weights.pth")} for variant in VARIANTS},
        "precisions": list(PRECISIONS),
        "shards": shards,
    }
    (checkout / "settings.yaml").write_text(yaml.safe_dump(settings))
    return environment


def call(checkout: Path, environment: dict[str, str], *arguments: str) -> tuple[float, str]:
    """Seconds and output of a call of Snakemake."""
    command = [sys.executable, "-m", "snakemake", *arguments]
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout[-3000:] + done.stderr[-3000:])
    return time.perf_counter() - begin, done.stdout + done.stderr


def dry_run(folder: Path, photographs: Mapping[Path, int], images: int, shards: int, rounds: int) -> dict[str, float]:
    """Median seconds of ``snakemake -n`` when all is done; seconds of indexing and of the first look."""
    environment = prepare(folder, photographs, images, shards)
    how = ("--cores", "2", "--configfile", "settings.yaml")
    indexing, _ = call(folder / "checkout", environment, "results/data/replicated/manifest.csv", *how)
    call(folder / "checkout", environment, "all", "--quiet", "--no-hooks", *how)  # a disk without room will do
    time.sleep(3)  # what changed a moment ago is not yet remembered as seen
    first, said = call(folder / "checkout", environment, "-n", *how)
    if "Nothing to be done" not in said:
        sys.exit("the stand-in run is not complete:\n" + said[-3000:])
    times = [call(folder / "checkout", environment, "-n", *how)[0] for _ in range(rounds)]
    return {"dry_run_s": statistics.median(times), "index_s": indexing, "first_look_s": first}


def orchestration(checkout: Path) -> dict[str, float]:
    """A cold run of the demo on all cores, beside what its jobs' own times need."""
    environment = copy_checkout(checkout)
    wall, _ = call(checkout, environment, "--cores", "all")
    jobs = recorded_jobs(checkout / "results")
    plans = {key: job.plan for key, job in jobs.items()}
    seconds = {key: job.time.seconds for key, job in jobs.items()}
    cores = usable_cpus()
    chain = longest_chain(plans, seconds)
    print(f"\n{times_table(job.time for job in jobs.values())}\n")
    print("longest chain: " + ", ".join(f"{plans[key].rule} {seconds[key]:.1f}" for key in chain))
    bounds = {"chain_s": sum(seconds[key] for key in chain), "held_s": held_seconds(plans, seconds, cores)}
    walls = {"wall_s": wall, **bounds, "order_s": makespan(plans, seconds, cores)}
    return {"orchestration": round(wall / max(bounds.values()), 3)} | {key: round(s, 1) for key, s in walls.items()}


def planning(arguments: argparse.Namespace) -> dict[str, float]:
    """Planning at both sizes."""
    photographs = photographs_below(arguments.root)
    plans = []
    for images in arguments.images:
        with tempfile.TemporaryDirectory() as folder:
            plans.append(dry_run(Path(folder), photographs, images, arguments.shards, arguments.rounds))
        print(f"{images} images: " + ", ".join(f"{key} {value:.2f}" for key, value in plans[-1].items()))
    small, large = plans
    return {
        "images": arguments.images[1],
        "rows": len(VARIANTS) * len(PRECISIONS),
        "shards": arguments.shards,
        "dry_run_s": round(large["dry_run_s"], 2),
        "dry_run_growth": round(large["dry_run_s"] / small["dry_run_s"], 3),
        "index_s": round(large["index_s"], 1),
        "first_look_s": round(large["first_look_s"], 2),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("MNASBENCH_REAL", REPOSITORY.parent / "shared" / "real")
    parser.add_argument("--root", type=Path, default=Path(default), help="folder with photographs in val/")
    parser.add_argument("--images", type=int, nargs=2, default=[1000, 50_000], help="the two sizes")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (all)")
    arguments = parser.parse_args(argv)
    result: dict[str, object] = {}
    if "planning" in arguments.parts:
        result |= planning(arguments)
    if "orchestration" in arguments.parts:
        with tempfile.TemporaryDirectory() as folder:
            result |= orchestration(Path(folder) / "checkout")
    if "end_to_end" in arguments.parts:
        from end_to_end import end_to_end  # imports torch, which the other parts had better not carry along

        result |= end_to_end(arguments.root, 10_000, 2)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
