"""A real run over ImageNet's number of images: wall time and peak memory by rule, and what calls after it cost.

The photographs of ../shared/real, linked under 50,000 names with their classes, and the weights that have learned
them, so fp32 must score 100 %; `--variants` adds others with weights drawn by a seed, whose accuracy means nothing and
whose load is real. Then the same call again, one image replaced, and that call. What it needs on disk is about
152 KB for each image, and 4 KB for each image and row of the summary.

    python benchmarks/imagenet_size.py [--images 50000] [--shards N] [--cores N] [--variants mnasnet1_0 ...]
    python benchmarks/imagenet_size.py --keep FOLDER      leaves all in FOLDER

FOLDER/cold holds the receipts as the first call left them, for benchmarks/scale.py.

Last line: one JSON object.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from mnasbench.cpus import usable_cpus
from mnasbench.data.available import input_bytes, output_bytes
from mnasbench.model.architecture import create
from mnasbench.plan.estimate import recorded_jobs, wall_seconds
from mnasbench.preprocessing import Preprocessing
from mnasbench.result.summary import read_summary, rows_of
from mnasbench.result.summary_tables import terminal_table
from mnasbench.result.times import find_receipts, times_table
from workflow import REPOSITORY, call, copy_checkout, photographs_below, replicate

LEARNED = "mnasnet0_5"
CLASSES = 1000
SIZE = 224
# Of config/imagenet.yaml.
ALL_VARIANTS, ALL_ROWS = 4, 24


def prepare(folder: Path, arguments: argparse.Namespace) -> dict[str, str]:
    """The dataset, the weights and a checkout to run; gives the environment."""
    environment = copy_checkout(folder / "checkout")
    replicate(folder / "data", photographs_below(arguments.root), arguments.images)
    models = {LEARNED: {"weights": str(arguments.root / "mnasnet0_5_memorised.pth")}}
    for variant in arguments.variants:
        torch.manual_seed(0)
        torch.save(create("torchvision", variant, CLASSES).state_dict(), folder / f"{variant}.pth")
        models[variant] = {"weights": str(folder / f"{variant}.pth")}
    settings = {
        "dataset": {
            "name": "replicated",
            "root": str(folder / "data"),
            "class_names": str(arguments.root / "imagenet_classes.txt"),
        },
        "calibration": {"images": min(1000, arguments.images)},
        "models": models,
        "precisions": arguments.precisions,
        "shards": arguments.shards,
    }
    (folder / "checkout" / "settings.yaml").write_text(yaml.safe_dump(settings))
    return environment


def planned(said: str) -> dict[str, int]:
    """Jobs by rule of Snakemake's table."""
    table = re.search(r"^job +count\n-+ +-+\n(.*?)^total ", said, re.MULTILINE | re.DOTALL)
    rows = (line.split() for line in table[1].splitlines()) if table else ()
    return {name: int(count) for name, count in rows if name != "all"}


def replace_image(data: Path, calibration: Path) -> None:
    """Another file for one image, not of those calibrated with where there are others: with a byte behind its end."""
    chosen = {Path(line).name for line in calibration.read_text().splitlines()}
    images = sorted((data / "val").iterdir())
    others = [image for image in images if image.name not in chosen] or images
    image = others[len(others) // 2]
    content = image.read_bytes()
    image.unlink()  # a link: the others keep what they have
    image.write_bytes(content + b"\0")


def count_files(results: Path, variants: int, rows: int) -> tuple[int, int]:
    """Files and links below ``results``, and how many a run of ALL_VARIANTS and ALL_ROWS would leave.

    What a variant or a row adds is counted by the names of folders and logs.
    """
    files = [path.relative_to(results).as_posix() for path in results.rglob("*") if not path.is_dir()]
    of_row = re.compile(r"^(build|run|result)/[^/]+/[^/]+/|^logs/.*-(fp32|fp16|int8-\w+)(-\d+)?\.log$")
    of_variant = re.compile(r"^(model|result)/[^/]+/|^logs/.*(export_model|check_parity|train_demo)-")
    by_row = sum(of_row.search(file) is not None for file in files)
    by_variant = sum(of_variant.search(file) is not None and of_row.search(file) is None for file in files)
    others = len(files) - by_row - by_variant
    return len(files), round(others + by_variant / variants * ALL_VARIANTS + by_row / rows * ALL_ROWS)


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The run, the calls after it, and what they took."""
    checkout, data = folder / "checkout", folder / "data"
    environment = prepare(folder, arguments)
    how = ("--cores", str(arguments.cores), "--configfile", "settings.yaml")
    wall, _ = call(checkout, environment, *how)
    jobs = recorded_jobs(checkout / "results")
    print(f"\n{times_table(job.time for job in jobs.values())}\n")
    for file in (*find_receipts(checkout / "results"), *(checkout / "results").glob("data/*/manifests/*.csv")):
        kept = folder / "cold" / file.relative_to(checkout / "results")
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, kept)
    rows = rows_of(read_summary(checkout / "results" / "summary.csv"))
    print(terminal_table(rows))
    largest = max((job.time for job in jobs.values()), key=lambda time: time.peak_bytes)
    inputs = sum(file.stat().st_size for file in (checkout / "results/data/replicated/npz").rglob("*.npz"))
    files, all_files = count_files(checkout / "results", 1 + len(arguments.variants), len(rows))
    first_again, said = call(checkout, environment, *how)
    if "Nothing to be done" not in said:
        sys.exit("the run was not complete:\n" + said[-3000:])
    again, _ = call(checkout, environment, *how)
    replace_image(data, checkout / "results/data/replicated/calibration.txt")
    _, said = call(checkout, environment, "-n", *how)
    remade = planned(said)
    remake, _ = call(checkout, environment, *how)
    return {
        "images": arguments.images,
        "shards": arguments.shards,
        "rows": len(rows),
        "cores": arguments.cores,
        "wall_s": round(wall, 1),
        "jobs_s": round(wall_seconds(jobs.values()), 1),
        "largest_job_mb": round(largest.peak_bytes / 1e6),
        "largest_job": largest.rule,
        "npz_mb": round(inputs / 1e6),
        "files": files,
        f"files_of_{ALL_ROWS}_rows": all_files,
        "fp32_top1": next(row.top1 for row in rows if row.model == LEARNED and row.precision == "fp32"),
        "first_call_again_s": round(first_again, 2),
        "call_again_s": round(again, 2),
        "replaced_image_plans": remade,
        "replaced_image_s": round(remake, 1),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run, call again, replace an image, call again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("MNASBENCH_REAL", REPOSITORY.parent / "shared" / "real")
    parser.add_argument("--root", type=Path, default=Path(default), help="folder of the photographs and weights")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--shards", type=lambda text: text if text == "auto" else int(text), default="auto")
    parser.add_argument("--cores", type=int, default=usable_cpus())
    parser.add_argument("--variants", nargs="*", default=[], help=f"besides {LEARNED}, with weights drawn by a seed")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "fp16", "int8-percentile"])
    parser.add_argument("--keep", type=Path, help="folder to make and leave; default: a temporary one")
    arguments = parser.parse_args(argv)
    rows = len(arguments.precisions) * (1 + len(arguments.variants))
    need = arguments.images * (input_bytes(Preprocessing(SIZE, SIZE)) + rows * output_bytes(CLASSES))
    place = arguments.keep.resolve().parent if arguments.keep else Path(tempfile.gettempdir())
    if shutil.disk_usage(place).free < 1.1 * need:
        sys.exit(f"{place}: {need / 1e9:.1f} GB are needed; name another folder with --keep or TMPDIR")
    if arguments.keep:
        arguments.keep.mkdir(parents=True)
        print(json.dumps(measure(arguments.keep.resolve(), arguments)))
    else:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(Path(folder), arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
