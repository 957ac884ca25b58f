"""Stands in for the vendor's performance tool: its published flags and files, and its report; the work is ours.

``STAND_IN_OUTPUTS=number`` has it name its outputs by their place in the list, as some of the vendor's scripts read
them; ``STAND_IN_FAULT`` has it fail in one of the ways that a caller must notice.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from mnasbench.build.package import read_package
from mnasbench.build.vdsp_params import read_vdsp_params
from mnasbench.run.accuracy import run_accuracy
from mnasbench.run.inputs import synthetic_images
from mnasbench.run.measurement import measure_performance
from mnasbench.run.performance import Load

FLAGS = (
    "-m",
    "--vdsp_params",
    "-i",
    "-p",
    "-b",
    "-s",
    "-d",
    "--iterations",
    "--datalist",
    "--path_output",
    "--hwconfig",
)
CURRENT_GEOMETRY = {
    "FUSION_OP_RGB_CVTCOLOR_NORM_TENSOR": {"IimageWidth", "IimageHeight"},
    "FUSION_OP_RGB_RESIZE_CVTCOLOR_NORM_TENSOR": {"ResizeType"},
    "FUSION_OP_RGB_RESIZE_CVTCOLOR_CROP_NORM_TENSOR": {"ResizeWidth", "ResizeHeight", "CropX", "CropY", "ResizeType"},
}
CURRENT = {"IimageFormat", "OimageWidth", "OimageHeight", "Mean", "Std", "NormaType", "ColorCvtCode"}
CHANNELS = {f"{name}{channel}" for name in ("mean", "std") for channel in "rgb"}
FLAT = {"iimage_format", "short_edge_threshold", "crop_size", "resize_type", "norma_type", "color_cvt_code"} | CHANNELS


def refuse(what: object) -> None:
    sys.exit(f"vamp: invalid: {what}")


def check_vdsp_params(content: dict[str, Any]) -> None:
    """The three published forms, key by key."""
    if "OpType" in content:
        config = content["OpConfig"]
        if set(config) != CURRENT | CURRENT_GEOMETRY[content["OpType"]]:
            refuse(sorted(config))
        for value in config["Mean"] + config["Std"]:
            if value != float(np.float16(value)):
                refuse(f"{value} is no fp16 number")
        return
    if "config" in content:
        if content["vdsp_op_type"] != "RGB_RESIZE_CVTCOLOR_CROP_NORMALIZATION_TENSORIZATION_U8":
            refuse(content["vdsp_op_type"])
        if any(set(entry) != {"Property", "DType", "ParamType", "Value"} for entry in content["config"]):
            refuse(content["config"])
        fields = {entry["Property"]: entry["Value"] for entry in content["config"]}
        if set(fields) != FLAT | {"iimage_width", "iimage_height"}:
            refuse(sorted(fields))
    else:
        fields = {key: value for key, value in content.items() if key != "vdsp_op_type"}
        if content["vdsp_op_type"] != 300 or set(fields) != FLAT:
            refuse(content)
    if fields["resize_type"] not in (1, "BILINEAR_CV"):
        refuse(fields["resize_type"])
    if any(type(fields[name]) is not int for name in CHANNELS):
        refuse("a mean that is no bit pattern")


def check_inputs(datalist: Path) -> list[Path]:
    """Absolute paths, one a line, of npz with input_0, uint8 and planar."""
    paths = [Path(line) for line in datalist.read_text().splitlines()]
    for path in paths:
        if not path.is_absolute():
            refuse(f"{path} is not absolute")
        with np.load(path, allow_pickle=False) as arrays:
            pixels = arrays["input_0"]
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[0] != 3:
            refuse(path)
    return paths


def write_outputs(given: argparse.Namespace, compiled: Any, params: Any, fault: str | None) -> None:
    """One npz an input in one flat folder: output_0, fp16, (1, classes)."""
    inputs = check_inputs(given.datalist)
    with tempfile.TemporaryDirectory() as folder:
        run_accuracy(compiled, params, inputs, Path(folder), batch=given.b)
        for number, source in enumerate(inputs):
            if fault == "missing output" and number == 2:
                continue
            name = f"output_{number:06d}.npz" if os.environ.get("STAND_IN_OUTPUTS") == "number" else source.name
            with np.load(next(Path(folder).rglob(source.name))) as arrays:
                np.savez(given.path_output / name, output_0=arrays["output_0"].astype(np.float16))


def report(given: argparse.Namespace, measured: dict[str, Any], classes: int) -> str:
    """As printed in the vendor's documents, what stands before it included."""
    service = {name: round(measured["service_us"][name]) for name in ("avg", "min", "max")}
    latency = {name: round(measured["latency_us"][name]) for name in ("avg", "min", "max")}
    seconds = given.iterations / measured["throughput_qps"]
    return "\n".join(
        [
            f"Dump model info: {given.m}",
            "[max_batch_size_]: 27",
            "[input_count]: 1",
            f"input[0]: {given.s}, dtype:u1",
            "[output_count]: 1",
            f"output[0]: [1,{classes}], dtype:f2",
            "",
            f"*** number of instances in each device:{given.i} ****",
            "Inference start time: [2024-01-04 14:05:14]",
            f"number of samples in each process: {given.iterations}",
            f"number of process:{given.p}",
            "",
            f"- number of instances in each device: {given.i}",
            f"  devices: [{given.d}]",
            f"  batch size: {given.b}",
            f"  samples: {given.iterations}",
            f"  forwad time (s): {seconds:.6g}",
            f"  throughput (qps): {measured['throughput_qps']:.6g}",
            "  ai utilize (%): 96.4176",
            "  die memory used (MB): 1356.75",
            "  e2e latency (us):",
            *(f"    {name} latency: {value}" for name, value in latency.items()),
            "  model latency (us):",
            *(f"    {name} latency: {value}" for name, value in service.items()),
        ]
    )


def main() -> None:
    """Check everything, then measure or score."""
    parser = argparse.ArgumentParser(prog="vamp", allow_abbrev=False)
    for flag in FLAGS:
        parser.add_argument(flag)
    given = parser.parse_args()
    if not re.fullmatch(r"\[3,\d+,\d+\]", given.s):
        refuse(given.s)
    given.i, given.p, given.b = int(given.i), int(given.p), int(given.b)
    given.iterations = int(given.iterations or 1024)
    if given.path_output:
        given.path_output, given.datalist = Path(given.path_output), Path(given.datalist)
    elif given.datalist:
        refuse("a list without --path_output")
    fault = os.environ.get("STAND_IN_FAULT")
    if fault == "failure":
        print("vaccrt error: no device")
        sys.exit(3)
    check_vdsp_params(json.loads(Path(given.vdsp_params).read_text()))
    params = read_vdsp_params(Path(given.vdsp_params))
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(folder) / Path(given.m).name
        for suffix, ours in ((".so", ".onnx"), (".json", ".json"), (".params", ".params")):
            shutil.copy(given.m + suffix, prefix.with_name(prefix.name + ours))
        compiled = read_package(prefix)
        if given.path_output:
            write_outputs(given, compiled, params, fault)
        sides = json.loads(given.s)
        load = Load(batch=given.b, requests=max(1, given.iterations // given.b), warmup_seconds=0.01)
        measured = measure_performance(compiled, params, synthetic_images(tuple(sides), 4), load)
    text = report(given, measured, compiled.info["outputs"][0]["shape"][-1])
    print(text.replace("throughput", "thruput") if fault == "no throughput" else text)


if __name__ == "__main__":
    main()
