"""The accuracy run: every image of a list through the model, its scores into one npz a shard, or one an image.

A worker takes a batch of images from their file to their scores, in memory of its own. What lies before (the sessions)
and behind (the files of scores) is done once for all images of a part.
"""

import itertools
import queue
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mnasbench.build.package import CompiledModel
from mnasbench.cpus import usable_cpus
from mnasbench.data.listed import Part, listed_parts, names_of_files
from mnasbench.data.npz import OUTPUT_KEY, npz_names, write_npz
from mnasbench.data.shard import InputShard, Scores, write_scores
from mnasbench.errors import InputError, MeasurementError, one_line
from mnasbench.files import make_folders
from mnasbench.preprocessing import Preprocessing
from mnasbench.progress import SILENT, Progress
from mnasbench.run.inputs import Preprocessor, load_kernels
from mnasbench.run.session import ModelSession
from mnasbench.runtimes import described, runtime_of


@dataclass(frozen=True)
class AccuracyRun:
    """What an accuracy run did.

    ``seconds`` begin when the sessions are loaded and warm, as those of a performance run; ``load_seconds`` is before.
    """

    images: int
    load_seconds: float
    seconds: float
    digests: dict[str, str]
    runtime: dict[str, str]

    @property
    def throughput_qps(self) -> float:
        """Images a second from file to file."""
        return self.images / self.seconds


def run_accuracy(
    compiled: CompiledModel,
    params: Preprocessing,
    inputs: Sequence[Path],
    target: Path,
    *,
    instances: int = 1,
    batch: int = 1,
    threads: int = 1,
    progress: Progress = SILENT,
) -> AccuracyRun:
    """Write the scores of each listed image, float32 (classes,) under ``output_0``.

    ``target`` that ends in ``.npz`` is one shard of scores for all images. Otherwise it is a folder, for a file by the
    name of each input: a shard of scores for a shard, an npz of shape (1, classes) for an image. Each file is written
    whole or not at all. ``instances`` sessions of ``threads`` threads each take batches of ``batch`` images; neither
    changes an image's scores. Raises MeasurementError where the folder holds an output that belongs to no input.
    """
    begin = time.perf_counter()
    is_one_file = target.suffix == ".npz"
    names = names_of_files(inputs)
    missing = next((path for path in inputs if not path.is_file()), None)
    if missing is not None:
        raise InputError(f"{one_line(missing)}: is in the list, but there is no such file")
    parts = listed_parts(inputs)
    if is_one_file:
        _require_different(name for part in parts for name in part.names)
    else:
        _prepare_folder(target, names)
    images = sum(len(part.names) for part in parts)
    pipeline = _Pipeline(compiled, params, min(instances, -(-images // batch)), batch, threads)
    loaded = time.perf_counter()
    gathered: list[Scores] = []
    output_names = iter(names)

    def score_all() -> Iterator[None]:
        for part in parts:
            scores = np.empty((len(part.names), pipeline.classes), np.float32)
            for count in pipeline.fill(scores, part):
                yield from itertools.repeat(None, count)
            part.require_whole()
            if is_one_file:
                gathered.append(scores)
            else:
                _write_part(target, part, scores, output_names)

    for _ in progress.loop("scoring", score_all(), images):
        pass
    if is_one_file:
        whole = gathered[0] if len(gathered) == 1 else np.concatenate(gathered)
        write_scores(target, [name for part in parts for name in part.names], whole)
    seconds = time.perf_counter() - loaded
    return AccuracyRun(images, loaded - begin, seconds, compiled.digests, described(compiled.info))


def _require_different(names: Iterable[str]) -> None:
    doubled = next((name for name, times in Counter(names).items() if times > 1), None)
    if doubled is not None:
        raise InputError(f"{one_line(doubled)}: two listed images have this name, so their scores need a folder")


def _prepare_folder(folder: Path, names: Sequence[str]) -> None:
    """Make the folder of these outputs; MeasurementError where it holds others, which would be counted with them."""
    make_folders(folder, (folder / below for below in dict.fromkeys(name.rpartition("/")[0] for name in names)))
    others = set(npz_names(folder)) - set(names)
    if others:
        some = ", ".join(one_line(name) for name in sorted(others)[:3])
        raise MeasurementError(
            f"{one_line(folder)}: outputs of no input: {some} ({len(others)} such); remove them, or give --path_output "
            "a folder of its own"
        )


def _write_part(folder: Path, part: Part, scores: Scores, output_names: Iterator[str]) -> None:
    if isinstance(part, InputShard):
        write_scores(folder / next(output_names), part.names, scores)
    else:
        for row in scores:
            write_npz(folder / next(output_names), row[None], OUTPUT_KEY)


class _Pipeline:
    """Workers with a session each, all of them warm."""

    def __init__(
        self, compiled: CompiledModel, params: Preprocessing, instances: int, batch: int, threads: int
    ) -> None:
        # Side by side: to load one, or numba, takes a core as long as several hundred images do. Only what is loaded
        # first would have to take turns with numba, for Python's lock; a session makes its kernels without it.
        runtime_of(compiled.info).load()
        with ThreadPoolExecutor(min(instances + 1, usable_cpus())) as pool:
            kernels = pool.submit(load_kernels)
            first = ModelSession(compiled, threads, batch, params)
            sessions = [first, *pool.map(lambda _: first.another(), range(instances - 1))]
            kernels.result()
        preprocess = Preprocessor(params, sessions[0].format)
        self._workers: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._instances, self._batch, self.classes = instances, batch, 0
        for session in sessions:
            worker = _Worker(preprocess, session)
            self.classes = worker.classes
            self._workers.put(worker)

    def fill(self, scores: Scores, part: Part) -> Iterator[int]:
        """Fill ``scores``, float32 (images, classes), with those of a part; yield the size of each batch."""

        def work(first: int) -> int:
            last = min(first + self._batch, len(scores))
            worker = self._workers.get()
            try:
                scores[first:last] = worker.infer(part, first, last)
            finally:
                self._workers.put(worker)
            return last - first

        with ThreadPoolExecutor(self._instances) as pool:
            try:
                yield from pool.map(work, range(0, len(scores), self._batch))
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise


class _Worker:
    """Takes batches from their file to their scores, in memory of its own."""

    def __init__(self, preprocess: Preprocessor, session: ModelSession) -> None:
        self._preprocess, self._session = preprocess, session
        self._tensor = session.tensor
        self._buffer = np.zeros((len(self._tensor), *preprocess.params.shape), np.uint8)
        preprocess.fill(self._tensor[0], self._buffer[0])
        self.classes = session.infer(self._tensor).shape[1]  # the first image takes longest

    def infer(self, part: Part, first: int, last: int) -> npt.NDArray[np.float32]:
        """The scores of images ``first`` to ``last`` (without) of a part."""
        tensor, count = self._tensor, last - first
        for place, pixels in zip(tensor, part.rows(first, last, self._buffer), strict=False):
            self._preprocess.fill(place, pixels)
        # A short last batch is filled up: float kernels for other batch sizes may round differently.
        tensor[count:] = tensor[count - 1]
        return self._session.infer(tensor)[:count]
