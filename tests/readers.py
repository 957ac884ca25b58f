"""Every reader of a file that somebody else may have written, with whole examples of what it reads.

The property tests spoil these examples at random, benchmarks/fuzz.py by coverage. A reader gives its value or an error
of ours in one line; anything else (another exception, a hang, memory without bound) is a finding.
"""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
import yaml
from PIL import Image

from made_receipt import made_receipt
from mnasbench.build.config import BuildConfig, build_file, read_build_config
from mnasbench.build.package import read_package
from mnasbench.build.vamc import describe, read_checkpoint
from mnasbench.build.vdsp_params import VARIANTS, read_vdsp_params, vdsp_params
from mnasbench.build.vendor import for_the_card, prefix_of_model_info, vendor_model_info
from mnasbench.data.class_names import read_class_names
from mnasbench.data.class_order import ClassRule, class_order
from mnasbench.data.datalist import read_datalist
from mnasbench.data.image_keys import by_key
from mnasbench.data.labels import read_labels
from mnasbench.data.looks import LookMemory
from mnasbench.data.manifest import look_at
from mnasbench.data.manifest_file import read_manifest
from mnasbench.data.npz import read_npz, read_output
from mnasbench.data.preprocess import pixels_of
from mnasbench.data.shard import InputShard, read_scores
from mnasbench.errors import InputError, MnasbenchError
from mnasbench.file_memory import FileState
from mnasbench.files import read_text, read_yaml, sha256_of_bytes
from mnasbench.model.weights_file import read_weights
from mnasbench.preprocessing import Preprocessing
from mnasbench.receipts import Acceptance, FileRecord, FolderRecord, damage_of
from mnasbench.result.answers import read_answers
from mnasbench.result.evaluation import accuracy
from mnasbench.result.result_text import read_result_text
from mnasbench.result.results_folder import read_results
from mnasbench.result.summary import make_row, to_csv
from mnasbench.run.session import input_format
from mnasbench.run.vendor import read_report
from mnasbench.settings import load_settings

_GRAPH, _PARAMS = b"a graph", b"its weights"


@dataclass(frozen=True)
class Reader:
    """``read`` takes the path of a file of the name ``file``; ``examples`` are whole files that it takes."""

    name: str
    file: str
    read: Callable[[Path], object]
    examples: Callable[[], list[bytes]]

    def try_content(self, folder: Path, content: bytes) -> str | None:
        """The message of our error about ``content``, None where it is taken; anything else that happens, happens."""
        path = folder / self.file
        path.write_bytes(content)
        try:
            self.read(path)
        except MnasbenchError as error:
            message = str(error)
            assert message.isprintable(), f"not one printable line: {message!r}"
            assert len(message) < 4000, f"a message of {len(message)} characters"
            return message
        return None


# ------------------------------------------------------------------------------------------------------------- files
def _build_yaml(path: Path) -> None:
    config = read_build_config(path)
    _ = build_file(config), for_the_card(config), config.prefix


def _build_yaml_examples() -> list[bytes]:
    wanted = Preprocessing(resize=256, crop=224, colours="BGR")
    configs = [
        BuildConfig(
            generation=generation,
            name="mnasnet0_5",
            checkpoint=Path("onnx/mnasnet0_5_224.onnx"),
            input_name="input",
            shape=(1, 3, 224, 224),
            precision=precision,
            preprocessing=wanted,
            dataset=Path("/data/val"),
            suffix="JPEG",
            images=1000,
            work_dir=Path("out"),
            backend=backend,
            skip_layers=(0, "conv_1") if generation == 2 else (0,),
            softmax=True,
            max_drop=0.5,
        )
        for generation, precision, backend in (
            (1, "int8-mse", "ort"),
            (2, "int8-percentile", "vacc"),
            (2, "fp16", "ort"),
        )
    ]
    return [yaml.safe_dump(build_file(config), sort_keys=False).encode() for config in configs]


def _vdsp_examples() -> list[bytes]:
    squeezed = vdsp_params(Preprocessing(resize=(256, 256), crop=224))
    return [
        *(json.dumps(vdsp_params(Preprocessing(), variant)).encode() for variant in VARIANTS),
        json.dumps(squeezed).encode(),
        json.dumps(vdsp_params(Preprocessing(colours="BGR"), resized=True)).encode(),
    ]


def _labels(path: Path) -> None:
    read_labels(path)


def _wnids(path: Path) -> None:
    class_order(["n01440764", "n01443537"], ClassRule(path))


def _model_info(path: Path) -> None:
    path.with_name("m.onnx").write_bytes(_GRAPH)
    path.with_name("m.params").write_bytes(_PARAMS)
    compiled = read_package(path.with_name("m"))
    _ = compiled.digests, compiled.size_bytes, describe(compiled), input_format(compiled.info)
    Preprocessing.from_json(compiled.info["preprocessing"])


def _model_info_examples() -> list[bytes]:
    info = {
        "name": "mnasnet0_5",
        "engine": "ort",
        "precision": "fp32",
        "inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", 3, 224, 224]}],
        "outputs": [{"name": "output", "dtype": "float32", "shape": ["batch", 1000], "softmax": False}],
        "preprocessing": {"resize": 256, "crop": 224, "interpolation": "bilinear", "library": "pillow"},
        "normalisation": "outside",
        "layout": "NCHW",
        "quantization": None,
        "sources": {"checkpoint": sha256_of_bytes(b"")},
        "notes": ["a note"],
        "files": {
            "graph": "m.onnx",
            "graph_sha256": sha256_of_bytes(_GRAPH),
            "graph_bytes": len(_GRAPH),
            "params": "m.params",
            "params_sha256": sha256_of_bytes(_PARAMS),
            "params_bytes": len(_PARAMS),
        },
    }
    blocks = {"size": 224, "rows": 56, "parts": 2, "scale": 0.02, "zero_point": 114}
    entry = {"name": "input", "dtype": "uint8", "shape": ["batch", 56, 112, 24], "blocks": blocks}
    quantized = {**info, "precision": "int8-max", "inputs": [entry], "quantization": {"mode": "max", "images": 8}}
    return [json.dumps(info).encode(), json.dumps(quantized).encode()]


def _vendor_model_info_examples() -> list[bytes]:
    return [json.dumps(vendor_model_info({"name": "net", "prefix": "out/net"}, "hw.json")).encode()]


def _settings(path: Path) -> None:
    content = read_yaml(path)
    load_settings(content if isinstance(content, dict) else {"models": content})


def _settings_examples() -> list[bytes]:
    models = {"a": {"name": "mnasnet0_5", "weights": "w.pth", "resize": [256, 256]}, "mnasnet1_0": {}}
    whole = {
        "engine": "vacc",
        "dataset": {"name": "set", "root": "/data", "limit": 10, "on_fault": "exclude"},
        "calibration": {"images": 5, "seed": 1, "source": "/train"},
        "models": {"a": models["a"]},
        "precisions": ["fp32", "int8-mse"],
        "quantize": {"skip_layers": ["x"], "max_drop": 0.5},
        "vamp": {"instances": 8, "batch_size": 4},
        "vacc": {"generation": 2, "device": "0:1"},
        "shards": 2,
    }
    return [yaml.safe_dump(value).encode() for value in (whole, {"models": models}, {"models": {"mnasnet0_5": {}}})]


def _result_text(path: Path) -> None:
    by_key(read_result_text(path))


def _result_text_examples() -> list[bytes]:
    lines = (
        f"val/{name}.JPEG: Relay top-{rank} id: {rank + 3}, prob: {0.5 / (rank + 1):.8f}, class name: a name, of {rank}\n"
        for name in ("a", "b: c")
        for rank in range(5)
    )
    return ["".join(lines).encode()]


def _saved(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def _compressed(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def _npz_input_examples() -> list[bytes]:
    pixels = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    return [_saved(input_0=pixels), _compressed(input_0=np.asfortranarray(pixels))]


def _shard_of_inputs(path: Path) -> None:
    shard = InputShard(path)
    shard.rows(0, len(shard.names))
    shard.require_whole()


def _shard_of_inputs_examples() -> list[bytes]:
    pixels = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    return [_saved(names=np.array(["val/a.JPEG", "val/ü.JPEG"]), input_0=pixels)]


def _shard_of_scores_examples() -> list[bytes]:
    return [_saved(names=np.array(["val/a.JPEG", "b"]), output_0=np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3))]


def _npz_output_examples() -> list[bytes]:
    scores = np.linspace(0, 1, 6)
    return [_saved(output_0=scores[None].astype(np.float32)), _compressed(output_0=scores.astype(np.float16))]


def _manifest_examples() -> list[bytes]:
    digest = sha256_of_bytes(b"")
    header = "name,class_index,width,height,mode,bytes,sha256,shard,fault\n"
    return [f'{header}val/a.JPEG,3,500,375,RGB,9000,{digest},0,\n"val/b,""c.JPEG",0,0,0,,0,,1,is empty\n'.encode()]


def _answers(path: Path) -> None:
    answers = read_answers([path])
    accuracy(answers, answers)


def _answers_examples() -> list[bytes]:
    return [b"name,label,top1,top2,top3,top4,top5,signal,noise\na,3,3,1,2,4,5,1.5,0.25\nb,0,1,0,,,,,\n"]


_STATE = FileState(9, 8, 8, 7)


def _looks(path: Path) -> None:
    LookMemory(path.with_name("manifest.csv")).recall({"val/a.JPEG": _STATE})


def _looks_examples() -> list[bytes]:
    files = {"val/a.JPEG": [*_STATE, [3, sha256_of_bytes(b""), 5, 4, "RGB", ""]]}
    return [json.dumps({"format": 1, "boot": "", "files": files}).encode()]


def _receipt(path: Path) -> None:
    damage = damage_of(path, by_contents=True)
    if damage is not None and "is not a receipt" in damage:
        raise InputError(damage)


def _receipt_examples() -> list[bytes]:
    digest = sha256_of_bytes(b"")
    full = made_receipt(
        command=["step.py", "--x"],
        inputs={"a.csv": digest},
        outputs={"receipt.json": FileRecord(3, digest)},
        folders={".": FolderRecord(1, 2, digest, digest)},
        accepted=[Acceptance(digest, "2026-01-02", "a comment")],
    )
    return [json.dumps(receipt.to_json()).encode() for receipt in (full, made_receipt())]


def _summary(path: Path) -> None:
    row = {"model": "mnasnet0_5", "precision": "fp32", "answers": []}
    row |= {"files": {"performance": "empty.json", "accuracy": "empty.json"}}
    files = {"data": {"manifest": "manifest.csv"}, "rows": [row]}
    (path.parent / "empty.json").write_text("{}")
    (path.parent / "summary.json").write_text(json.dumps(files))
    read_results(path.parent)


def _row_files(path: Path) -> None:
    (path.parent / "summary.csv").write_bytes(_summary_examples()[0])
    (path.parent / "empty.json").write_text("{}")
    read_results(path.parent)


def _row_files_examples() -> list[bytes]:
    row = {"model": "mnasnet0_5", "precision": "fp32", "answers": ["answers.csv"]}
    row |= {"files": {"performance": "empty.json", "accuracy": "empty.json"}}
    files = {"data": {"manifest": "manifest.csv"}, "rows": [row]}
    return [json.dumps(files).encode()]


def _summary_examples() -> list[bytes]:
    identity = {"model": "mnasnet0_5", "precision": "fp32", "engine": "ort", "dataset": "demo"}
    accuracy = {"images": 800, "top1": 95.0, "top1_low": 93.0, "top1_high": 96.0, "top5": 99.0}
    latency = {"avg": 1.0, "p50": 1.0}
    performance = {"throughput_qps": 1000.0, "latency_us": latency, "verdict": {"status": "VALID"}}
    sources = {"identity": identity, "accuracy": accuracy, "performance": performance}
    sources |= {
        "compiled": {"files": {"graph_bytes": 8_000_000}},
        "exported": {"params": 2_000_000, "macs": 100_000_000},
    }
    row = make_row(sources)
    return [to_csv([row]).encode()]


def _vamp_report(path: Path) -> None:
    read_report(read_text(path))


def _vamp_report_examples() -> list[bytes]:
    text = """- number of instances in each device: 1
  devices: [0]
  batch size: 1
  samples: 1024
  forwad time (s): 1.31991
  throughput (qps): 775.81
  ai utilize (%): 96.8
  die memory used (MB): 1029.11
  e2e latency (us):
    avg latency: 2540
    min latency: 1900
    max latency: 9000
    p99 latency: 3000
  model latency (us):
    avg latency: 2500
    min latency: 1800
"""
    return [text.encode()]


def _onnx(path: Path) -> None:
    example = _build_yaml_examples()[2]
    path.with_name("build.yaml").write_bytes(example)
    config = read_build_config(path.with_name("build.yaml"))
    from dataclasses import replace

    read_checkpoint(replace(config, checkpoint=path, shape=(1, 3, 8, 8)))


def tiny_onnx() -> onnx.ModelProto:
    """A valid graph of one Conv: input (batch, 3, 8, 8), output (batch, 2, 1, 1)."""
    kind = onnx.TensorProto.FLOAT
    weight = onnx.numpy_helper.from_array(np.ones((2, 3, 8, 8), np.float32), "w")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["input", "w"], ["output"], "conv")],
        "tiny",
        [onnx.helper.make_tensor_value_info("input", kind, ["batch", 3, 8, 8])],
        [onnx.helper.make_tensor_value_info("output", kind, ["batch", 2, 1, 1])],
        [weight],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)


def _onnx_examples() -> list[bytes]:
    return [tiny_onnx().SerializeToString()]


def _weights(path: Path) -> None:
    read_weights(path)


def _weights_examples() -> list[bytes]:
    stream = io.BytesIO()
    torch.save({"layers.0.weight": torch.ones(2, 3), "classifier.1.bias": torch.zeros(2)}, stream)
    return [stream.getvalue()]


def _safetensors_examples() -> list[bytes]:
    from safetensors.torch import save

    return [save({"layers.0.weight": torch.ones(2, 3)})]


def _image(path: Path) -> None:
    fault = look_at(path.parent, path.name)[4]
    try:
        pixels = pixels_of(path, Preprocessing(resize=16, crop=8))
    except MnasbenchError:
        assert fault, "read whole, then refused"
        raise
    assert not fault, f"taken, though it was judged faulty: {fault}"
    assert pixels.shape == (3, 8, 8)


def _encoded(form: str, mode: str = "RGB", **options: object) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(2).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(stream, form, **options)
    return stream.getvalue()


def _image_examples() -> list[bytes]:
    jpegs = [_encoded("JPEG"), _encoded("JPEG", progressive=True), _encoded("JPEG", "L"), _encoded("JPEG", "CMYK")]
    return [*jpegs, *(_encoded(form) for form in ("PNG", "BMP", "WEBP", "TIFF", "GIF")), _encoded("PNG", "P")]


READERS = {
    reader.name: reader
    for reader in (
        Reader("build YAML", "build.yaml", _build_yaml, _build_yaml_examples),
        Reader("vdsp_params", "vdsp_params.json", read_vdsp_params, _vdsp_examples),
        Reader("labels", "val_label.txt", _labels, lambda: [b"a.JPEG 3\nb c.JPEG 0\n", b"\xef\xbb\xbfa\t9\r\n"]),
        Reader("label wnids", "val_label.txt", _labels, lambda: [b"a.JPEG n01440764\nb n01443537\n"]),
        Reader("wnids", "wnids.txt", _wnids, lambda: [b"n01440764\nn01443537\n"]),
        Reader("class names", "classes.txt", read_class_names, lambda: [b"tench, Tinca tinca\r\ncrane\ncrane\n\n"]),
        Reader("result text", "result.txt", _result_text, _result_text_examples),
        Reader("input npz", "a.npz", read_npz, _npz_input_examples),
        Reader("output npz", "a.npz", read_output, _npz_output_examples),
        Reader("shard of inputs", "0.npz", _shard_of_inputs, _shard_of_inputs_examples),
        Reader("shard of scores", "0.npz", read_scores, _shard_of_scores_examples),
        Reader("model_info", "m.json", _model_info, _model_info_examples),
        Reader("vendor's model_info", "i.json", prefix_of_model_info, _vendor_model_info_examples),
        Reader("settings", "config.yaml", _settings, _settings_examples),
        Reader("list", "npz_datalist.txt", read_datalist, lambda: [b"/a/b.npz\n../c d.npz\r\n", b"x.npz"]),
        Reader("manifest", "manifest.csv", read_manifest, _manifest_examples),
        Reader("memory of looks", "manifest.csv.looks.json", _looks, _looks_examples),
        Reader(
            "CSV of labels", "labels.csv", _labels, lambda: [b'path,label\n"a, b",3\nc,0\n', b"label,path\r\ncat,a\r\n"]
        ),
        Reader("answers", "answers.csv", _answers, _answers_examples),
        Reader("receipt", "receipt.json", _receipt, _receipt_examples),
        Reader("summary", "summary.csv", _summary, _summary_examples),
        Reader("row_files", "summary.json", _row_files, _row_files_examples),
        Reader("vamp report", "report.txt", _vamp_report, _vamp_report_examples),
        Reader("ONNX", "m.onnx", _onnx, _onnx_examples),
        Reader("weights", "w.pth", _weights, _weights_examples),
        Reader("safetensors", "w.safetensors", _weights, _safetensors_examples),
        Reader("image", "a.JPEG", _image, _image_examples),
    )
}
