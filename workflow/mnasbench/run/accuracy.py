"""The accuracy run: every npz of a list through the model, one ``output_0`` npz for each.

A worker takes a batch from its files to its outputs. Where the files come from the system's memory, one worker for each
session is the fastest; where they have to be waited for, a second one does so while the first infers. An interrupted
run goes on where it was; outputs of another model, other vdsp_params or changed inputs are made again.
"""

import contextlib
import itertools
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from mnasbench.build.package import CompiledModel
from mnasbench.cpus import usable_cpus
from mnasbench.data.npz import OUTPUT_KEY, PixelReader, npz_names, npz_parts, read_output, without_suffix
from mnasbench.errors import DatasetError, InputError, MeasurementError, one_line
from mnasbench.files import (
    canonical_json,
    make_folders,
    read_json,
    refusal_named,
    sha256_of_bytes,
    write_all,
    write_json,
)
from mnasbench.preprocessing import Preprocessing
from mnasbench.progress import SILENT, Progress
from mnasbench.run.inputs import Preprocessor, Tensor, load_kernels
from mnasbench.run.session import Engine
from mnasbench.runtimes import described, runtime_of

_MARKER = ".accuracy-run.json"
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
# From when on, and from which share of their time, waiting for files is worth a second worker for each session.
_SECONDS_TO_JUDGE, _WAITED_SHARE = 0.2, 0.1
# Reading and writing are a tenth to a fifth of a worker's time; of so many workers one at a time does either.
_WORKERS_A_TURN = 4
Batch = Sequence[tuple[Path, Path]]  # (input, output)


@dataclass(frozen=True)
class AccuracyRun:
    """What an accuracy run did: ``images`` in all, ``resumed`` of them found from before.

    ``seconds`` begin when the sessions are loaded and warm, as those of a performance run; ``load_seconds`` is before.
    """

    images: int
    resumed: int
    load_seconds: float
    seconds: float
    digests: dict[str, str]
    runtime: dict[str, str]

    @property
    def throughput_qps(self) -> float | None:
        """Images a second from file to file; None where every output was there already."""
        done = self.images - self.resumed
        return done / self.seconds if done else None


def output_names(inputs: Sequence[Path]) -> list[str]:
    """The name of the output of each input: its own, class folders kept, without the folder that all inputs share.

    Raises InputError where two inputs would share an output.
    """
    # A `..` that stayed would lead out of the folder again; resolve() would follow the links of the inputs, too.
    absolute = [os.path.abspath(path) for path in inputs]  # noqa: PTH100 - three paths an image take a tenth of a run
    shared = len(os.path.join(os.path.commonpath({os.path.dirname(path) for path in absolute}), ""))  # noqa: PTH118,PTH120
    names = [f"{without_suffix(path[shared:])}.npz" for path in absolute]
    if len(set(names)) < len(names):
        doubled = next(name for name, times in Counter(names).items() if times > 1)
        raise InputError(f"{one_line(doubled)}: the output of this name would be that of two inputs of the list")
    return names


def run_accuracy(
    compiled: CompiledModel,
    params: Preprocessing,
    inputs: Sequence[Path],
    folder: Path,
    *,
    instances: int = 1,
    batch: int = 1,
    threads: int = 1,
    progress: Progress = SILENT,
) -> AccuracyRun:
    """Write the scores of each input npz, float32 (1, classes) under ``output_0``, below ``folder``.

    ``instances`` sessions of ``threads`` threads each take batches of ``batch`` images; neither changes an
    image's scores. Raises MeasurementError where, at the
    end, an output is missing or the folder holds one that belongs to no input.
    """
    names = output_names(inputs)
    there = _prepare_folder(folder, names, _fingerprint(compiled, params, inputs, batch))
    pairs = [(source, folder / name) for source, name in zip(inputs, names, strict=True)]
    whole = [name in there and _is_whole(output) for name, (_, output) in zip(names, pairs, strict=True)]
    # Whole batches are made again, so that a resumed run computes each image in the same company.
    waiting = [pairs[i : i + batch] for i in range(0, len(pairs), batch) if not all(whole[i : i + batch])]
    resumed = len(inputs) - sum(map(len, waiting))
    begin = loaded = time.perf_counter()
    if waiting:
        pipeline = _Pipeline(compiled, params, min(instances, len(waiting)), batch, threads)
        loaded = time.perf_counter()
        with contextlib.closing(pipeline.run(waiting)) as counts:
            done = (None for count in itertools.chain([resumed], counts) for _ in range(count))
            for _ in progress.loop("scoring", done, len(inputs)):
                pass
    seconds = time.perf_counter() - loaded
    _require_exactly(folder, names)
    return AccuracyRun(len(inputs), resumed, loaded - begin, seconds, compiled.digests, described(compiled.info))


class _Pipeline:
    """Sessions and the workers that share them."""

    def __init__(
        self, compiled: CompiledModel, params: Preprocessing, instances: int, batch: int, threads: int
    ) -> None:
        # Side by side: to load one, or numba, takes a core as long as several hundred images do. Only what is loaded
        # first would have to take turns with numba, for Python's lock; a session makes its kernels without it.
        runtime_of(compiled.info).load()
        with ThreadPoolExecutor(min(instances + 1, usable_cpus())) as pool:
            kernels = pool.submit(load_kernels)
            first = Engine(compiled, threads, batch, params)
            engines = [first, *pool.map(lambda _: first.another(), range(instances - 1))]
            kernels.result()
        self._instances = instances
        # Two that read or write at once wait for each other at every step, for Python's lock and the folder's.
        self._turns = threading.Semaphore(max(1, instances // _WORKERS_A_TURN))
        self._preprocess = Preprocessor(params, engines[0].format)
        self._shape = (batch, *engines[0].format.shape)
        self._engines: queue.SimpleQueue[Engine] = queue.SimpleQueue()
        for engine in engines:  # the first image takes longest
            tensor = self._tensor()
            self._preprocess.fill(tensor[0], np.zeros(params.shape, np.uint8))
            engine.infer(tensor)
            self._engines.put(engine)

    def _tensor(self) -> Tensor:
        return np.zeros(self._shape, self._preprocess.format.dtype)

    def run(self, batches: Sequence[Batch]) -> Generator[int, None, None]:
        """Write the outputs of all batches; yield the number of images of each that is done."""
        waiting: queue.SimpleQueue[Batch] = queue.SimpleQueue()
        for batch in batches:
            waiting.put(batch)
        done: queue.SimpleQueue[_Done | BaseException] = queue.SimpleQueue()

        def work() -> None:
            try:
                worker = _Worker(self._preprocess, self._engines, self._turns, self._tensor())
                with contextlib.suppress(queue.Empty):
                    while True:
                        done.put(worker.run(waiting.get_nowait()))
            except BaseException as error:
                done.put(error)

        with ThreadPoolExecutor(2 * self._instances) as pool:
            try:
                workers = [pool.submit(work) for _ in range(self._instances)]
                waited = total = 0.0
                for _ in batches:
                    one = done.get()
                    if isinstance(one, BaseException):
                        raise one
                    yield one.images
                    waited, total = waited + one.waited, total + one.seconds
                    is_waited_for = total > _SECONDS_TO_JUDGE and waited > _WAITED_SHARE * total
                    if is_waited_for and len(workers) == self._instances:
                        self._turns.release(2 * self._instances)
                        workers += [pool.submit(work) for _ in range(self._instances)]
            finally:
                with contextlib.suppress(queue.Empty):
                    while True:
                        waiting.get_nowait()


@dataclass(frozen=True)
class _Done:
    """A batch that is done: in how many seconds, and how many of them its worker waited for files."""

    images: int
    seconds: float
    waited: float


class _Worker:
    """Takes batches from their files to their outputs, in memory of its own."""

    def __init__(
        self,
        preprocess: Preprocessor,
        engines: "queue.SimpleQueue[Engine]",
        turns: threading.Semaphore,
        tensor: Tensor,
    ) -> None:
        self._preprocess, self._engines, self._turns, self._tensor = preprocess, engines, turns, tensor
        self._reader = PixelReader()

    def run(self, batch: Batch) -> _Done:
        """Write the output of every (input, output) pair."""
        tensor, count = self._tensor, len(batch)
        begin = time.perf_counter()
        with self._turns, _Waiting() as reading:
            for place, (source, _) in zip(tensor, batch, strict=False):
                self._preprocess.fill(place, self._reader.read(source))
        # A short last batch is filled up: float kernels for other batch sizes may round differently.
        tensor[count:] = tensor[count - 1]
        engine = self._engines.get()
        try:
            scores = engine.infer(tensor)
        finally:
            self._engines.put(engine)
        with self._turns, _Waiting() as writing:
            for (_, target), row in zip(batch, scores, strict=False):
                _write_output(target, row)
        return _Done(count, time.perf_counter() - begin, reading.seconds + writing.seconds)


class _Waiting:
    """The seconds within a block that this thread did not compute."""

    seconds = 0.0

    def __enter__(self) -> Self:
        self._begin = time.perf_counter() - time.thread_time()
        return self

    def __exit__(self, *exception: object) -> None:
        self.seconds = time.perf_counter() - time.thread_time() - self._begin


def _write_output(path: Path, scores: npt.NDArray[np.float32]) -> None:
    """Write float32 (classes,) as (1, classes), replacing what is there.

    Under its final name, because a file system takes as long to rename a file as to make it; one that was cut short
    does not pass for whole (``_is_whole``).
    """
    try:
        descriptor = os.open(path, _NEW_FILE, 0o666)
        try:
            write_all(descriptor, npz_parts(scores[None], OUTPUT_KEY))
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
    except OSError:
        with refusal_named(path):
            raise


def _fingerprint(compiled: CompiledModel, params: Preprocessing, inputs: Sequence[Path], batch: int) -> str:
    """Digest of what determines the outputs: the model, the preprocessing, the batch, each input's size and time."""
    try:
        stats = [(str(path), (found := path.stat()).st_size, found.st_mtime_ns) for path in inputs]
    except OSError as error:
        raise InputError(f"{one_line(error.filename)}: is in the list, but {error.strerror}") from error
    return sha256_of_bytes(
        canonical_json([compiled.digests, described(compiled.info), repr(params), batch, stats]).encode()
    )


def _prepare_folder(folder: Path, names: Sequence[str], fingerprint: str) -> set[str]:
    """Remove outputs that were made from something else; remember what these are made from.

    Gives the names of the npz files that are still there.
    """
    # First of all: through a link among them, files of somebody else would be removed.
    make_folders(folder, (folder / below for below in dict.fromkeys(name.rpartition("/")[0] for name in names)))
    marker, there = folder / _MARKER, set(npz_names(folder))
    with contextlib.suppress(InputError):  # none, or one that a power cut emptied
        if read_json(marker) == {"fingerprint": fingerprint}:
            return there
    # With a marker the folder is ours, and so are outputs of inputs that the list no longer has.
    stale = there if marker.is_file() else there.intersection(names)
    for name in stale:
        (folder / name).unlink(missing_ok=True)
    write_json(marker, {"fingerprint": fingerprint})
    return there - stale


def _is_whole(output: Path) -> bool:
    """Whether an output was written before, all of it: a power cut leaves files of any length."""
    try:
        read_output(output)
    except DatasetError:
        return False
    return True


def _require_exactly(folder: Path, names: Sequence[str]) -> None:
    expected, found = set(names), set(npz_names(folder))
    for problem, others in (("missing:", expected - found), ("outputs of no input:", found - expected)):
        if others:
            some = ", ".join(one_line(name) for name in sorted(others)[:3])
            raise MeasurementError(
                f"{one_line(folder)}: {problem} {some} ({len(others)} such); give --path_output a folder of its own"
            )
