"""How long planning takes when all is done: a small dataset and ImageNet's size, 4 variants x 6 precisions.

A copy of the checkout is run by Snakemake itself with a stand-in for record.py: it makes the manifests as the real
step does, and of every other job the declared outputs, empty, with folders of as many empty files as there are
pictures, and receipts. Then `snakemake -n` is timed; the first look at a new folder is not counted, as it is made
once. `dry_run_s` and `dry_run_growth` have the targets 5 s and 1.3. Last line: one JSON object.
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
from collections.abc import Sequence
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
VARIANTS = ("mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3")
PRECISIONS = ("fp32", "fp16", "int8-percentile", "int8-max", "int8-kl_divergence", "int8-mse")
STAND_IN = """
import subprocess, sys
from pathlib import Path
import record_real
from mnasbench import provenance
from mnasbench.data.fingerprint import read_manifest
from mnasbench.files import write_json

def main():
    arguments = record_real.build_parser().parse_args()
    command = arguments.command[1:]
    outputs = [path for path in arguments.outputs if path != arguments.receipt]
    script = next((word for word in command if word.endswith(".py")), "")
    if Path(script).name in ("index_dataset.py", "gather_manifest.py"):
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
                for picture in read_manifest(manifest):
                    (folder / Path(picture.name).with_suffix(".npz").name).touch()
    write_json(arguments.receipt, {
        "rule": arguments.log.stem.partition("-")[0], "started": "", "seconds": 1.0, "cpu_seconds": 1.0,
        "peak_bytes": 1, "inputs": {},
        "outputs": {str(path): provenance.describe_file(path) for path in outputs},
        "folders": {str(path): provenance.describe_folder(path) for path in arguments.folders},
    })

main()
"""


def prepare(folder: Path, photographs: Sequence[Path], pictures: int, shards: int) -> dict[str, str]:
    """A checkout with a dataset of links to photographs; gives the environment to call Snakemake in."""
    checkout = folder / "checkout"
    for name in ("workflow", "config", "profiles"):
        shutil.copytree(REPOSITORY / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "Snakefile", checkout)
    scripts = checkout / "workflow" / "scripts"
    (scripts / "record.py").rename(scripts / "record_real.py")
    (scripts / "record.py").write_text(STAND_IN)
    (folder / "data" / "val").mkdir(parents=True)
    lines = []
    for number in range(pictures):
        name = f"picture_{number:05d}.JPEG"
        os.link(photographs[number % len(photographs)], folder / "data" / "val" / name)
        lines.append(f"{name} {number % 1000}\n")
    (folder / "data" / "val_label.txt").write_text("".join(lines))
    (folder / "weights.pth").write_text("")
    settings = {
        "dataset": {"name": "replicated", "root": str(folder / "data")},
        "calibration": {"images": 1000},
        "models": {variant: {"weights": str(folder / "weights.pth")} for variant in VARIANTS},
        "precisions": list(PRECISIONS),
        "shards": shards,
    }
    (checkout / "settings.yaml").write_text(yaml.safe_dump(settings))
    path = os.pathsep.join([str(checkout / "workflow"), str(scripts)])
    return os.environ | {"PYTHONPATH": path}


def call(folder: Path, environment: dict[str, str], *arguments: str) -> tuple[float, str]:
    """Seconds and output of a call of Snakemake."""
    command = [sys.executable, "-m", "snakemake", *arguments, "--cores", "2", "--configfile", "settings.yaml"]
    begin = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder / "checkout", env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stdout[-3000:] + done.stderr[-3000:])
    return time.perf_counter() - begin, done.stdout + done.stderr


def dry_run(folder: Path, photographs: Sequence[Path], pictures: int, shards: int, rounds: int) -> dict[str, float]:
    """Median seconds of ``snakemake -n`` when all is done; seconds of indexing and of the first look."""
    environment = prepare(folder, photographs, pictures, shards)
    indexing, _ = call(folder, environment, "results/data/replicated/manifest.csv")
    call(folder, environment, "all", "--quiet")
    time.sleep(3)  # what changed a moment ago is not yet remembered as seen
    first, said = call(folder, environment, "-n")
    if "Nothing to be done" not in said:
        sys.exit("the stand-in run is not complete:\n" + said[-3000:])
    times = [call(folder, environment, "-n")[0] for _ in range(rounds)]
    return {"dry_run_s": statistics.median(times), "index_s": indexing, "first_look_s": first}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure both sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("MNASBENCH_REAL", REPOSITORY.parent / "shared" / "real")
    parser.add_argument("--root", type=Path, default=Path(default), help="folder with photographs in val/")
    parser.add_argument("--pictures", type=int, nargs=2, default=[1000, 50_000], help="the two sizes")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args(argv)
    photographs = sorted((arguments.root / "val").iterdir())
    found = []
    for pictures in arguments.pictures:
        with tempfile.TemporaryDirectory() as folder:
            copies = Path(folder) / "photographs"
            copies.mkdir()
            local = [Path(shutil.copy(photograph, copies)) for photograph in photographs]
            found.append(dry_run(Path(folder), local, pictures, arguments.shards, arguments.rounds))
        print(f"{pictures} pictures: " + ", ".join(f"{key} {value:.2f}" for key, value in found[-1].items()))
    small, large = found
    result = {
        "pictures": arguments.pictures[1],
        "rows": len(VARIANTS) * len(PRECISIONS),
        "shards": arguments.shards,
        "dry_run_s": round(large["dry_run_s"], 2),
        "dry_run_growth": round(large["dry_run_s"] / small["dry_run_s"], 3),
        "index_s": round(large["index_s"], 1),
        "first_look_s": round(large["first_look_s"], 2),
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
