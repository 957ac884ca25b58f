"""Run the float model over the calibration pictures and let an observer see each tensor, batch by batch."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from onnx import ModelProto, helper

from mnasbench.build.graph import producers, session, tensor_shapes
from mnasbench.build.observer import Histogram
from mnasbench.errors import DatasetError

Batches = Callable[[], Iterator[np.ndarray]]

# Activations of one run that are held at once; larger chunks were not faster.
_CHUNK_BYTES = 64 << 20
# Operators whose output is never negative.
_NEVER_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid")


def observe(
    model: ModelProto, tensors: Sequence[str], batches: Batches, *, per_channel: bool = False
) -> dict[str, Histogram]:
    """A histogram of each named tensor (or of each of its channels) over every picture that ``batches`` gives.

    One pass; memory depends on the model and not on the number of pictures. ``batches`` yields float32
    (n, 3, H, W), normalised. Raises DatasetError where it yields nothing.
    """
    shapes = tensor_shapes(model)
    made_by = producers(model)
    histograms = {
        name: Histogram(
            channels=shapes[name][1] if per_channel and len(shapes[name]) > 1 else 1,
            signed=_may_be_negative(name, made_by),
        )
        for name in tensors
    }
    for values in run_chunks(model, tensors, batches):
        for name, histogram in histograms.items():
            value = values[name]
            histogram.add(value if histogram.channels > 1 else value.reshape(len(value), 1, -1))
    return histograms


def run_chunks(model: ModelProto, tensors: Sequence[str], batches: Batches) -> Iterator[Mapping[str, np.ndarray]]:
    """The named tensors' values, a few pictures at a time; the batches are cut so that one run stays small."""
    shapes = tensor_shapes(model)
    image_bytes = 4 * sum(int(np.prod(shapes[name])) for name in tensors)
    chunk = max(1, _CHUNK_BYTES // image_bytes)
    source = model.graph.input[0].name
    inner = [name for name in tensors if name != source]
    runner = session(_with_outputs(model, inner))
    empty = True
    for batch in batches():
        for start in range(0, len(batch), chunk):
            images = batch[start : start + chunk]
            empty = False
            yield dict(zip(inner, runner.run(inner, {source: images}), strict=True)) | {source: images}
    if empty:
        raise DatasetError("calibration: there is not one picture to calibrate on; give at least one")


def _with_outputs(model: ModelProto, tensors: Sequence[str]) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    present = {output.name for output in copy.graph.output}
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors if name not in present)
    return copy


def _may_be_negative(tensor: str, made_by: Mapping[str, object]) -> bool:
    node = made_by.get(tensor)
    while node is not None and node.op_type in ("MaxPool", "GlobalAveragePool", "AveragePool", "Flatten"):  # type: ignore[attr-defined]
        node = made_by.get(node.input[0])  # type: ignore[attr-defined]
    return node is None or node.op_type not in _NEVER_NEGATIVE  # type: ignore[attr-defined]
