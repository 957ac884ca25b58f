"""What a conditioned graph brings compilers that are not ours: raw and conditioned, given to each of them.

The nets are those that benchmarks/quantization.py keeps in its --folder: NAME/ with model.onnx, calibration.npy and
judging.npy (uint8 (n, 3, H, W)), images.json (the preprocessing). Every method gets the same calibration pixels; every
row is judged against the raw graph's fp32 on images that calibrated and conditioned nothing. The last line is JSON:
net -> method -> raw and conditioned -> agreement (percent), sqnr_db; an error's first line for what failed.

    python benchmarks/condition.py --folder results/quantization --nncf-python OTHER/bin/python hard5 lite0
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import quantization

from mnasbench.data.preprocess import normalise
from mnasbench.preprocessing import Preprocessing

BATCH = 10
# Modes of a TVM-like compiler that are tried; the best is what `ort-vamc foresee` would ask for.
MODES = ("percentile", "max", "kl_divergence", "mse")
Batches = Callable[[], Iterator[np.ndarray]]


def _thinned(pixels: np.ndarray, count: int) -> np.ndarray:
    places = np.linspace(0, len(pixels) - 1, min(count, len(pixels))).round().astype(int)
    return np.asarray(pixels[places])


class Net:
    """One network of the folder: its graph, and both parts of its images, evenly thinned out to so many."""

    def __init__(self, folder: Path, calibration: int, judged: int) -> None:
        self.model = onnx.load(folder / "model.onnx")
        self.input = self.model.graph.input[0].name
        self.how = Preprocessing.from_json(json.loads((folder / "images.json").read_text()))
        self.pixels = {
            part: _thinned(np.load(folder / f"{part}.npy", mmap_mode="r", allow_pickle=False), count)
            for part, count in (("calibration", calibration), ("judging", judged))
        }

    def batches(self, part: str = "calibration") -> Iterator[np.ndarray]:
        """The normalised images of one part."""
        pixels = self.pixels[part]
        return (normalise(pixels[i : i + BATCH], self.how) for i in range(0, len(pixels), BATCH))

    def logits(self, model: onnx.ModelProto) -> np.ndarray:
        """What a graph answers to the judged images, float64 (n, classes)."""
        options = ort.SessionOptions()
        options.log_severity_level = 3
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        step = session.get_inputs()[0].shape[0]
        parts = [
            session.run(None, {name: batch[i : i + 1] if step == 1 else batch})[0]
            for batch in self.batches("judging")
            for i in (range(len(batch)) if step == 1 else (0,))
        ]
        return np.concatenate(parts).astype(np.float64)


def conditioned(net: Net) -> onnx.ModelProto:
    """The net's graph as `ort-vamc condition --target onnxruntime` writes it."""
    from mnasbench.build.condition import condition

    return condition(net.model, net.batches, "onnxruntime", kinds=("asymmetric",)).model


def onnx_runtime(net: Net, model: onnx.ModelProto, method: str, *, symmetric: bool = False) -> onnx.ModelProto:
    """ONNX Runtime's own, as benchmarks/quantization.py calls it."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
        onnx.save(model, source)
        quantization.onnx_runtime(source, target, net.batches, method, symmetric=symmetric)
        return onnx.load(target)


def nncf(net: Net, model: onnx.ModelProto, python: Path) -> onnx.ModelProto:
    """NNCF with full bias correction, run by a Python that has it."""
    with tempfile.TemporaryDirectory() as folder:
        source, images, target = (Path(folder) / name for name in ("source.onnx", "images.npy", "target.onnx"))
        onnx.save(model, source)
        np.save(images, np.concatenate(list(net.batches())))
        command = [str(python), __file__, "--nncf-here", str(source), str(images), str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or ["NNCF failed"])[-1])
        return onnx.load(target)


def nncf_here(source: str, images: str, target: str) -> None:
    """NNCF in this process."""
    import nncf as library

    model = onnx.load(source)
    name = model.graph.input[0].name
    data = library.Dataset(list(np.load(images, mmap_mode="r")), lambda image: {name: np.array(image[None])})
    preset = library.QuantizationPreset.MIXED
    count = len(np.load(images, mmap_mode="r"))
    onnx.save(library.quantize(model, data, subset_size=count, fast_bias_correction=False, preset=preset), target)


def graphs_of(net: Net, python: Path | None) -> Iterator[tuple[str, Callable[[onnx.ModelProto], onnx.ModelProto]]]:
    """Every method: its name, and what it makes of a float graph."""
    from mnasbench.build.foresee import Foresight, kind_named

    yield "ort_minmax", lambda model: onnx_runtime(net, model, "MinMax")
    yield "ort_percentile", lambda model: onnx_runtime(net, model, "Percentile")
    yield "ort_s8", lambda model: onnx_runtime(net, model, "MinMax", symmetric=True)
    if python is not None:
        yield "nncf", lambda model: nncf(net, model, python)
    kept: dict[int, Foresight] = {}

    def tvm_like(model: onnx.ModelProto, kind: str, mode: str) -> onnx.ModelProto:
        if id(model) not in kept:
            kept[id(model)] = Foresight(model, net.batches)
        return kept[id(model)].compiled_with_ending(kind_named(kind), mode)

    for mode in MODES:
        yield f"tvm_like_{mode}", lambda model, mode=mode: tvm_like(model, "symmetric", mode)
    yield "per_tensor_percentile", lambda model: tvm_like(model, "per-tensor", "percentile")
    yield "power_of_two", lambda model: tvm_like(model, "power-of-two", "max")


def score(expected: np.ndarray, given: np.ndarray) -> dict[str, float | None]:
    """Agreement in percent and SQNR in dB; None where nothing differs."""
    from mnasbench.build.gate import agreement, sqnr_db

    kept = sqnr_db(expected, given)
    return {"agreement": round(agreement(expected, given), 2), "sqnr_db": round(kept, 2) if np.isfinite(kept) else None}


def measure(net: Net, python: Path | None, asked: list[str] | None) -> Iterator[tuple[str, dict[str, object]]]:
    """Every method's row of one net, as soon as it is there."""
    expected = net.logits(net.model)
    forms = {"raw": net.model, "conditioned": conditioned(net)}
    yield "fp32", {form: score(expected, net.logits(model)) for form, model in forms.items()}
    for method, quantize in graphs_of(net, python):
        if asked and method not in asked:
            continue
        row: dict[str, object] = {}
        for form, model in forms.items():
            try:
                row[form] = score(expected, net.logits(quantize(model)))
            except Exception as error:  # a foreign library's, of any kind: the other rows are still worth having
                row[form] = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        yield method, row


def main() -> None:
    """Measure, print a line a method, and the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="nets of the folder; default: all")
    parser.add_argument("--folder", type=Path, default=Path("results/quantization"))
    parser.add_argument("--calibration-images", type=int, default=100)
    parser.add_argument("--judged-images", type=int, default=200)
    parser.add_argument("--methods", nargs="*", help="such as ort_minmax, nncf, tvm_like_percentile; default: all")
    parser.add_argument("--nncf-python", type=Path, help="a Python that has nncf; without, its row is left out")
    parser.add_argument("--nncf-here", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.nncf_here:
        nncf_here(*options.nncf_here)
        return
    results: dict[str, dict[str, object]] = {}
    for name in options.names or sorted(file.parent.name for file in options.folder.glob("*/model.onnx")):
        net = Net(options.folder / name, options.calibration_images, options.judged_images)
        results[name] = {}
        for method, row in measure(net, options.nncf_python, options.methods):
            results[name][method] = row
            print(f"{name:24} {method:22} " + "  ".join(f"{form}: {got}" for form, got in row.items()), flush=True)
    print(json.dumps(results, allow_nan=False))


if __name__ == "__main__":
    sys.exit(main())
