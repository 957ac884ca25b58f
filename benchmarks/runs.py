"""What ort-vamp's own machinery costs: the search for `-i auto`, and the accuracy run beside the offline throughput.

`auto_vs_exhaustive`: throughput of the setting that the search finds over that of the best of all settings up to one
session a CPU and one thread a CPU, measured in turns; wanted 0.97 or more, the search (`search_seconds`) within 20 s.
`accuracy_vs_offline`: npz files a second, file to file, over the offline throughput of the same settings, in turns;
wanted 0.9. Each with median, low and high over the rounds. Last line: one JSON object, by precision.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from engine import CROPPED, P, compiled, spread, torch_model

from mnasbench.build.package import CompiledModel, read_package
from mnasbench.cpus import usable_cpus
from mnasbench.data.npz import write_npz
from mnasbench.data.preprocess import normalise, pixels_of
from mnasbench.machine import machine
from mnasbench.model.export import export_onnx
from mnasbench.run.accuracy import run_accuracy
from mnasbench.run.figures import figures
from mnasbench.run.inputs import UInt8Array
from mnasbench.run.performance import Load, measure
from mnasbench.run.tune import tune

REPOSITORY = Path(__file__).resolve().parents[1]


def offline(model: CompiledModel, images: Sequence[UInt8Array], batch: int, setting: tuple[int, int]) -> float:
    """Images a second at saturation with (instances, threads)."""
    load = Load(instances=setting[0], threads=setting[1], batch=batch, seconds=1.0, warmup_seconds=0.2)
    return float(figures(measure(model, CROPPED, images, load), load)["throughput_qps"])


def search(model: CompiledModel, images: Sequence[UInt8Array], batch: int, rounds: int) -> dict[str, Any]:
    """The search beside every setting."""
    begin = time.perf_counter()
    tuned = tune(model, CROPPED, images, Load(batch=batch), again=True)
    seconds = time.perf_counter() - begin
    searched = (tuned.instances, tuned.threads)
    cpus = range(1, usable_cpus() + 1)
    settings = sorted({(instances, threads) for instances in cpus for threads in cpus} | {searched})
    rates: dict[tuple[int, int], list[float]] = {setting: [] for setting in settings}
    for _ in range(rounds):
        for setting in settings:
            rates[setting].append(offline(model, images, batch, setting))
    best = max(settings, key=lambda setting: statistics.median(rates[setting]))
    shares = [mine / theirs for mine, theirs in zip(rates[searched], rates[best], strict=True)]
    return {
        "setting": searched,
        "best": best,
        "search_seconds": round(seconds, 1),
        "auto_vs_exhaustive": spread(shares),
    }


def accuracy(
    model: CompiledModel, images: Sequence[UInt8Array], inputs: Sequence[Path], batch: int, rounds: int, folder: Path
) -> dict[str, Any]:
    """The accuracy run beside the offline throughput, one session a CPU."""
    setting = (usable_cpus(), 1)
    shares = []
    for turn in range(rounds):
        rate = offline(model, images, batch, setting)
        run = run_accuracy(model, CROPPED, inputs, folder / f"outputs-{turn}", instances=setting[0], batch=batch)
        shares.append(run.throughput_qps / rate if run.throughput_qps else float("nan"))
    return {"accuracy_vs_offline": spread(shares), "images": len(inputs)}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure fp32 and int8 of mnasnet0_5."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("MNASBENCH_REAL", REPOSITORY.parent / "shared" / "real")
    parser.add_argument("--root", type=Path, default=Path(default), help="folder with val/*.JPEG and the weights")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "int8-percentile"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args(argv)
    paths = sorted((arguments.root / "val").glob("*.JPEG"))
    pixels = [pixels_of(path, P) for path in paths]
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = [folder / "npz" / f"{number}.npz" for number in range(arguments.images)]
        for number, path in enumerate(inputs):
            write_npz(path, pixels[number % len(pixels)])
        graph = folder / "mnasnet0_5.onnx"
        calibration = normalise(np.stack(pixels[::50]), P)
        export_onnx(torch_model("mnasnet0_5", arguments.root / "mnasnet0_5_memorised.pth", calibration), P.crop, graph)
        for precision in arguments.precisions:
            prefix = compiled("mnasnet0_5", graph, precision, arguments.root / "val", folder / "build")
            model = read_package(prefix)
            results[precision] = {
                **search(model, pixels[:64], arguments.batch, arguments.rounds),
                **accuracy(model, pixels[:64], inputs, arguments.batch, arguments.rounds, folder / precision),
            }
            print(f"{precision}: {results[precision]}", flush=True)
    print(json.dumps({**results, "batch": arguments.batch, "machine": machine()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
