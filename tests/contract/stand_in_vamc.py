"""Stands in for the vendor's compiler: takes exactly what its published build files hold, and nothing of ours.

The keys are those of the files in the vendor's model collection, written down here on their own, so that a build
file which only our own reader understands does not pass. The package is written by the embedded compiler; its int8
is that of a TVM-like quantizer (mnasbench.build.foresee), which knows nothing of equalization.
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from onnx import ModelProto

from mnasbench.build.calibration import Batches
from mnasbench.build.compiler import Built, compile_model
from mnasbench.build.config import read_build_config
from mnasbench.build.foresee import compiled_as
from mnasbench.build.vamc import build
from mnasbench.precisions import precision_named
from mnasbench.runtimes.onnxruntime import optimized

OPERATIONS = {
    1: {
        "DecodeImage": {},
        "Resize": {"size": [int, int]},
        "CenterCrop": {"crop_size": [int, int]},
        "Normalize": {"mean": [float, float, float], "std": [float, float, float]},
        "ToTensor": {},
    },
}
OPERATIONS[2] = {**OPERATIONS[1], "Resize": {"size": [int, int], "interpolation": str, "backend": str}}
SHAPE = [int, int, int, int]
SAMPLER = {"suffix": str, "get_data_num": int}
FILES: dict[int, dict[str, Any]] = {
    1: {
        "model": {"name": str, "inputs": {"input": SHAPE}, "checkpoint": Path},
        "engine": {
            "type": {"vacc"},
            "common": {"do_quantization": bool, "cluster_mode?": int},
            "add_extra_ops_to_graph": {"type": {"softmax", "None"}},
            "calibration?": {"quant_mode": {"percentile", "max", "kl_divergence"}, "per_channel": bool},
        },
        "dataset": {"path?": Path, "sampler?": SAMPLER, "transform_ops": list},
        "workspace": {"work_dir": str, "enable_ir": bool, "save_log": bool},
    },
    2: {
        "name": str,
        "frontend": {"type": {"onnx"}, "checkpoint": Path, "dtype": {"fp32"}, "shape": {"input": SHAPE}},
        "backend": {
            "type": {"tvm_vacc"},
            "dtype": {"int8", "fp16"},
            "compile?": {"cluster_mode?": int, "data_transport_mode?": int, "dense_special_config?": [int, int, int]},
            "quantize?": {
                "calibrate_chunk_by?": int,
                "calibrate_mode": {"percentile", "max", "kl_divergence", "mse"},
                "quantize_per_channel": bool,
            },
        },
        "graph?": {"extra_ops": {"type": {"softmax"}}},
        "dataset": {"type": {"tvm"}, "path?": Path, "sampler?": SAMPLER, "process_ops": list},
        "workspace": {"path": str, "enable_ir": bool, "save_log": bool},
    },
}


def check(value: Any, rule: Any, place: str) -> None:
    """Exit with a message where ``value`` is not of the published form."""
    if isinstance(rule, dict):
        known = {key.removesuffix("?"): key for key in rule}
        fits = isinstance(value, dict) and set(value) <= set(known)
        fits = fits and all(key in value for key in rule if not key.endswith("?"))
    elif isinstance(rule, set):
        fits = isinstance(value, str) and value in rule
    elif isinstance(rule, list):
        fits = isinstance(value, list) and len(value) == len(rule)
    elif rule is Path:
        fits = isinstance(value, str) and Path(value).exists()
    else:
        fits = type(value) is rule
    if not fits:
        sys.exit(f"[vamc] error: {place} is {value!r}, published: {rule}")
    if isinstance(rule, dict):
        for key, item in value.items():
            check(item, rule[known[key]], f"{place}.{key}")
    elif isinstance(rule, list):
        for number, item in enumerate(value):
            check(item, rule[number], f"{place}[{number}]")


def check_operations(operations: list[dict[str, Any]], generation: int) -> None:
    """Exit where the operations are not those of every published file, in their order."""
    if [operation.get("type") for operation in operations] != list(OPERATIONS[generation]):
        sys.exit(f"[vamc] error: operations {operations}")
    for operation in operations:
        fields = {key: value for key, value in operation.items() if key != "type"}
        check(fields, OPERATIONS[generation][operation["type"]], operation["type"])


def compile_as_the_card(
    per_channel: bool, model: ModelProto, precision: str, batches: Batches | None, *rest: Any
) -> Built:
    """In place of the embedded compiler's own: int8 as a TVM-like compiler makes it."""
    mode = precision_named(precision).mode
    if mode is None or batches is None:
        return compile_model(model, precision, batches, *rest)
    graph = compiled_as(model, batches, mode, per_channel=per_channel)
    convolutions = sum(node.op_type == "QLinearConv" for node in optimized(graph).graph.node)
    return Built(graph, {"mode": mode}, [], int8_convs=convolutions)


def main(command: str, file: str) -> None:
    """Check the file, build it, leave the three files."""
    generation = {"build": 1, "compile": 2}[command]
    content = yaml.safe_load(Path(file).read_text())
    check(content, FILES[generation], "file")
    check_operations(content["dataset"]["transform_ops" if generation == 1 else "process_ops"], generation)
    quantized = content["engine"]["common"]["do_quantization"] if generation == 1 else "quantize" in content["backend"]
    if quantized and not {"path", "sampler"} <= set(content["dataset"]):
        sys.exit("[vamc] error: no calibration images")
    print(f"[vamc] {command} {file}")
    config = read_build_config(Path(file), generation)
    with mock.patch("mnasbench.build.vamc.compile_model", partial(compile_as_the_card, config.per_channel)):
        build(replace(config, runtime="onnxruntime"))
    config.prefix.with_name(config.prefix.name + ".onnx").rename(config.prefix.with_name(config.prefix.name + ".so"))


if __name__ == "__main__":
    main(*sys.argv[1:])
