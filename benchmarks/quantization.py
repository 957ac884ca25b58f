"""int8 by this project beside ONNX Runtime's and NNCF's own, on real photographs and on harder weights.

Every method quantizes the same ONNX file from the same calibration images in a process of its own, and is
judged against fp32 on the photographs at another resize, where margins are thin. The harder weights compute the
same function with hidden channels rescaled by 2^U(-k, k). The last line is JSON:
weights -> method -> agreement and top1 (percent), sqnr_db, seconds, peak_gb; null for a method not installed.

    python benchmarks/quantization.py --data ../shared/real --methods ours ort_minmax ort_percentile nncf
"""

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from mnasbench.data.preprocess import normalise, pixels_of
from mnasbench.preprocessing import Preprocessing

MODE = "int8-percentile"
STEPS = ("equalize", "gptq", "correct_bias")
METHODS = ("ours", "ours_7_bits", *(f"ours_without_{step}" for step in STEPS), "ort_minmax", "ort_percentile", "nncf")
BATCH = 10


def batches(pixels: Path) -> Iterator[np.ndarray]:
    """The stored images, normalised, a few at a time; the file is mapped and not loaded."""
    stored = np.load(pixels, mmap_mode="r")
    for start in range(0, len(stored), BATCH):
        yield normalise(np.asarray(stored[start : start + BATCH]), Preprocessing(resize=256, crop=stored.shape[-1]))


def ours(source: Path, target: Path, pixels: Path, **changes: bool) -> None:
    """This project's recipe, or the recipe with changes: without a step, or as for CPUs without VNNI."""
    from mnasbench.build.compiler import Recipe, compile_model

    recipe = replace(Recipe(), **changes)
    onnx.save(compile_model(onnx.load(source), MODE, lambda: batches(pixels), recipe).model, target)


def onnx_runtime(source: Path, target: Path, pixels: Path, method: str) -> None:
    """quantize_static as its documentation advises for x86 with VNNI, after its own pre-processing."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quant_pre_process,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = batches(pixels)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.rest, None)
            return None if batch is None else {"input": batch}

    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(source, prepared)
    quantize_static(
        prepared,
        target,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod[method],
    )


def nncf(source: Path, target: Path, pixels: Path) -> None:
    """NNCF's post-training quantization of ONNX models with full bias correction."""
    import nncf as library

    images = [image[None] for batch in batches(pixels) for image in batch]
    data = library.Dataset(images, lambda image: {"input": image})
    preset = library.QuantizationPreset.MIXED  # symmetric weights, asymmetric activations, as all of them
    model = onnx.load(source)
    quantized = library.quantize(model, data, subset_size=len(images), fast_bias_correction=False, preset=preset)
    onnx.save(quantized, target)


QUANTIZERS: dict[str, Callable[[Path, Path, Path], None]] = {
    "ours": ours,
    "ours_7_bits": lambda s, t, p: ours(s, t, p, reduce_range=True),
    **{f"ours_without_{step}": lambda s, t, p, step=step: ours(s, t, p, **{step: False}) for step in STEPS},
    "ort_minmax": lambda s, t, p: onnx_runtime(s, t, p, "MinMax"),
    "ort_percentile": lambda s, t, p: onnx_runtime(s, t, p, "Percentile"),
    "nncf": nncf,
}


def quantize_here(method: str, source: Path, target: Path, pixels: Path) -> None:
    """Quantize in this process; its last line of output is what that took."""
    start = time.perf_counter()
    QUANTIZERS[method](source, target, pixels)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts in KiB
    print(json.dumps({"seconds": round(seconds, 1), "peak_gb": round(peak, 2)}))


def quantize_apart(method: str, source: Path, target: Path, pixels: Path) -> dict[str, float]:
    """Quantize in a process of its own: its time and its peak memory are nobody else's."""
    command = [sys.executable, __file__, "--child", method, str(source), str(target), str(pixels)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(finished.stdout.splitlines()[-1])


def export(model: str, weights: Path, reach: float, seed: int, target: Path) -> None:
    """The named torchvision model as ONNX, its inverted residuals' hidden channels rescaled by 2^U(-reach, reach)."""
    import torch

    from mnasbench.model.architecture import load
    from mnasbench.model.export import export_onnx

    net, _ = load("torchvision", model, weights)
    net.eval()
    random = torch.Generator().manual_seed(seed)
    blocks = [m.layers for m in net.modules() if type(m).__name__ == "_InvertedResidual"]
    # A block is expand, BatchNorm, ReLU, depthwise, BatchNorm, ReLU, project, BatchNorm.
    pairs = [pair for block in blocks for pair in ((block[1], block[3]), (block[4], block[6]))]
    with torch.no_grad():
        for norm, reader in pairs:
            scale = 2 ** ((torch.rand(norm.num_features, generator=random) * 2 - 1) * reach)
            norm.weight.mul_(scale)
            norm.bias.mul_(scale)
            reader.weight.div_(scale.view(-1, 1, 1, 1) if reader.groups > 1 else scale.view(1, -1, 1, 1))
    export_onnx(net, 224, target)


def logits(path: Path, pixels: Path) -> np.ndarray:
    """Logits of every stored image, float64."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"input": batch})[0] for batch in batches(pixels)]).astype(np.float64)


def store_pixels(folder: Path, names: list[str], resize: int, target: Path) -> Path:
    """The images' pixels at one resize, (n, 3, 224, 224) uint8."""
    preprocessing = Preprocessing(resize=resize, crop=224)
    np.save(target, np.stack([pixels_of(folder / "val" / name, preprocessing) for name in names]))
    return target


def judged(reference: np.ndarray, values: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Top-1 and agreement in percent, SQNR over the logits in dB."""
    noise = np.square(reference - values).sum()
    return {
        "agreement": round(100 * float(np.mean(reference.argmax(1) == values.argmax(1))), 2),
        "top1": round(100 * float(np.mean(values.argmax(1) == labels)), 2),
        "sqnr_db": round(10 * float(np.log10(np.square(reference).sum() / noise)), 2),
    }


def main() -> None:
    """Measure what the flags ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("MNASBENCH_REAL", Path(__file__).resolve().parents[2] / "shared" / "real"))
    parser.add_argument("--data", type=Path, default=default, help="folder with val/ and val_label.txt")
    parser.add_argument("--model", default="mnasnet0_5", help="torchvision model")
    parser.add_argument("--weights", type=Path, help="state dict (default: DATA/mnasnet0_5_memorised.pth)")
    parser.add_argument("--resize", type=int, default=384, help="short side at which models are judged")
    parser.add_argument("--calibration-resize", type=int, default=256)
    parser.add_argument("--images", type=int, default=100, help="calibration images, evenly spaced")
    parser.add_argument("--seed", type=int, default=0, help="of the rescaling")
    parser.add_argument("--hardness", nargs="+", default=["trained", "hard3", "hard5"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        method, *paths = options.child
        quantize_here(method, *map(Path, paths))
        return
    weights = options.weights or options.data / "mnasnet0_5_memorised.pth"
    lines = [line.rsplit(" ", 1) for line in (options.data / "val_label.txt").read_text().splitlines()]
    names, labels = [name for name, _ in lines], np.array([int(label) for _, label in lines])
    table: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        every = np.linspace(0, len(names) - 1, min(options.images, len(names))).round().astype(int)
        chosen = [names[i] for i in every]
        calibration = store_pixels(options.data, chosen, options.calibration_resize, work / "calibration.npy")
        judging = store_pixels(options.data, names, options.resize, work / "judging.npy")
        for hardness in options.hardness:
            source = work / f"{hardness}.onnx"
            reach = 0.0 if hardness == "trained" else float(hardness.removeprefix("hard"))
            export(options.model, weights, reach, options.seed, source)
            reference = logits(source, judging)
            rows = table[hardness] = {"fp32": judged(reference, reference + 1e-12, labels)}
            for method in options.methods:
                if method == "nncf" and importlib.util.find_spec("nncf") is None:
                    rows[method] = None
                    continue
                target = work / f"{hardness}-{method}.onnx"
                cost = quantize_apart(method, source, target, calibration)
                rows[method] = judged(reference, logits(target, judging), labels) | cost
                print(f"{hardness:8} {method:28} {rows[method]}", flush=True)
    print(json.dumps(table))


if __name__ == "__main__":
    main()
