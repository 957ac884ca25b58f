"""The pass of the float model over the calibration images, in which observers collect statistics of its tensors."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from onnx import ModelProto, ValueInfoProto

from mnasbench.build.graph import tensor_shapes
from mnasbench.cpus import usable_cpus
from mnasbench.errors import DatasetError, ModelError
from mnasbench.runtimes.onnxruntime import open_session

Batches = Callable[[], Iterator[np.ndarray]]

# Activations of one run that are held at once; larger chunks were not faster.
_CHUNK_BYTES = 64 << 20


class Observer(Protocol):
    """Collects statistics of one tensor."""

    def add(self, values: np.ndarray) -> None:
        """Take one more chunk of values, float32 (n, ...)."""


def observe(model: ModelProto, observers: Mapping[str, Sequence[Observer]], batches: Batches) -> None:
    """Give the values of each named tensor to its observers, over every image of ``batches``, in one pass.

    ``batches`` yields float32 (n, 3, H, W), normalised, afresh at each call. Memory depends on the model and not on
    the number of images. Raises DatasetError where there is no image.
    """
    with ThreadPoolExecutor(usable_cpus()) as pool:
        for values in run_chunks(model, list(observers), batches):
            work = [(observer, values[name]) for name, of_one in observers.items() for observer in of_one]
            for _ in pool.map(lambda pair: pair[0].add(pair[1]), work):
                pass


def run_chunks(model: ModelProto, tensors: Sequence[str], batches: Batches) -> Iterator[dict[str, np.ndarray]]:
    """The named tensors' values, a few images at a time: batches are cut so that one run stays small."""
    shapes = tensor_shapes(model)
    source = model.graph.input[0].name
    inner = [name for name in tensors if name != source]
    unknown = [name for name in inner if name not in shapes]
    if unknown:
        raise ModelError(f"the shape of '{unknown[0]}' is not known; export the model with a fixed input size")
    image_bytes = 4 * sum(int(np.prod(shapes[name])) for name in tensors)
    chunk = max(1, _CHUNK_BYTES // max(image_bytes, 1))
    runner = open_session(_with_outputs(model, inner))
    empty = True
    for batch in batches():
        for start in range(0, len(batch), chunk):
            images = batch[start : start + chunk]
            empty = False
            yield dict(zip(inner, runner.run(inner, {source: images}), strict=True)) | {source: images}
    if empty:
        raise DatasetError("calibration: there is no image to calibrate on; give at least one")


def sample(batches: Batches, total: int, count: int) -> np.ndarray:
    """``count`` of the ``total`` images, evenly spaced (a list sorted by class is sampled across classes)."""
    places = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int))
    chosen, start = [], 0
    for batch in batches():
        inside = places[(places >= start) & (places < start + len(batch))] - start
        chosen.append(batch[inside])
        start += len(batch)
    return np.concatenate(chosen)


def fifth_held_out(batches: Batches) -> tuple[Batches, Batches]:
    """The stream without every fifth image, and those images; DatasetError, when asked, where there are fewer."""

    def parts(is_held: bool) -> Iterator[np.ndarray]:
        start = 0
        for batch in batches():
            chosen = ((np.arange(start, start + len(batch)) % 5) == 4) == is_held
            start += len(batch)
            if chosen.any():
                yield batch[chosen]
        if start < 5:
            raise DatasetError(f"calibration: one image in five is held out to judge on, but there are {start}")

    return lambda: parts(False), lambda: parts(True)


def _with_outputs(model: ModelProto, tensors: Sequence[str]) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    present = {output.name for output in copy.graph.output}
    copy.graph.output.extend(ValueInfoProto(name=name) for name in tensors if name not in present)
    return copy
