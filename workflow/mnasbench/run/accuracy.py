"""The accuracy run: every npz of a list through the model, one ``output_0`` npz for each.

A pool with two workers for each session keeps the sessions busy: while one worker infers, the other reads,
preprocesses or writes. An interrupted run goes on where it was; outputs of another model, other vdsp_params or
changed inputs are made again.
"""

import contextlib
import io
import os
import queue
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mnasbench.build.package import CompiledModel
from mnasbench.build.runtime import described
from mnasbench.build.vdsp_params import VdspParams
from mnasbench.data.npz import OUTPUT_KEY, read_npz, read_output
from mnasbench.errors import DatasetError, InputError, MeasurementError, one_line
from mnasbench.files import canonical_json, read_json, refusal_named, sha256_of_bytes, write_json
from mnasbench.run.inputs import Preprocessor
from mnasbench.run.session import Engine

# Zip and npy headers of one npz.
_OVERHEAD = 1024
_MARKER = ".accuracy-run.json"
Progress = Callable[[int, int], None]


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


def output_paths(inputs: Sequence[Path], folder: Path) -> list[Path]:
    """Where the output of each input belongs: its own name below ``folder``, class folders kept.

    The folder that all inputs share is stripped. Raises InputError where two inputs would share an output.
    """
    # A `..` that stayed would lead out of the folder again; resolve() would follow the links of the inputs, too.
    absolute = [Path(os.path.normpath(Path(path).absolute())) for path in inputs]
    common = Path(os.path.commonpath([path.parent for path in absolute]))
    outputs = [folder / path.relative_to(common).with_suffix(".npz") for path in absolute]
    if len(set(outputs)) < len(outputs):
        doubled = next(path for i, path in enumerate(outputs) if path in outputs[:i])
        raise InputError(f"{one_line(doubled)}: two inputs of the list would be written to it")
    return outputs


def run_accuracy(
    compiled: CompiledModel,
    params: VdspParams,
    inputs: Sequence[Path],
    folder: Path,
    *,
    instances: int = 1,
    batch: int = 1,
    threads: int = 1,
    progress: Progress | None = None,
) -> AccuracyRun:
    """Write the scores of each input npz, float32 (1, classes) under ``output_0``, below ``folder``.

    ``instances`` sessions of ``threads`` threads each take batches of ``batch`` pictures; neither changes a
    picture's scores. ``progress(done, total)`` is called after each batch. Raises MeasurementError where, at the
    end, an output is missing or the folder holds one that belongs to no input.
    """
    outputs = output_paths(inputs, folder)
    _prepare_folder(folder, outputs, _fingerprint(compiled, params, inputs, batch))
    pairs = list(zip(inputs, outputs, strict=True))
    batches = [pairs[i : i + batch] for i in range(0, len(pairs), batch)]
    # Whole batches are made again, so that a resumed run computes each picture in the same company.
    waiting = [items for items in batches if not all(_is_whole(target) for _, target in items)]
    resumed = len(inputs) - sum(map(len, waiting))
    begin = loaded = time.perf_counter()
    if waiting:
        done = resumed
        pipeline = _Pipeline(compiled, params, min(instances, len(waiting)), batch, threads)
        loaded = time.perf_counter()
        with ThreadPoolExecutor(2 * instances) as pool:
            try:
                for count in pool.map(pipeline.run, waiting):
                    done += count
                    if progress:
                        progress(done, len(inputs))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    seconds = time.perf_counter() - loaded
    _require_exactly(folder, outputs)
    return AccuracyRun(len(inputs), resumed, loaded - begin, seconds, compiled.digests, described(compiled.info))


class _Pipeline:
    """Reads, preprocesses, infers and writes one batch after another; ``run`` may be called from many threads."""

    def __init__(self, compiled: CompiledModel, params: VdspParams, instances: int, batch: int, threads: int) -> None:
        engines = [Engine(compiled, threads, batch, params.preprocessing) for _ in range(instances)]
        self._preprocess = Preprocessor(params, engines[0].format)
        self._writer = _OutputWriter()
        self._batch = batch
        self._buffers = threading.local()
        self._engines: queue.SimpleQueue[Engine] = queue.SimpleQueue()
        for engine in engines:
            engine.infer(np.zeros((batch, *engine.format.shape), engine.format.dtype))  # the first takes longest
            self._engines.put(engine)

    def run(self, items: Sequence[tuple[Path, Path]]) -> int:
        """Write the output of every (input, output) pair; give their number."""
        pictures = [self._read(place, source) for place, (source, _) in enumerate(items)]
        # A short last batch is filled up: float kernels for other batch sizes may round differently.
        pictures += pictures[-1:] * (self._batch - len(items))
        tensor = self._preprocess(pictures)
        engine = self._engines.get()
        try:
            scores = engine.infer(tensor)
        finally:
            self._engines.put(engine)
        for (_, target), row in zip(items, scores, strict=False):
            self._writer.write(target, row)
        return len(items)

    def _read(self, place: int, path: Path) -> npt.NDArray[np.uint8]:
        """The pixels of a file, in this thread's memory for that place in the batch."""
        held: dict[int, bytearray] = self._buffers.__dict__.setdefault("of_place", {})
        pixels = read_npz(path, held.get(place, bytearray()))
        if len(held.get(place, b"")) < pixels.nbytes + _OVERHEAD:
            held[place] = bytearray(pixels.nbytes + _OVERHEAD)
        return pixels


class _OutputWriter:
    """Writes npz files of one array each, all of the same shape.

    numpy's own writer takes as long as a tenth of an int8 inference. As every file differs in the array's bytes
    and their checksum only, the first is kept as a template.
    """

    def __init__(self) -> None:
        self._template: tuple[tuple[int, ...], bytes] | None = None
        self._folders: set[str] = set()

    def write(self, path: Path, scores: npt.NDArray[np.float32]) -> None:
        """Write float32 (classes,) as (1, classes), atomically."""
        folder = os.path.dirname(path)  # noqa: PTH120 - pathlib would take as long as the system takes to write
        temporary = f"{folder}/.new-{os.getpid()}-{threading.get_ident()}.npz"
        try:
            with refusal_named(path):
                if folder not in self._folders:
                    Path(folder).mkdir(parents=True, exist_ok=True)
                    self._folders.add(folder)
                with open(temporary, "wb", buffering=0) as stream:  # noqa: PTH123
                    content = memoryview(self._content(scores[None]))
                    while content:  # a disk that is nearly full takes a part
                        content = content[stream.write(content) :]
                os.replace(temporary, path)  # noqa: PTH105
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _content(self, array: npt.NDArray[np.float32]) -> bytes:
        if self._template is None or self._template[0] != array.shape:
            stream = io.BytesIO()
            np.savez(stream, allow_pickle=False, **{OUTPUT_KEY: np.zeros_like(array)})
            self._template = array.shape, stream.getvalue()
        content = bytearray(self._template[1])
        # A stored zip: local header, the .npy, then the central directory, which ends the file. Both hold the CRC-32.
        begin = content.index(b"\x93NUMPY")
        directory = content.rindex(b"PK\x01\x02")
        content[directory - array.nbytes : directory] = array.tobytes()
        checksum = zlib.crc32(memoryview(content)[begin:directory]).to_bytes(4, "little")
        content[14:18] = content[directory + 16 : directory + 20] = checksum
        return bytes(content)


def _fingerprint(compiled: CompiledModel, params: VdspParams, inputs: Sequence[Path], batch: int) -> str:
    """Digest of what determines the outputs: the model, the preprocessing, the batch, each input's size and time."""
    try:
        stats = [(str(path), (found := path.stat()).st_size, found.st_mtime_ns) for path in inputs]
    except OSError as error:
        raise InputError(f"{one_line(error.filename)}: is in the list, but {error.strerror}") from error
    return sha256_of_bytes(
        canonical_json([compiled.digests, described(compiled.info), repr(params), batch, stats]).encode()
    )


def _prepare_folder(folder: Path, outputs: Sequence[Path], fingerprint: str) -> None:
    """Remove outputs that were made from something else; remember what these are made from."""
    marker = folder / _MARKER
    with contextlib.suppress(InputError):  # none, or one that a power cut emptied
        if read_json(marker) == {"fingerprint": fingerprint}:
            return
    # With a marker the folder is ours, and so are outputs of inputs that the list no longer has.
    for path in {*outputs, *(folder.rglob("*.npz") if marker.is_file() else ())}:
        path.unlink(missing_ok=True)
    write_json(marker, {"fingerprint": fingerprint})


def _is_whole(output: Path) -> bool:
    """Whether an output was written before, all of it: a power cut leaves files of any length."""
    try:
        read_output(output)
    except DatasetError:
        return False
    return True


def _require_exactly(folder: Path, outputs: Sequence[Path]) -> None:
    found = {path for path in folder.rglob("*.npz") if not path.name.startswith(".")}
    for problem, paths in (("missing:", set(outputs) - found), ("outputs of no input:", found - set(outputs))):
        if paths:
            names = ", ".join(one_line(path.relative_to(folder)) for path in sorted(paths)[:3])
            raise MeasurementError(
                f"{one_line(folder)}: {problem} {names} ({len(paths)} such); give --path_output a folder of its own"
            )
