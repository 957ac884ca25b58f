"""From an ONNX file, or a build file that names one, to the conditioned graph and its certificate, or to no file."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, helper

from mnasbench.build.calibration_images import ImageStream, find_images
from mnasbench.build.condition import condition, target_named
from mnasbench.build.config import BuildConfig
from mnasbench.build.foresee import kind_named
from mnasbench.build.plain_layers import with_softmax, without_softmax
from mnasbench.build.vamc import read_checkpoint
from mnasbench.errors import ModelError, SettingsError, one_line
from mnasbench.files import sha256_of_bytes, sha256_of_file, write_json, written_atomically
from mnasbench.onnx_file import files_of_onnx, image_input, read_onnx
from mnasbench.preprocessing import Preprocessing
from mnasbench.progress import SILENT, Progress
from mnasbench.weight_shards import digest_of_files


def certificate_file(graph: Path) -> Path:
    """Where the certificate of a conditioned graph stands."""
    return graph.with_suffix(".condition.json")


def config_of_graph(graph: Path, calibration: Path, images: int | None, preprocessing: Preprocessing) -> BuildConfig:
    """What a build file would say of a bare ONNX file."""
    return BuildConfig(
        generation=1,
        name=graph.stem,
        checkpoint=graph,
        input_name=image_input(read_onnx(graph, with_weights=False), one_line(graph)).name,
        shape=(1, 3, *preprocessing.size),
        precision="int8-percentile",
        preprocessing=preprocessing,
        dataset=calibration,
        suffix=None,
        images=images,
        work_dir=graph.parent,
    )


def condition_files(
    config: BuildConfig,
    output: Path,
    target: str = "onnxruntime",
    *,
    opset: int | None = None,
    batch: int | None = None,
    kinds: Collection[str] | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Condition the graph that ``config`` names and write ``output`` and, beside it, its certificate, which is given.

    The graph keeps the names of its input and output, and a Softmax that it ended in. Raises a MnasbenchError, and
    leaves no files, where anything is wrong; ModelError for a graph that takes its colours last.
    """
    target_named(target)
    for kind in kinds or ():
        kind_named(kind)
    where = one_line(config.checkpoint)
    if output.suffix != ".onnx":
        raise SettingsError(f"output: {one_line(output)} is no name of a graph, expected one that ends in .onnx")
    if output.resolve() == config.checkpoint.resolve():
        raise SettingsError(f"output: {one_line(output)} is the graph itself; give the conditioned one another name")
    if config.dataset is None:
        raise SettingsError(f"{config.name}: conditioning needs calibration images; give 'dataset.path'")
    given = read_onnx(config.checkpoint)
    image = image_input(given, where)
    if image.channels_last:
        raise ModelError(f"{where}: takes its colours last, and is conditioned as NCHW only; export it that way")
    model, notes = read_checkpoint(config)
    ending = without_softmax(given)[1]
    if ending is not None and without_softmax(model)[1] is None:
        (scores,) = model.graph.output
        model = with_softmax(model, helper.make_node("Softmax", [scores.name], [f"{scores.name}_shares"], axis=-1))
    preprocessing = config.preprocessing or Preprocessing(resize=config.shape[2:], crop=config.shape[2:])
    paths = find_images(config.dataset, config.suffix, config.images)
    with ImageStream(paths, preprocessing, progress) as batches:
        fixed = image.batch if batch is None else batch
        made = condition(model, batches, target, opset=opset, batch=fixed, kinds=kinds, progress=progress)
    graph = _with_names(made.model, image.name, config.output or given.graph.output[0].name)
    content = graph.SerializeToString(deterministic=True)
    certificate = made.certificate | {
        "name": config.name,
        "preprocessing": preprocessing.to_json(),
        "notes": list(notes),
        "digests": {
            "original": digest_of_files(files_of_onnx(config.checkpoint)),
            "conditioned": sha256_of_bytes(content),
            "calibration": sha256_of_bytes("".join(map(sha256_of_file, paths)).encode()),
        },
    }
    with written_atomically(output) as file:
        file.write_bytes(content)
    write_json(certificate_file(output), certificate)
    return certificate


def _with_names(model: ModelProto, entry: str, ending: str) -> ModelProto:
    """A copy whose input and output have these names."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    new = {copy.graph.input[0].name: entry, copy.graph.output[0].name: ending}
    for node in copy.graph.node:
        for names in (node.input, node.output):
            names[:] = [new.get(name, name) for name in names]
    for value in (*copy.graph.input, *copy.graph.output, *copy.graph.value_info):
        value.name = new.get(value.name, value.name)
    return copy


def lines_of(certificate: dict[str, Any], output: Path) -> list[str]:
    """What a certificate says, for a terminal."""
    change, half = certificate["float32"]["images"], certificate["float16"]["conditioned"]
    lines = [
        f"{one_line(output)}: opset {certificate['opset']}, for {target_named(certificate['target']).title}",
        f"float32: largest change {change['of_the_largest']:.1e} of the largest score, "
        f"{change['agreement']:.1f} % of {change['count']} answers the same",
    ]
    kept = "overflows" if half["sqnr_db"] is None else f"{half['sqnr_db']:.1f} dB from the original's fp32"
    lines.append(f"fp16: {kept}")
    for row in certificate["foreseen"]:
        shown = (
            f"{name} {row[name]['agreement']:.1f} %"
            + ("" if row[name]["sqnr_db"] is None else f" {row[name]['sqnr_db']:.1f} dB")
            for name in ("raw", "conditioned")
        )
        lines.append(f"foreseen {row['kind']} {row['mode']}: {', '.join(shown)}")
    return lines
