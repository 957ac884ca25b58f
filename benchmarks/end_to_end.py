"""Images per second from JPEG to top-1: our chain's steps on int8, and the plain script that most people write.

Ours are three commands, called as a run calls them: image2npz.py, ort-vamp with a list, eval_imagenet.py (indexing,
once a dataset, is told apart). The plain script is torchvision's preprocessing on PIL and an ONNX Runtime session on
the fp32 graph, in a loop with batches of 1 or 32, and with a DataLoader of two workers; the fastest of the four, tried
once on fewer images, is the one compared with. All on the same cores, in turns within each round, process start-up
included; what starting alone costs (the same commands on 16 images) is beside it, and `without_start` is the ratio
without that. Photographs are linked under as many names as wanted. Last line: one JSON object.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from engine import P, compiled, torch_model

from mnasbench.build.vdsp_params import vdsp_params
from mnasbench.cpus import usable_cpus
from mnasbench.data.layouts import Dataset
from mnasbench.data.manifest import index_dataset
from mnasbench.files import write_json
from mnasbench.model.export import export_onnx

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPTS = REPOSITORY / "workflow" / "scripts"
FEW, TRIAL = 16, 900
PLAIN = """
import sys
import numpy as np, onnxruntime, torch
from PIL import Image
try:
    import torchvision
except RuntimeError:
    sys.path.insert(0, sys.argv[5])
    from mnasbench.model.torchvision_import import torchvision
folder, graph, batch, workers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
t = torchvision.transforms
prepare = t.Compose([t.Resize(256), t.CenterCrop(224), t.ToTensor(),
                     t.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
lines = [line.split() for line in open(folder + "/val_label.txt")]

class Images(torch.utils.data.Dataset):
    def __len__(self):
        return len(lines)
    def __getitem__(self, i):
        return prepare(Image.open(folder + "/val/" + lines[i][0]).convert("RGB")), int(lines[i][1])

session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
loader = torch.utils.data.DataLoader(Images(), batch_size=batch, num_workers=workers)
right = 0
for images, labels in loader:
    scores = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
    right += int((scores.argmax(axis=1) == labels.numpy()).sum())
print(100 * right / len(lines))
"""


def dataset(folder: Path, root: Path, images: int) -> Path:
    """Links to photographs under ``images`` names, their labels, and the manifest."""
    labels = [line.split() for line in (root / "val_label.txt").read_text().splitlines()]
    (folder / "val").mkdir(parents=True)
    lines = []
    for number in range(images):
        name, label = labels[number % len(labels)]
        (folder / "val" / f"{number:05d}.JPEG").symlink_to((root / "val" / name).resolve())
        lines.append(f"{number:05d}.JPEG {label}\n")
    (folder / "val_label.txt").write_text("".join(lines))
    index_dataset(Dataset(folder), folder / "manifest.csv")
    return folder


def call(*command: object) -> str:
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return done.stdout


def ours(root: Path, prefix: Path, params: Path, work: Path) -> float:
    """Top-1 in percent by the three steps; ``work`` is not there yet, as in a run."""
    cores = usable_cpus()
    geometry = ("--resize", P.resize, "--crop", P.crop, "--workers", cores)
    source = ("--dataset_path", root, "--manifest", root / "manifest.csv")
    listed, scores = work / "list.txt", work / "scores.npz"
    call(SCRIPTS / "image2npz.py", *source, *geometry, "--shard_file", work / "npz" / "0.npz", "--text_path", listed)
    load = ("-i", cores, "-p", 1, "-b", 8, "--datalist", listed, "--path_output", scores)
    call("-m", "mnasbench.commands.ort_vamp", "-m", prefix, "--vdsp_params", params, *load)
    labels = ("--label", root / "manifest.csv", "--json", work / "accuracy.json")
    call(SCRIPTS / "eval_imagenet.py", "--result_path", scores, *labels)
    return float(json.loads((work / "accuracy.json").read_text())["top1"])


def plain(root: Path, graph: Path, batch: int, workers: int, script: Path) -> float:
    """Top-1 in percent by the plain script."""
    return float(call(script, root, graph, batch, workers, REPOSITORY / "workflow").split()[-1])


def seconds(work: Callable[[], float]) -> tuple[float, float]:
    begin = time.perf_counter()
    top1 = work()
    return time.perf_counter() - begin, top1


def end_to_end(root: Path, images: int, rounds: int) -> dict[str, object]:
    """Both sides on one dataset; see the module's text."""
    weights = root / "mnasnet0_5_memorised.pth"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graph, script, params = folder / "net.onnx", folder / "plain.py", folder / "vdsp_params.json"
        script.write_text(PLAIN)
        export_onnx(torch_model("mnasnet0_5", weights, None), P.crop, graph)
        prefix = compiled("net", graph, "int8-percentile", root / "val", folder / "build")
        write_json(params, vdsp_params(P, "current", resized=True, fp16=False))
        begin = time.perf_counter()
        sets = {images: dataset(folder / "all", root, images)}
        index_s = time.perf_counter() - begin
        sets[FEW] = dataset(folder / "few", root, FEW)
        trial = dataset(folder / "trial", root, TRIAL)
        plans = [(batch, workers) for batch in (1, 32) for workers in (0, 2)]
        tried = {plan: seconds(lambda plan=plan: plain(trial, graph, *plan, script))[0] for plan in plans}
        for (batch, workers), spent in tried.items():
            print(f"plain, batch {batch}, {workers} workers: {TRIAL / spent:.0f} images/s of {TRIAL}")
        best = min(tried, key=lambda plan: tried[plan])
        baseline = "batch {}, {} workers".format(*best)
        ways: dict[str, Callable[[Path], float]] = {
            # Into a new folder each time, and nothing is removed before the end: see preprocess.py.
            "ours": lambda of: ours(of, prefix, params, Path(tempfile.mkdtemp(dir=folder)) / "work"),
            baseline: lambda of: plain(of, graph, *best, script),
        }
        times: dict[int, dict[str, list[float]]] = {size: {way: [] for way in ways} for size in sets}
        top1: dict[str, float] = {}
        for _ in range(rounds):
            for way, work in ways.items():
                for size, where in sets.items():
                    os.sync()  # what the other side wrote is not this one's to wait for
                    spent, accuracy = seconds(lambda work=work, where=where: work(where))
                    times[size][way].append(spent)
                    top1[way] = accuracy if size == images else top1.get(way, accuracy)
    for way in ways:
        whole, start = (statistics.median(times[size][way]) for size in (images, FEW))
        print(f"{way}: {images / whole:.0f} images/s, {start:.1f} s of them starting; top-1 {top1[way]:.2f}")

    def ratios(less: int) -> list[float]:
        def spent(way: str) -> list[float]:
            start = statistics.median(times[FEW][way]) * less
            return [one - start for one in times[images][way]]

        return sorted(theirs / mine for theirs, mine in zip(spent(baseline), spent("ours"), strict=True))

    both = ratios(0)
    return {
        "end_to_end": round(statistics.median(both), 3),
        "end_to_end_range": [round(both[0], 3), round(both[-1], 3)],
        "end_to_end_without_start": round(statistics.median(ratios(1)), 3),
        "end_to_end_images": images,
        "end_to_end_images_per_second": round(images / statistics.median(times[images]["ours"]), 1),
        "end_to_end_baseline": baseline,
        "end_to_end_index_s": round(index_s, 1),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("MNASBENCH_REAL", REPOSITORY.parent / "shared" / "real")
    parser.add_argument("--root", type=Path, default=Path(default), help="photographs, labels, memorised weights")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args(argv)
    print(json.dumps(end_to_end(arguments.root, arguments.images, arguments.rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
