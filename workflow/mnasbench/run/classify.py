"""The second road to the same answers: from images straight to class probabilities, without npz between."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnasbench.build.package import CompiledModel
from mnasbench.data.datalist import require_listable
from mnasbench.data.preprocess import decode_rgb
from mnasbench.errors import DatasetError, SettingsError, one_line
from mnasbench.files import write_text
from mnasbench.preprocessing import Preprocessing
from mnasbench.run.inputs import Preprocessor, UInt8Array
from mnasbench.run.scores import best_classes, softmax
from mnasbench.run.session import ModelSession


@dataclass(frozen=True)
class Prediction:
    """The k most probable classes of one image, best first; equal scores in class order."""

    path: Path
    classes: tuple[int, ...]
    probabilities: tuple[float, ...]

    def first(self, k: int) -> "Prediction":
        """The same with the ``k`` most probable classes alone."""
        return Prediction(self.path, self.classes[:k], self.probabilities[:k])


def classify(
    compiled: CompiledModel,
    params: Preprocessing,
    images: Sequence[Path],
    *,
    batch: int = 1,
    threads: int = 1,
    workers: int = 2,
    k: int = 5,
) -> Iterator[Prediction]:
    """The ``k`` best classes of each image file, in order, inferred in batches of ``batch``.

    ``workers`` threads decode, resize and crop ahead of the inference. Raises DatasetError for an image that
    cannot be read. A model of fewer than ``k`` classes gives all it has.
    """
    session = ModelSession(compiled, threads, batch, params)
    preprocess = Preprocessor(params, session.format)

    def cropped(path: Path) -> UInt8Array:
        try:
            return preprocess.geometry(np.ascontiguousarray(decode_rgb(path).transpose(2, 0, 1)))
        except DatasetError as error:
            where = one_line(path)
            message = str(error) if str(error).startswith(where) else f"{where}: {error}"
            raise DatasetError(message) from error

    def infer(paths: Sequence[Path], pixels: list[UInt8Array]) -> Iterator[Prediction]:
        filled = pixels + pixels[-1:] * (batch - len(pixels))  # as in the accuracy run: equal company
        scores = session.infer(preprocess.tensor(filled))[: len(paths)]
        probabilities = scores if compiled.info["outputs"][0].get("softmax") else softmax(scores)
        best = best_classes(probabilities, k)
        for path, row, classes in zip(paths, probabilities, best.tolist(), strict=True):
            yield Prediction(path, tuple(classes), tuple(float(row[i]) for i in classes))

    with ThreadPoolExecutor(workers) as pool:
        for start, pixels in _ahead(pool, cropped, images, batch, depth=2 + workers // batch):
            yield from infer(images[start : start + batch], pixels)


def _ahead(
    pool: ThreadPoolExecutor, load: Callable[[Path], UInt8Array], paths: Sequence[Path], batch: int, depth: int
) -> Iterator[tuple[int, list[UInt8Array]]]:
    """Batches of loaded images with the index of their first, at most ``depth`` batches ahead in memory."""
    waiting: deque[tuple[int, list[Future[UInt8Array]]]] = deque()
    starts = iter(range(0, len(paths), batch))
    while True:
        for start in starts:
            waiting.append((start, [pool.submit(load, path) for path in paths[start : start + batch]]))
            if len(waiting) >= depth:
                break
        if not waiting:
            return
        start, futures = waiting.popleft()
        yield start, [future.result() for future in futures]


def result_lines(prediction: Prediction, class_names: Sequence[str]) -> str:
    """The vendor's result text for one image: a line for each class, best first, each ended by a newline."""
    ranked = enumerate(zip(prediction.classes, prediction.probabilities, strict=True))
    return "".join(
        f"{prediction.path}: Relay top-{rank} id: {i}, prob: {probability:.8f}, class name: {class_names[i]}\n"
        for rank, (i, probability) in ranked
    )


def score_text(prediction: Prediction, class_names: Sequence[str]) -> str:
    """What the vendor's script of 2025 writes of a single image: its name, how many classes, those above 1 percent."""
    _require_names(prediction, class_names)
    ranked = zip(prediction.classes, prediction.probabilities, strict=True)
    lines = [f"{class_names[i]}  {probability:.3f}" for i, probability in ranked if probability >= 0.01]
    image = f"{prediction.path.absolute().parent.name}/{prediction.path.stem}"
    return "\n".join([image, str(len(prediction.classes)), *lines]) + "\n"


def _require_names(prediction: Prediction, class_names: Sequence[str]) -> None:
    if max(prediction.classes) >= len(class_names):
        raise SettingsError(
            f"class {max(prediction.classes)} was predicted, but there are only {len(class_names)} class names"
        )


def write_result_text(path: Path, predictions: Iterable[Prediction], class_names: Sequence[str]) -> None:
    """Write the vendor's result text of all ``predictions``, atomically.

    Raises SettingsError where a predicted class has no name.
    """
    lines = []
    for prediction in predictions:
        require_listable(str(prediction.path))
        _require_names(prediction, class_names)
        lines.append(result_lines(prediction, class_names))
    write_text(path, "".join(lines))
