"""What ort-vamc does: from a build file to the three files, or no file at all."""

from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mnasbench.build.calibration_images import ImageStream, find_images
from mnasbench.build.compiler import Built, Recipe, compile_model
from mnasbench.build.config import BuildConfig
from mnasbench.build.gate import check_answers, check_as_run, logits_of
from mnasbench.build.graph import prepare
from mnasbench.build.package import CompiledModel, write_package
from mnasbench.build.portable import foretell
from mnasbench.errors import BuildError, ModelError, SettingsError, one_line
from mnasbench.files import sha256_of_bytes, sha256_of_file
from mnasbench.model.onnx_import import check_graph, import_onnx, is_exported
from mnasbench.onnx_file import files_of_onnx, image_input, read_onnx
from mnasbench.precisions import PRECISIONS
from mnasbench.preprocessing import Preprocessing
from mnasbench.progress import SILENT, Progress
from mnasbench.runtimes import choose, reference, runtime_of
from mnasbench.runtimes.base import InputFormat, OperatorCounts, Prepared, Runtime
from mnasbench.runtimes.trial import try_apart
from mnasbench.weight_shards import digest_of_files

# Images that a runtime is tried with at a time.
_TRIED = 8
# Images on which the answers of other CPUs are foretold; they take a tenth of a build.
_FORETOLD = 8


def read_checkpoint(config: BuildConfig) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The graph that a build file names, with its weights in memory, and what there is to say about it.

    One of the exporter's form is taken as it is, any other is imported (:mod:`mnasbench.model.onnx_import`). Raises
    ModelError where it is no ONNX file, is none that can be imported, or has another input than the build file says.
    """
    path = config.checkpoint
    where = one_line(path)
    if config.frontend != "onnx":
        raise SettingsError(f"{where}: frontend '{one_line(config.frontend)}' is the card's; ort-vamc builds onnx only")
    model = read_onnx(path)
    try:
        image = image_input(model, where)
        if image.name != config.input_name:
            raise ModelError(
                f"{where}: its input is '{one_line(image.name)}', the build file says '{one_line(config.input_name)}'"
            )
        if is_exported(model, config.shape[2:]):
            check_graph(model, where)
            return model, ()
    except UnicodeDecodeError as error:  # names are decoded when they are asked for
        raise ModelError(f"{where}: is not an ONNX file, or is damaged; export it again") from error
    imported = import_onnx(path, config.shape[2:], config.output, config.preprocessing)
    return imported.model, imported.notes


def build(
    config: BuildConfig,
    sources: dict[str, str] | None = None,
    progress: Progress = SILENT,
) -> tuple[CompiledModel, list[dict[str, Any]]]:
    """Build what ``config`` asks for. Gives the compiled model and the rows of the error table (int8 only).

    ``sources`` are further digests to record. Raises a MnasbenchError, and leaves no files, where anything is wrong.
    """
    model, notes = read_checkpoint(config)
    preprocessing = config.preprocessing or Preprocessing(resize=config.shape[2:], crop=config.shape[2:])
    runtime = choose(config.runtime, config.precision)
    digests = {"checkpoint": digest_of_files(files_of_onnx(config.checkpoint)), **(sources or {})}
    with ExitStack() as stack:
        batches = None
        if config.is_quantized:
            if config.dataset is None:
                raise SettingsError(f"{config.name}: {config.precision} needs calibration images; give 'dataset.path'")
            paths = find_images(config.dataset, config.suffix, config.images)
            digests["calibration"] = sha256_of_bytes("".join(sha256_of_file(path) for path in paths).encode())
            stream = ImageStream(paths, preprocessing, progress)
            batches = stack.enter_context(stream)
        recipe = Recipe(
            gates_are_fused=runtime.fuses_gates,
            per_channel=config.per_channel,
            equalize=config.equalize,
            correct_bias=config.bias_correction,
            float_layers=config.skip_layers,
            max_drop=config.max_drop,
            percentile=config.percentile,
            headroom=config.headroom,
            gptq=config.gptq,
            reconstruct=config.reconstruct,
            reconstruct_seconds=config.reconstruct_seconds,
            reduce_range=None if config.weight_bits == "auto" else config.weight_bits == 7,
        )
        made = compile_model(model, config.precision, batches, recipe, progress, runtime.node_seconds)
        try:
            prepared, counts = _prepare_for(runtime, model, made)
        except (BuildError, ModelError) as error:
            if runtime.is_reference or config.runtime == runtime.name:
                raise
            runtime = reference()
            if config.is_quantized and recipe.gates_are_fused:
                plain = replace(recipe, gates_are_fused=runtime.fuses_gates)
                made = compile_model(model, config.precision, batches, plain, progress, runtime.node_seconds)
            prepared, counts = _prepare_for(runtime, model, made)
            prepared.notes.append(f"run by {runtime.name}: {one_line(error)}")
    if made.quantization is not None:
        made.quantization["portable"] = _foretold(runtime, model, made, prepared)
    graph = prepared.model
    if config.softmax:
        graph = _with_softmax(graph)
    prepared.notes[:0] = notes
    info = _model_info(config, preprocessing, graph, prepared, made.quantization, digests)
    as_run = {"runtime": runtime.name, "operators_as_run": counts.as_json()}
    return write_package(config.prefix, graph, info | as_run), made.layers


def _prepare_for(runtime: Runtime, model: onnx.ModelProto, made: Built) -> tuple[Prepared, OperatorCounts]:
    """The graph for a runtime, and what that computes in int8; BuildError where it would lose what the gate has seen.

    ``model`` is the exported graph.
    """
    prepared = runtime.prepare(made.model)
    height, width = (side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim[2:])
    taken = InputFormat(model.graph.input[0].name, (height, width), prepared.blocks)
    if not runtime.is_reference:
        try_apart(runtime, prepared.model, taken.name, (height, width), _TRIED)
    session = runtime.open(prepared.model, taken, batch=_TRIED)
    # The reference runs the very graph that the compiler's gate has looked at, or one that answers as it does.
    if not runtime.is_reference:
        images = made.images
        if images is None:
            images = np.random.default_rng(0).normal(size=(_TRIED, 3, height, width)).astype(np.float32)
        check_answers(prepare(model), made.model, session, images, runtime.title)
    convs = sum(node.op_type == "Conv" for node in made.model.graph.node)
    return prepared, check_as_run(session, made.int8_convs, convs - made.int8_convs, runtime.title)


def _foretold(runtime: Runtime, model: onnx.ModelProto, made: Built, prepared: Prepared) -> dict[str, Any] | None:
    """What CPUs of other kinds give for a few of the gate's images; None where that is not known.

    Weights of 7 bits saturate nowhere, so that there is nothing to compute.
    """
    if made.images is None or (made.quantization or {})["reduce_range"]:
        return None
    images = made.images[:_FORETOLD]
    tensor = images if prepared.blocks is None else prepared.blocks.quantize(images)
    try:
        return foretell(prepared.model, runtime.name, tensor, logits_of(prepare(model), images))
    except ModelError:
        return None


def _with_softmax(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with a softmax over its classes behind the logits, under the output's own name."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    (output,) = changed.graph.output
    logits = f"{output.name}_logits"
    for node in changed.graph.node:
        node.output[:] = [logits if name == output.name else name for name in node.output]
        node.input[:] = [logits if name == output.name else name for name in node.input]
    changed.graph.node.append(onnx.helper.make_node("Softmax", [logits], [output.name], name="softmax", axis=-1))
    return changed


def _model_info(
    config: BuildConfig,
    preprocessing: Preprocessing,
    model: onnx.ModelProto,
    prepared: Prepared,
    quantization: dict[str, Any] | None,
    sources: dict[str, str],
) -> dict[str, Any]:
    notes = [f"option '{name}' is the card's and has no effect here" for name in config.ignored]
    notes += [*config.assumed, *prepared.notes]
    blocks = {"blocks": asdict(prepared.blocks)} if prepared.blocks else {}
    note = PRECISIONS[config.precision].cpu_note
    notes += [] if note is None else [note]
    return {
        "name": config.name,
        "engine": "ort",
        "precision": config.precision,
        "inputs": [{**_tensor(value), **blocks} for value in model.graph.input],
        "outputs": [{**_tensor(value), "softmax": config.softmax} for value in model.graph.output],
        "preprocessing": preprocessing.to_json(),
        "normalisation": "outside",
        "layout": "NHWC blocks" if blocks else "NCHW",
        "quantization": quantization,
        "sources": sources,
        "notes": notes,
    }


def _tensor(value: onnx.ValueInfoProto) -> dict[str, Any]:
    kind = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    shape = [dim.dim_value or dim.dim_param for dim in kind.shape.dim]
    return {"name": value.name, "dtype": dtype, "shape": shape}


def describe(compiled: CompiledModel) -> list[str]:
    """What a compiled model is and where it came from, a line a fact."""
    info, runner = compiled.info, runtime_of(compiled.info).name
    lines = [
        f"model          {info['name']} ({info['precision']}, engine {info['engine']}, run by {runner})",
        *(f"input          {entry['name']} {entry['dtype']} {entry['shape']}" for entry in info["inputs"]),
        *(f"output         {entry['name']} {entry['dtype']} {entry['shape']}" for entry in info["outputs"]),
        f"preprocessing  {', '.join(f'{key} {value}' for key, value in info['preprocessing'].items())}",
        f"normalisation  {info['normalisation']} the graph, layout {info['layout']}",
        f"bytes          {compiled.size_bytes}",
    ]
    lines += [f"{name + ' sha256':<14} {digest}" for name, digest in {**compiled.digests, **info["sources"]}.items()]
    for key, value in (info.get("quantization") or {}).items():
        lines.append(f"quantization   {key}: {value}")
    return lines + [f"note           {note}" for note in info["notes"]]


def layers_file(prefix: Path) -> Path:
    """Where the error table of an int8 build stands."""
    return prefix.with_name("quantization.csv")
