"""Export of a torch classifier to ONNX or TorchScript, checked against torch before it is kept."""

import io
import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch

from mnasbench.errors import BuildError
from mnasbench.files import written_atomically
from mnasbench.model.in_double import check_images, logits_in_double
from mnasbench.preprocessing import Size, as_pair
from mnasbench.runtimes.onnxruntime import open_session

OPSET = 18  # What torch's exporter writes; asked for less, it prints a failed conversion and leaves 18.
INPUT_NAME, OUTPUT_NAME = "input", "output"
# ONNX Runtime and torch sum in different orders; the largest difference seen over the MNASNets is 2e-5.
LOGITS_TOLERANCE = 1e-4
# Two sums in different orders are rounded alike, give or take; past a percent of the largest logit nothing is checked.
_AS_ROUNDED, _MOST_ROUNDING = 4.0, 1e-2


def export_onnx(model: torch.nn.Module, size: int | Size, path: Path) -> None:
    """Write ``model`` as ONNX: ``input`` float32 [batch, 3, height, width] -> ``output`` float32 [batch, classes].

    Raises BuildError, and writes nothing, where ONNX Runtime's logits differ from torch's by more than
    LOGITS_TOLERANCE relative to the largest logit, and by more than torch's own rounding.
    """
    exported = _to_onnx(model, size)
    _strip_metadata(exported)
    onnx.checker.check_model(exported)
    _compare_with_torch(model, exported, size)
    with written_atomically(path) as temporary:
        temporary.write_bytes(exported.SerializeToString(deterministic=True))


def export_torchscript(model: torch.nn.Module, size: int | Size, path: Path) -> None:
    """Write ``model`` as TorchScript (a trace at ``size``), which vamc reads as ``pytorch``."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of TorchScript, which the vendor's tool still reads
        traced = torch.jit.trace(model, torch.zeros(1, 3, *as_pair(size)))
        content = io.BytesIO()  # torch's own writer calls a full disk an internal error
        torch.jit.save(traced, content)
        with written_atomically(path) as temporary:
            temporary.write_bytes(content.getvalue())


def _to_onnx(model: torch.nn.Module, size: int | Size) -> onnx.ModelProto:
    example = torch.zeros(2, 3, *as_pair(size))  # of two: a batch of one would be taken for a constant
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=OPSET,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    assert program is not None  # torch gives None only where a file was asked for
    exported: onnx.ModelProto = program.model_proto
    return exported


def _strip_metadata(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes: they hold stack traces with paths of the machine, so the bytes would differ."""
    graph = model.graph
    for message in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        if hasattr(message, "metadata_props"):
            del message.metadata_props[:]
        if hasattr(message, "doc_string"):
            message.doc_string = ""


def _compare_with_torch(model: torch.nn.Module, exported: onnx.ModelProto, size: int | Size) -> None:
    """BuildError where the graph's logits are not torch's.

    Where float32's rounding is large in torch itself, as in some nets with attention, both are held against double
    precision: the graph may be as far off as torch is.
    """
    images = check_images(size)
    with torch.no_grad():
        expected = model(images).numpy()
    logits = open_session(exported).run([OUTPUT_NAME], {INPUT_NAME: images.numpy()})[0]
    if not np.isfinite(expected).all():
        raise BuildError("torch's own logits are not finite; these weights are damaged or not trained")
    if logits.shape != expected.shape:
        raise BuildError(
            f"the exported graph gives logits {list(logits.shape)}, torch {list(expected.shape)}; nothing was written"
        )
    scale = float(np.abs(expected).max()) or 1.0
    difference = float(np.abs(logits - expected).max()) / scale
    if difference <= LOGITS_TOLERANCE:
        return
    differ = (
        f"the exported graph's logits differ from torch's by {difference:.2e} of the largest logit "
        f"(allowed: {LOGITS_TOLERANCE:.0e}"
    )
    try:
        exact = logits_in_double(model, images).numpy()
    except BuildError as error:
        raise BuildError(f"{differ}; {error}); nothing was written") from error
    rounding = float(np.abs(expected - exact).max()) / scale
    error_of_graph = float(np.abs(logits - exact).max()) / scale
    if rounding > _MOST_ROUNDING or not error_of_graph <= max(LOGITS_TOLERANCE, _AS_ROUNDED * rounding):
        raise BuildError(
            f"{differ}; torch's own float32 differs by {rounding:.0e} from double precision); nothing was written"
        )
