"""Throughput and latency of the embedded engine beside its peers, from uint8 pixels in memory to logits.

Ours is what ort-vamc builds and ort-vamp runs. The peers: plain ONNX Runtime (the exported graph, default session
options), OpenVINO (fp32, and int8 by NNCF; normalisation in its own preprocessing, threads and streams by its own
hints) and torch eager. All take the same 64 images in turn. Contenders take turns within each round, and a ratio is
formed within each round. Each side counts with its best batch size. mnasnet0_5 has the weights given; others have
random ones with BatchNorm statistics of the images.

Larger is better in all ratios: int8_vs_openvino_int8, int8_vs_fp32 and fp32_vs_openvino_fp32 are of throughput at
saturation; latency_vs_openvino is OpenVINO's latency over ours, one image at a time, int8. by_cpu_time holds the
first three by images per second of CPU time instead of wall clock, which other load on the machine disturbs less.
Last line: one JSON object. OpenVINO and NNCF are in benchmarks/requirements.txt; without them their ratios are null.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "workflow"))

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402

from mnasbench.build.config import BuildConfig  # noqa: E402
from mnasbench.build.vamc import build  # noqa: E402
from mnasbench.cpus import usable_cpus  # noqa: E402
from mnasbench.data.preprocess import normalise, pixels_of  # noqa: E402
from mnasbench.machine import machine  # noqa: E402
from mnasbench.model import architecture  # noqa: E402
from mnasbench.model.export import export_onnx  # noqa: E402
from mnasbench.model.torchvision_import import torchvision  # noqa: E402
from mnasbench.preprocessing import Preprocessing  # noqa: E402
from mnasbench.run.inputs import Preprocessor  # noqa: E402
from mnasbench.run.interference import Monitor  # noqa: E402
from mnasbench.run.session import ModelSession  # noqa: E402

P = Preprocessing()
CROPPED = Preprocessing(resize=P.crop, crop=P.crop)
DISTINCT, CALIBRATION = 64, 50

Request = Callable[[list[np.ndarray]], object]
Contender = list[Request]  # one request function for each worker thread
Figures = tuple[float, float]  # images a second, and images per second of CPU time
WALL, CPU = 0, 1


# ------------------------------------------------------------------------------------------------------- contenders
def ours(prefix: Path, workers: int, threads: int, batch: int) -> Contender:
    def request(engine: ModelSession) -> Request:
        preprocess = Preprocessor(CROPPED, engine.format)
        return lambda images: engine.infer(preprocess(images, out=engine.tensor))

    return [request(ModelSession.open(prefix, threads, batch, P)) for _ in range(workers)]


def plain_onnxruntime(graph: Path) -> Contender:
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return [lambda images: session.run(None, {name: normalise(np.stack(images), P)})]


def torch_eager(model: torch.nn.Module) -> Contender:
    @torch.inference_mode()
    def request(images: list[np.ndarray]) -> object:
        return model(torch.from_numpy(normalise(np.stack(images), P)))

    return [request]


def openvino_model(graph: Path, calibration: np.ndarray | None) -> Any:
    """The model in OpenVINO, quantized by NNCF where images are given, taking planar uint8 pixels."""
    import openvino as ov
    from openvino.preprocess import PrePostProcessor

    model = ov.convert_model(graph)
    if calibration is not None:
        import nncf

        dataset = nncf.Dataset(list(calibration), lambda item: item[None])
        model = nncf.quantize(model, dataset, subset_size=len(calibration))
    preparation = PrePostProcessor(model)
    preparation.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NCHW"))
    preparation.input().model().set_layout(ov.Layout("NCHW"))
    steps = preparation.input().preprocess().convert_element_type(ov.Type.f32)
    steps.mean([255 * value for value in P.mean]).scale([255 * value for value in P.std])
    return preparation.build()


def openvino(model: Any, precision: str, batch: int, hint: str) -> Contender:
    import openvino as ov

    model = model.clone()
    model.reshape([batch, 3, P.crop, P.crop])
    options = {"PERFORMANCE_HINT": hint}
    if precision == "fp32":
        # By default OpenVINO computes fp32 models in bf16 where the CPU can, which is another precision's row.
        options["INFERENCE_PRECISION_HINT"] = "f32"
    compiled = ov.Core().compile_model(model, "CPU", options)
    count = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") if hint == "THROUGHPUT" else 1

    def request() -> Request:
        infer = compiled.create_infer_request()
        return lambda images: infer.infer([np.stack(images)], share_inputs=True)

    return [request() for _ in range(count)]


# ------------------------------------------------------------------------------------------------------------ models
def torch_model(name: str, weights: Path | None, images: np.ndarray) -> torch.nn.Module:
    if weights is not None:
        return architecture.load("torchvision", name, weights)[0].eval()
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the average over all batches seen
    with torch.inference_mode():
        for _ in range(3):
            model.train()(torch.from_numpy(images[:16]))
    return model.eval()


def compiled(name: str, graph: Path, precision: str, calibration: Path, folder: Path) -> Path:
    config = BuildConfig(
        generation=1,
        name=name,
        checkpoint=graph,
        input_name="input",
        shape=(1, 3, P.crop, P.crop),
        precision=precision,
        preprocessing=P,
        dataset=calibration if precision != "fp32" else None,
        suffix="JPEG",
        images=CALIBRATION if precision != "fp32" else None,
        work_dir=folder,
        backend="ort",
    )
    return build(config)[0].prefix


def plain_int8(graph: Path, calibration: np.ndarray, target: Path) -> Path:
    """ONNX Runtime's own static quantization: MinMax, U8 activations, S8 weights per channel."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches: Iterator[np.ndarray] = iter(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.batches, None)
            return None if image is None else {"input": image[None]}

    types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(onnx.load(graph), target, Reader(), per_channel=True, **types)
    return target


# ------------------------------------------------------------------------------------------------------- measurement
def throughput(contender: Contender, batch: int, images: Sequence[np.ndarray], seconds: float) -> Figures:
    """Images a second while every worker issues its next request as soon as it is free."""
    end = time.perf_counter() + seconds

    def work(request: Request) -> tuple[int, float]:
        done = 0
        while time.perf_counter() < end:
            first = done % len(images)
            request([images[(first + i) % len(images)] for i in range(batch)])
            done += batch
        return done, time.perf_counter()

    begin, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(len(contender)) as pool:
        parts = list(pool.map(work, contender))
    cpu = time.process_time() - cpu
    # Each worker's own rate over its own time: the last request of one does not idle the others' clocks.
    return sum(done / (finished - begin) for done, finished in parts), sum(done for done, _ in parts) / cpu


def single_stream(contender: Contender, images: Sequence[np.ndarray], requests: int) -> Figures:
    """One over the median seconds of a request of one image."""
    times = []
    cpu = time.process_time()
    for i in range(requests):
        begin = time.perf_counter()
        contender[0]([images[i % len(images)]])
        times.append(time.perf_counter() - begin)
    return 1 / statistics.median(times), requests / (time.process_time() - cpu)


def interleaved(contenders: dict[Any, Callable[[], Figures]], rounds: int) -> dict[Any, list[Figures]]:
    """Every contender's figures in every round, after one round to warm up."""
    figures: dict[Any, list[Figures]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, measure in contenders.items():
            value = measure()
            if turn:
                figures[name].append(value)
    return figures


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def best(figures_of: dict[Any, list[Figures]], side: str, which: int) -> list[float] | None:
    """One of the figures of a side in each round, of its best batch size and setting by median."""
    rounds = [[figures[which] for figures in values] for (name, *_), values in figures_of.items() if name == side]
    return max(rounds, key=statistics.median, default=None)


def ratio(figures_of: dict[Any, list[Figures]], above: str, below: str, which: int = WALL) -> dict[str, float] | None:
    first, second = best(figures_of, above, which), best(figures_of, below, which)
    if first is None or second is None:
        return None
    return spread([a / b for a, b in zip(first, second, strict=True)])


def measure_model(name: str, arguments: argparse.Namespace, folder: Path, has_openvino: bool) -> dict[str, Any]:
    paths = sorted((arguments.root / "val").glob("*.JPEG"))
    images = [pixels_of(path, P) for path in paths[:DISTINCT]]
    calibration = normalise(np.stack([pixels_of(path, P) for path in paths[:: len(paths) // CALIBRATION]]), P)
    weights = arguments.root / "mnasnet0_5_memorised.pth" if name == "mnasnet0_5" else None
    model = torch_model(name, weights, calibration)
    graph = folder / f"{name}.onnx"
    export_onnx(model, P.crop, graph)
    prefixes = {
        precision: compiled(name, graph, precision, arguments.root / "val", folder)
        for precision in ("fp32", "int8-percentile")
    }
    plain = {"fp32": graph, "int8": plain_int8(graph, calibration, folder / f"{name}-plain-int8.onnx")}
    openvinos = {}
    if has_openvino:
        openvinos = {"fp32": openvino_model(graph, None), "int8": openvino_model(graph, calibration)}

    cpus = usable_cpus()
    threads = sorted({(cpus, 1), (1, cpus)})  # sessions, threads of each
    contenders: dict[Any, Callable[[], Figures]] = {}
    single: dict[Any, Callable[[], Figures]] = {}

    def add(side: str, batch: int, contender: Contender, *setting: Any) -> None:
        contenders[side, batch, *setting] = lambda: throughput(contender, batch, images, arguments.seconds)

    def add_single(side: str, contender: Contender, *setting: Any) -> None:
        single[side, *setting] = lambda: single_stream(contender, images, arguments.requests)

    for precision, prefix in prefixes.items():
        kind = precision.partition("-")[0]
        for workers, each in threads:
            for batch in arguments.batches:
                add(f"ours_{kind}", batch, ours(prefix, workers, each, batch), workers)
        for each in sorted({1, cpus}):
            add_single(f"ours_{kind}", ours(prefix, 1, each, 1), each)
    for batch in arguments.batches:
        for kind, file in plain.items():
            add(f"onnxruntime_{kind}", batch, plain_onnxruntime(file))
        add("torch_fp32", batch, torch_eager(model))
        for kind, ready in openvinos.items():
            add(f"openvino_{kind}", batch, openvino(ready, kind, batch, "THROUGHPUT"))
    for kind, ready in openvinos.items():
        add_single(f"openvino_{kind}", openvino(ready, kind, 1, "LATENCY"))

    rates = interleaved(contenders, arguments.rounds)
    speeds = interleaved(single, arguments.rounds)
    pairs = {
        "int8_vs_openvino_int8": ("ours_int8", "openvino_int8"),
        "int8_vs_fp32": ("ours_int8", "ours_fp32"),
        "fp32_vs_openvino_fp32": ("ours_fp32", "openvino_fp32"),
    }
    return {
        **{key: ratio(rates, *pair) for key, pair in pairs.items()},
        "latency_vs_openvino": ratio(speeds, "ours_int8", "openvino_int8"),
        "by_cpu_time": {key: ratio(rates, *pair, CPU) for key, pair in pairs.items()},
        "throughput_qps": {_label(key): spread([wall for wall, _ in values]) for key, values in rates.items()},
        "cpu_us_per_image": {_label(key): spread([1e6 / cpu for _, cpu in values]) for key, values in rates.items()},
        "latency_us": {_label(key): spread([1e6 / wall for wall, _ in values]) for key, values in speeds.items()},
    }


def _label(key: tuple[Any, ...]) -> str:
    return " ".join(map(str, key))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("MNASBENCH_REAL", REPOSITORY.parent / "shared" / "real")
    parser.add_argument("--root", type=Path, default=Path(default), help="folder with val/*.JPEG and the weights")
    parser.add_argument("--models", nargs="+", default=["mnasnet0_5", "mnasnet1_0"], help="torchvision's names")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 22])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.7, help="of each contender in each round")
    parser.add_argument("--requests", type=int, default=150, help="of each contender in each round of latencies")
    arguments = parser.parse_args(argv)
    has_openvino = all(importlib.util.find_spec(module) for module in ("openvino", "nncf"))
    if not has_openvino:
        print("openvino or nncf is missing: pip install -r benchmarks/requirements.txt", file=sys.stderr)

    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.models:
            with Monitor() as monitor:
                started, cpu = time.monotonic(), time.process_time()
                results[name] = measure_model(name, arguments, Path(folder), has_openvino)
            observation = monitor.observation(started, time.monotonic(), time.process_time() - cpu, usable_cpus())
            results[name]["other_load"] = {"cpu_share": observation.other_share, "steal_share": observation.steal_share}
            for key, value in results[name]["throughput_qps"].items():
                print(f"{name} {key:26s} {value['median']:8.1f}  [{value['low']:.1f} {value['high']:.1f}] images/s")
            for key, value in results[name]["latency_us"].items():
                print(f"{name} {key:26s} {value['median']:8.0f}  [{value['low']:.0f} {value['high']:.0f}] us")
    packages = ("onnxruntime", "torch", *(("openvino", "nncf") if has_openvino else ()))
    versions = {package: importlib.metadata.version(package) for package in packages}
    print(json.dumps({**results, "machine": machine(), "versions": versions}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
