"""int8 by this project beside ONNX Runtime's and NNCF's own, over a list of nets of all families.

The nets: a memorised MNasNet on real photographs (trained, and with hidden channels rescaled by 2^U(-k, k): the same
function, harder weights; judged at another resize, where margins are thin), EfficientNet-Lite0 with its published
weights, PP-OCR's net for the direction of a line of text (of the package rapidocr-onnxruntime; lines are drawn), and
nets that the workflow's own rule trains on its demo set, longer where they need it.

Every method quantizes the same ONNX file from the same calibration images in a process of its own, and is judged
against fp32 on other images. Top-1's drop has the paired interval of 95 %. ``int8_macs`` is the share of multiply-adds
whose operands are both quantized; ``ort`` and ``openvino`` are images/s of int8 over those of fp32 by the same
runtime, interleaved, one thread, eight images at a time. A net or a method that fails stands there with the reason.

Nets and rows are kept in --folder: a further call goes on where the last one ended, and makes a row again where the
net, the number of images, the code or the library is another. The last line is JSON: net -> method -> row; null for a
method that is not installed here.

    python benchmarks/quantization.py --folder results/quantization --data ../shared/real
    python benchmarks/quantization.py --nets hard5 lite0 --methods ours ort_minmax ort_percentile nncf
"""

import argparse
import importlib.metadata
import inspect
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from mnasbench.data.preprocess import normalise, pixels_of
from mnasbench.files import canonical_json, read_json, sha256_of_bytes, sha256_of_file, write_json
from mnasbench.preprocessing import Preprocessing
from mnasbench.result.statistics import PairedComparison
from mnasbench.runtimes.base import InputFormat
from mnasbench.runtimes.openvino import OpenVino

ROOT = Path(__file__).resolve().parents[1]
STEPS = ("equalize", "gptq", "correct_bias")
PEERS = ("ort_minmax", "ort_percentile", "nncf")
BATCH = 10
TIMED_BATCH, TIMED_ROUNDS, TIMED_SECONDS = 8, 25, 6.0
MODEL, CALIBRATION, JUDGING, LABELS, HOW = "model.onnx", "calibration.npy", "judging.npy", "labels.npy", "images.json"


# --------------------------------------------------------------------------------------------------------- quantizers
def batches(pixels: Path, how: Preprocessing) -> Iterator[np.ndarray]:
    """The stored images, normalised, a few at a time; the file is mapped and not loaded."""
    stored = np.load(pixels, mmap_mode="r")
    for start in range(0, len(stored), BATCH):
        yield normalise(np.asarray(stored[start : start + BATCH]), how)


def ours(
    source: Path,
    target: Path,
    images: Callable[[], Iterator[np.ndarray]],
    mode: str = "int8-percentile",
    **changes: Any,
) -> None:
    """This project's recipe for the runtime that the workflow would take, or the recipe with changes."""
    from mnasbench.build.compiler import Recipe, compile_model
    from mnasbench.runtimes import choose

    recipe = replace(Recipe(gates_are_fused=choose("auto", mode).fuses_gates), **changes)
    onnx.save(compile_model(onnx.load(source), mode, images, recipe).model, target)


def onnx_runtime(
    source: Path, target: Path, images: Callable[[], Iterator[np.ndarray]], method: str, *, symmetric: bool = False
) -> None:
    """quantize_static as its documentation advises for x86 with VNNI, after its own pre-processing.

    ``symmetric``: activations S8 about zero, not U8.
    """
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
            self.rest = images()

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.rest, None)
            return None if batch is None else {"input": batch}

    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        target,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod[method],
        extra_options={"ActivationSymmetric": symmetric},
    )
    prepared.unlink()


def nncf(source: Path, target: Path, images: Callable[[], Iterator[np.ndarray]]) -> None:
    """NNCF's post-training quantization of ONNX models: full bias correction, transformers as such."""
    import nncf as library

    single = [image[None] for batch in images() for image in batch]
    data = library.Dataset(single, lambda image: {"input": image})
    model = onnx.load(source)
    has_attention = {"Softmax", "MatMul"} <= {node.op_type for node in model.graph.node}
    quantized = library.quantize(
        model,
        data,
        subset_size=len(single),
        fast_bias_correction=False,
        preset=library.QuantizationPreset.MIXED,  # symmetric weights, asymmetric activations, as all of them
        model_type=library.ModelType.TRANSFORMER if has_attention else None,
    )
    onnx.save(quantized, target)


QUANTIZERS: dict[str, Callable[..., None]] = {
    "ours": ours,
    "ours_auto": partial(ours, mode="int8-auto"),
    "ours_for_onnxruntime": partial(ours, gates_are_fused=False),
    "ours_7_bits": partial(ours, reduce_range=True),
    **{f"ours_without_{step}": partial(ours, **{step: False}) for step in STEPS},
    "ort_minmax": partial(onnx_runtime, method="MinMax"),
    "ort_percentile": partial(onnx_runtime, method="Percentile"),
    "nncf": nncf,
}


# --------------------------------------------------------------------------------------------------------------- nets
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


def store_pixels(folder: Path, names: Sequence[str], how: Preprocessing, target: Path, part: str = "val") -> Path:
    """The images' pixels as uint8 (n, 3, height, width)."""
    np.save(target, np.stack([pixels_of(folder / part / name, how) for name in names]))
    return target


def labelled(root: Path, part: str = "val") -> tuple[list[str], np.ndarray]:
    """Names and classes of a part of a dataset in ImageNet's layout."""
    lines = [line.rsplit(" ", 1) for line in (root / f"{part}_label.txt").read_text().splitlines()]
    return [name for name, _ in lines], np.array([int(label) for _, label in lines])


def _store_photographs(data: Path, how: Preprocessing, judged_resize: int | None, folder: Path) -> None:
    """Every third photograph calibrates, the others judge."""
    names, labels = labelled(data)
    others = [index for index in range(len(names)) if index % 3]
    store_pixels(data, names[::3], how, folder / CALIBRATION)
    judging = replace(how, resize=judged_resize) if judged_resize else how
    store_pixels(data, [names[index] for index in others], judging, folder / JUDGING)
    np.save(folder / LABELS, labels[others])
    write_json(folder / HOW, how.to_json())


def memorised(folder: Path, options: argparse.Namespace, reach: float) -> None:
    """mnasnet0_5 that knows the photographs by heart."""
    export("mnasnet0_5", options.data / "mnasnet0_5_memorised.pth", reach, 0, folder / MODEL)
    _store_photographs(options.data, Preprocessing(resize=256, crop=224), 384, folder)


def published(folder: Path, options: argparse.Namespace, library: str, name: str, file: str) -> None:
    """A net with its published weights."""
    from mnasbench.model.architecture import load
    from mnasbench.model.export import export_onnx
    from mnasbench.presets import preset_of_file

    how = preset_of_file(library, name, options.data / file).preprocessing
    model, _ = load(library, name, options.data / file)
    export_onnx(model.eval(), how.crop, folder / MODEL)
    _store_photographs(options.data, how, None, folder)


def text_direction(folder: Path, options: argparse.Namespace) -> None:
    """PP-OCR's classifier: is a line of text upright, or turned by 180 degrees."""
    from mnasbench.model.onnx_import import import_onnx

    file = options.text_direction
    if file is None:
        import rapidocr_onnxruntime

        file = next(Path(rapidocr_onnxruntime.__file__).parent.glob("models/*cls*.onnx"))
    size = (48, 192)
    how = Preprocessing(resize=size, crop=size, mean=(0.5,) * 3, std=(0.5,) * 3, colours="BGR")
    onnx.save(import_onnx(file, size, preprocessing=how).model, folder / MODEL)
    random, turned = np.random.default_rng(0), np.arange(400) % 2
    lines = np.stack([_line_of_text(random, size, bool(each)) for each in turned])
    np.save(folder / CALIBRATION, lines[:100])
    np.save(folder / JUDGING, lines[100:])
    np.save(folder / LABELS, turned[100:])
    write_json(folder / HOW, how.to_json())


WORDS = (
    "invoice",
    "TOTAL",
    "paid",
    "street",
    "Berlin",
    "2024",
    "warning",
    "exit",
    "12.50 EUR",
    "open",
    "north",
    "Platform",
)


def _line_of_text(random: np.random.Generator, size: tuple[int, int], turned: bool) -> np.ndarray:
    """A drawn line, blue, green, red (3, height, width) uint8: of full height, what is left of the width is grey."""
    from PIL import Image, ImageDraw, ImageFilter, ImageFont

    height, width = size
    text = " ".join(random.choice(WORDS) for _ in range(int(random.integers(1, 5))))
    text = text.upper() if random.random() < 0.3 else text
    font = ImageFont.load_default(float(random.uniform(14, 40)))
    left, top, right, bottom = font.getbbox(text)
    paper, ink = random.integers(130, 256, 3), random.integers(0, 130, 3)
    paper, ink = (ink, paper) if random.random() < 0.3 else (paper, ink)
    edge = int(random.integers(1, 6))
    image = Image.new("RGB", (int(right - left) + 2 * edge, int(bottom - top) + 2 * edge), tuple(map(int, paper)))
    ImageDraw.Draw(image).text((edge - left, edge - top), text, font=font, fill=tuple(map(int, ink)))
    image = image.rotate(float(random.normal(0, 2)), Image.Resampling.BILINEAR, fillcolor=tuple(map(int, paper)))
    image = image.filter(ImageFilter.GaussianBlur(float(random.uniform(0, 2))))
    image = image.rotate(180) if turned else image
    wide = min(width, int(np.ceil(height * image.width / image.height)))
    drawn = np.asarray(image.resize((wide, height), Image.Resampling.BILINEAR), dtype=np.float64)
    line = np.full((height, width, 3), 128.0)
    line[:, :wide] = drawn + random.normal(0, random.uniform(0, 30), drawn.shape)
    return np.clip(line.round(), 0, 255).astype(np.uint8)[:, :, ::-1].transpose(2, 0, 1)


def demo(folder: Path, options: argparse.Namespace, library: str, name: str, steps: int) -> None:
    """A net that the workflow's own rule trains on its demo set."""
    import torch

    from mnasbench.data.demo import make_demo
    from mnasbench.model.architecture import load
    from mnasbench.model.export import export_onnx
    from mnasbench.model.fusion import fuse_branches
    from mnasbench.model.train_demo import save_weights, train_demo
    from mnasbench.presets import preset

    root = options.folder / "demo"
    if not (root / "classes.txt").exists():  # which is written last
        make_demo(root, training=4000, validation=480)
    save_weights(train_demo(library, name, root, steps=steps), folder / "weights.pth")
    model, _ = load(library, name, folder / "weights.pth")
    how = preset(library, name).preprocessing
    torch.set_num_threads(1)
    export_onnx(fuse_branches(model.eval(), how.crop)[0], how.crop, folder / MODEL)
    names, labels = labelled(root)
    store_pixels(root, names, how, folder / JUDGING)
    np.save(folder / LABELS, labels)
    store_pixels(root, labelled(root, "train")[0][:100], how, folder / CALIBRATION, "train")
    write_json(folder / HOW, how.to_json())


NETS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "trained": partial(memorised, reach=0.0),
    "hard3": partial(memorised, reach=3.0),
    "hard5": partial(memorised, reach=5.0),
    "lite0": partial(published, library="timm", name="tf_efficientnet_lite0", file="tf_efficientnet_lite0.pth"),
    "textdir": text_direction,
    **{
        f"{name}-demo": partial(demo, library=library, name=name, steps=steps)
        for library, name, steps in (
            ("torchvision", "mobilenet_v3_small", 600),
            ("torchvision", "mobilenet_v2", 400),
            ("torchvision", "efficientnet_b0", 350),
            ("timm", "lcnet_050", 1000),
            ("timm", "ghostnet_100", 500),
            ("torchvision", "shufflenet_v2_x0_5", 600),
            ("timm", "mobilevit_xxs", 500),
            ("timm", "test_vit", 1200),
            ("timm", "test_convnext", 1500),
            ("timm", "repvgg_a0", 250),
            ("torchvision", "resnet18", 300),
            ("torchvision", "squeezenet1_1", 800),
        )
    },
}


def make_net(name: str, options: argparse.Namespace) -> Path:
    """The folder of a net, made where it is not complete."""
    folder: Path = options.folder / name
    if not (folder / HOW).exists():  # which is written last
        folder.mkdir(parents=True, exist_ok=True)
        NETS[name](folder, options)
    return folder


# ------------------------------------------------------------------------------------------------------------ judging
def one_thread() -> ort.SessionOptions:
    """Options of a session of one thread that says nothing but errors."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return options


def logits(path: Path, pixels: Path, how: Preprocessing) -> np.ndarray:
    """Logits of every stored image, float64."""
    session = ort.InferenceSession(str(path), one_thread(), providers=["CPUExecutionProvider"])
    runs = (session.run(None, {"input": batch})[0] for batch in batches(pixels, how))
    return np.concatenate(list(runs)).astype(np.float64)


def judged(reference: np.ndarray, values: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Top-1, its drop with the interval, and agreement in percent; SQNR over the logits in dB."""
    noise = np.square(reference - values).sum()
    before, after = (scores.argmax(1) == labels for scores in (reference, values))
    pair = PairedComparison(len(labels), int((before & ~after).sum()), int((after & ~before).sum()))
    return {
        "agreement": round(100 * float(np.mean(reference.argmax(1) == values.argmax(1))), 2),
        "sqnr_db": round(10 * float(np.log10(np.square(reference).sum() / noise)), 2),
        "top1": round(100 * float(np.mean(after)), 2),
        "drop": round(100 * pair.drop, 2),
        "drop_interval": [round(100 * limit, 2) for limit in pair.drop_interval()],
        "images": len(labels),
    }


def int8_share(model: onnx.ModelProto) -> float:
    """Percent of multiply-adds, of one image, whose operands both come out of a DequantizeLinear."""
    from mnasbench.build.shapes import settle_shapes

    stated = settle_shapes(model)
    sides = {
        value.name: [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
        for value in (*stated.graph.input, *stated.graph.value_info, *stated.graph.output)
    }
    sides |= {tensor.name: list(tensor.dims) for tensor in stated.graph.initializer}
    # Of the graph as it was: to the settled one, a weight that is dequantized is a constant.
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    work = {True: 0.0, False: 0.0}
    for node in stated.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        left, right = (sides[name] for name in node.input[:2])
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        inner = np.prod(right[1:]) if node.op_type == "Conv" else left[-2 if transposed else -1]
        is_int8 = all(makers.get(name) == "DequantizeLinear" for name in node.input[:2])
        work[is_int8] += float(np.prod(sides[node.output[0]]) * inner)
    return round(100 * work[True] / sum(work.values()), 1)


def runner(runtime: str, path: Path, images: np.ndarray) -> Callable[[], Any]:
    """A call that runs a graph on these images by one thread of a runtime."""
    if runtime == "ort":
        loaded = ort.InferenceSession(str(path), one_thread(), providers=["CPUExecutionProvider"])
        return lambda: loaded.run(None, {"input": images})
    # By itself OpenVINO computes what is float in bf16 on newer CPUs; the project's session does not let it.
    session = OpenVino().open(path, InputFormat("input", images.shape[2:], None), threads=1, batch=len(images))
    return lambda: session.infer(images)


def speed(runtime: str, source: Path, target: Path, images: np.ndarray) -> dict[str, float]:
    """int8 over fp32, the median of interleaved runs, and the images/s of both."""
    runs = [runner(runtime, path, images) for path in (source, target)]
    for run in runs:
        run()
    seconds: list[list[float]] = []
    begin = time.perf_counter()
    while len(seconds) < TIMED_ROUNDS and (len(seconds) < 5 or time.perf_counter() - begin < TIMED_SECONDS):
        seconds.append([])
        for run in runs:
            start = time.perf_counter()
            run()
            seconds[-1].append(time.perf_counter() - start)
    taken = np.array(seconds)
    per_second = len(images) / np.median(taken, axis=0)
    ratio = float(np.median(taken[:, 0] / taken[:, 1]))
    return {"ratio": round(ratio, 2), "fp32": round(per_second[0], 1), "int8": round(per_second[1], 1)}


# ------------------------------------------------------------------------------------------- what is run apart, by name
def child(task: str, net: Path, method: str, images: int) -> dict[str, Any]:
    """One task of a row, in this process."""
    source, target = net / MODEL, net / f"{method}.onnx"
    how = Preprocessing.from_json(read_json(net / HOW))
    calibration = np.load(net / CALIBRATION, mmap_mode="r")
    every = np.linspace(0, len(calibration) - 1, min(images, len(calibration))).round().astype(int)

    def chosen() -> Iterator[np.ndarray]:
        for start in range(0, len(every), BATCH):
            yield normalise(np.asarray(calibration[every[start : start + BATCH]]), how)

    if task == "build":
        start = time.perf_counter()
        QUANTIZERS[method](source, target, chosen)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts in KiB
        return {"seconds": round(seconds, 1), "peak_gb": round(peak, 2)}
    pixels = np.asarray(calibration[np.arange(TIMED_BATCH) % len(calibration)])
    timed = partial(speed, source=source, target=target, images=normalise(pixels, how))
    if task == "judge":
        reference = logits(source, net / JUDGING, how)
        row = judged(reference, logits(target, net / JUDGING, how), np.load(net / LABELS))
        return row | {"int8_macs": int8_share(onnx.load(target)), "ort": timed("ort")}
    return {"openvino": timed("openvino")}


def apart(python: str, task: str, net: Path, method: str, images: int) -> dict[str, Any]:
    """One task in a process of its own: time and peak memory are nobody else's, and a crash ends nothing else."""
    command = [python, __file__, "--child", task, str(net), method, str(images)]
    path = os.pathsep.join(filter(None, [str(ROOT / "workflow"), os.environ.get("PYTHONPATH")]))
    finished = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    if finished.returncode:
        lines = finished.stderr.strip().splitlines() or [f"ended by signal {-finished.returncode}"]
        return {"failed": f"{task}: {lines[-1][:200]}"}
    values: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return values


def version(python: str, package: str) -> str | None:
    """The version of a package in a Python, None where it has none."""
    ask = f"import importlib.metadata as m; print(m.version({package!r}))"
    finished = subprocess.run([python, "-c", ask], capture_output=True, text=True)
    return finished.stdout.strip() if finished.returncode == 0 else None


@dataclass(frozen=True)
class Method:
    """A method as it is here: the Python that runs it, and what decides its result (None: not installed)."""

    name: str
    python: str
    code: str | None


def method_named(name: str, nncf_python: str) -> Method:
    """Its code is this tree's or a library's version."""
    if name == "nncf":
        return Method(name, nncf_python, version(nncf_python, "nncf"))
    if name.startswith("ort"):
        return Method(name, sys.executable, version(sys.executable, "onnxruntime"))
    from mnasbench.code_digest import code_digest

    return Method(name, sys.executable, code_digest(ROOT / "workflow/mnasbench/commands/ort_vamc.py"))


def row_of(net: Path, method: Method, images: int) -> dict[str, Any] | None:
    """The row of a method on a net, as it is kept or made."""
    if method.code is None:
        return None
    files = [sha256_of_file(net / file) for file in (MODEL, CALIBRATION, JUDGING, LABELS, HOW)]
    versions = [importlib.metadata.version(name) for name in ("onnxruntime", "openvino")]
    quantizer = getattr(QUANTIZERS[method.name], "func", QUANTIZERS[method.name])
    here = [inspect.getsource(each) for each in (quantizer, child, batches, logits, judged, int8_share, runner, speed)]
    of = sha256_of_bytes(canonical_json([files, images, method.name, method.code, versions, here]).encode())
    kept = net / f"{method.name}.json"
    if kept.exists() and read_json(kept)["of"] == of:
        return read_json(kept)["row"]
    row: dict[str, Any] = {}
    for task in ("build", "judge", "openvino"):
        python = method.python if task == "build" else sys.executable
        values = apart(python, task, net, method.name, images)
        row |= {task: values} if "failed" in values and task == "openvino" else values
        if "failed" in row:
            break
    write_json(kept, {"of": of, "row": row})
    return row


# -------------------------------------------------------------------------------------------------------------- table
COLUMNS = ("agreement", "sqnr_db", "top1", "drop", "int8_macs", "ort", "openvino", "seconds", "peak_gb")


def cells(row: dict[str, Any] | None) -> list[str]:
    """A row as the table has it."""
    if row is None:
        return ["not installed"]
    if "failed" in row:
        return [f"failed: {row['failed'][:70]}"]
    low, high = row["drop_interval"]
    ratios = {name: row[name].get("ratio", "failed") for name in ("ort", "openvino")}
    shown = row | ratios | {"drop": f"{row['drop']:.1f} ({low:.1f} to {high:.1f})"}
    return [str(shown[column]) for column in COLUMNS]


def ahead(rows: dict[str, dict[str, Any] | None]) -> str:
    """How far our best method is before the best peer: dB, and images of the same answer as fp32."""
    judged_rows = {name: row for name, row in rows.items() if row is not None and "failed" not in row}
    own = [row for name, row in judged_rows.items() if name in ("ours", "ours_auto")]
    peers = [row for name, row in judged_rows.items() if name in PEERS]
    if not own or not peers:
        return ""
    best = max(own, key=lambda row: row["sqnr_db"])
    decibels = best["sqnr_db"] - max(row["sqnr_db"] for row in peers)
    images = (best["agreement"] - max(row["agreement"] for row in peers)) * best["images"] / 100
    return f"{decibels:+.1f} dB, {images:+.0f} of {best['images']} images"


def show(table: dict[str, dict[str, Any]]) -> None:
    """The table on the terminal, in Markdown."""
    print(f"| net | method | {' | '.join(COLUMNS)} |\n|{' --- |' * (len(COLUMNS) + 2)}")
    for net, rows in table.items():
        for method, row in rows.items():
            print(f"| {net} | {method} | {' | '.join(cells(row))} |")
        if ahead(rows):
            print(f"| {net} | *ours before the best peer* | {ahead(rows)} |")


def main() -> None:
    """Measure what the flags ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    real = Path(os.environ.get("MNASBENCH_REAL", ROOT.parent / "shared" / "real"))
    parser.add_argument("--folder", type=Path, default=Path("results/quantization"), help="keeps nets and rows")
    parser.add_argument("--data", type=Path, default=real, help="folder with val/, val_label.txt and weights")
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=NETS, metavar="NET", help=" ".join(NETS))
    default = ["ours", "ours_auto", "ours_for_onnxruntime", *PEERS]
    parser.add_argument("--methods", nargs="+", default=default, choices=QUANTIZERS)
    parser.add_argument("--images", type=int, default=100, help="calibration images, evenly spaced")
    parser.add_argument("--nncf-python", default=sys.executable, help="the Python in which nncf is installed")
    parser.add_argument("--text-direction", type=Path, help="ch_ppocr_mobile_v2.0_cls_infer.onnx, where not installed")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        task, net, method, images = options.child
        print(json.dumps(child(task, Path(net), method, int(images))))
        return
    methods = [method_named(name, options.nncf_python) for name in options.methods]
    table: dict[str, dict[str, Any]] = {}
    for name in options.nets:
        try:
            net = make_net(name, options)
        except Exception as error:  # of any library that a net is made with
            table[name] = {"net": {"failed": f"{type(error).__name__}: {error}"}}
            continue
        table[name] = {}
        for each in methods:
            table[name][each.name] = row_of(net, each, options.images)
            print(f"{name:24} {each.name:22} {' '.join(cells(table[name][each.name]))}", file=sys.stderr, flush=True)
    show(table)
    print(json.dumps(table))


if __name__ == "__main__":
    main()
