"""The performance run: load generation and timing. What the figures mean stands in ``figures``."""

import itertools
import math
import multiprocessing
import resource
import threading
import time
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnasbench.build.package import CompiledModel, read_package
from mnasbench.errors import MeasurementError, SettingsError, did_you_mean
from mnasbench.preprocessing import Preprocessing
from mnasbench.processes import end_with_parent
from mnasbench.run.inputs import Preprocessor, UInt8Array
from mnasbench.run.session import ModelSession
from mnasbench.runtimes.base import OperatorCounts

SCENARIOS = ("offline", "single_stream", "open_loop")
# The times of arrival are drawn beforehand: 0.8 GB of them.
_MOST_ARRIVALS = 100_000_000


@dataclass(frozen=True)
class Load:
    """How requests are made.

    ``scenario``: ``offline`` (every session issues its next request as soon as it is free: saturation),
    ``single_stream`` (the same with one session) or ``open_loop`` (Poisson arrivals at ``rate`` requests a
    second, whatever the sessions manage). A request is ``batch`` images. The run ends after ``seconds``, or
    after ``requests`` requests where they are given. ``threads`` is for one session.
    """

    scenario: str = "offline"
    instances: int = 1
    processes: int = 1
    batch: int = 1
    threads: int = 1
    seconds: float = 10.0
    requests: int | None = None
    rate: float | None = None
    warmup_seconds: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise SettingsError where a value is impossible."""
        if self.scenario not in SCENARIOS:
            raise SettingsError(f"scenario is {self.scenario!r}{did_you_mean(self.scenario, SCENARIOS)}")
        for name in ("instances", "processes", "batch", "threads"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.scenario == "single_stream" and self.sessions > 1:
            raise SettingsError(f"single_stream has one request in flight, but {self.sessions} sessions were asked for")
        if (self.scenario == "open_loop") != (self.rate is not None):
            raise SettingsError("a rate belongs to the open_loop scenario, and that scenario needs one")
        if not 0 < self.seconds < math.inf or not 0 <= self.warmup_seconds < math.inf:
            raise SettingsError(f"{self.seconds} seconds after {self.warmup_seconds} of warmup cannot be measured")
        if self.rate is not None and not 0 < self.rate * self.seconds <= _MOST_ARRIVALS:
            raise SettingsError(
                f"rate is {self.rate}, expected requests a second: more than 0, and no more than {_MOST_ARRIVALS} in "
                f"{self.seconds} seconds"
            )
        if self.requests is not None and self.requests < 1:
            raise SettingsError(f"requests is {self.requests}, expected at least 1")

    @property
    def sessions(self) -> int:
        """Sessions in all."""
        return self.instances * self.processes


@dataclass(frozen=True)
class Records:
    """Times of every request, in seconds on the monotonic clock, float64 (requests,), in order of ``end``.

    ``due``: when it was scheduled (open loop) or issued. ``begin``: when a session took it. ``ready``: when its
    tensor was prepared. ``end``: when its scores were there.
    """

    due: npt.NDArray[np.float64]
    begin: npt.NDArray[np.float64]
    ready: npt.NDArray[np.float64]
    end: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """A finished run: its records and what it cost.

    ``started``/``finished`` bound the measured phase (monotonic seconds); ``cpu_seconds`` is user and system time
    of all workers within it; ``peak_bytes`` is the largest resident set of each worker, added up. ``operators``: what
    a session computed in int8 and in float; None in a search, which does not ask.
    """

    records: Records
    started: float
    finished: float
    cpu_seconds: float
    peak_bytes: int
    load_seconds: float
    first_inference_seconds: float
    operators: OperatorCounts | None = None


def measure(
    compiled: CompiledModel,
    params: Preprocessing,
    images: Sequence[UInt8Array],
    load: Load,
    kept: dict[int, list[ModelSession]] | None = None,
) -> Measured:
    """Run ``load`` over ``images`` (uint8 (3, height, width) each), which the requests cycle through.

    Preprocessing by ``params`` is part of each request. ``kept`` holds sessions, by their threads, from one run of a
    search to the next (of loads with one process); without it every run loads its own. Raises MeasurementError where
    no request finished or a worker process died.
    """
    context = multiprocessing.get_context("spawn")  # a fork would inherit the threads of numba and ONNX Runtime
    shared = _Shared(context.Barrier(load.processes), context.Value("q", 0), context.Value("d", 0.0))
    if load.processes == 1:
        return _merged([_work(compiled, params, images, load, shared, kept)])
    pool = ProcessPoolExecutor(load.processes, context, initializer=_share, initargs=(shared,))
    with pool:
        jobs = [pool.submit(_work_in_process, compiled.prefix, params, images, load) for _ in range(load.processes)]
        try:
            return _merged([job.result() for job in jobs])
        except (BrokenExecutor, threading.BrokenBarrierError) as error:
            raise MeasurementError(
                f"a worker process ended before its time ({type(error).__name__}); where memory is short the system "
                "kills one: fewer processes or instances, or a smaller batch, need less"
            ) from error


@dataclass(frozen=True)
class _Shared:
    """What the workers agree on: when to start, and which request is next."""

    barrier: Barrier
    counter: Any  # multiprocessing's Synchronized[int]
    start: Any  # multiprocessing's Synchronized[float]

    def agree_on_start(self) -> float:
        if self.barrier.wait(_PATIENCE_SECONDS) == 0:
            self.start.value = time.monotonic()
        self.barrier.wait(_PATIENCE_SECONDS)
        return float(self.start.value)

    def next_request(self) -> int:
        with self.counter.get_lock():
            index = int(self.counter.value)
            self.counter.value = index + 1
        return index


# Loading and warming up takes seconds; a worker that is not there after this long has died.
_PATIENCE_SECONDS = 300
_shared: _Shared | None = None


def _share(shared: _Shared) -> None:
    global _shared
    end_with_parent()
    _shared = shared


def _work_in_process(prefix: Path, params: Preprocessing, images: Sequence[UInt8Array], load: Load) -> Measured:
    assert _shared is not None
    return _work(read_package(prefix), params, images, load, _shared)


def _work(
    compiled: CompiledModel,
    params: Preprocessing,
    images: Sequence[UInt8Array],
    load: Load,
    shared: _Shared,
    kept: dict[int, list[ModelSession]] | None = None,
) -> Measured:
    """One process's share of a run: its sessions, each driven by a thread of its own."""
    loaded = [] if kept is None else kept.setdefault(load.threads, [])
    while len(loaded) < load.instances:
        loaded.append(loaded[0].another() if loaded else ModelSession(compiled, load.threads, load.batch, params))
    sessions = loaded[: load.instances]
    preprocess = Preprocessor(params, sessions[0].format)
    first = _first_inference(sessions[0], preprocess, images[:1])
    schedule = _arrivals(load)

    def request(session: ModelSession, index: int) -> tuple[float, float]:
        chosen = [images[i % len(images)] for i in range(index * load.batch, (index + 1) * load.batch)]
        tensor = preprocess(chosen, out=session.tensor)
        ready = time.monotonic()
        session.infer(tensor)
        return ready, time.monotonic()

    def warm_up(session: ModelSession) -> None:
        until = time.monotonic() + load.warmup_seconds
        for index in itertools.count():
            if request(session, index)[1] >= until:
                return

    def drive(session: ModelSession) -> tuple[list[tuple[float, float, float, float]], float]:
        rows: list[tuple[float, float, float, float]] = []
        while True:
            index = shared.next_request()
            due = _due(load, schedule, started, index)
            if due is None:
                return rows, time.monotonic()
            if load.rate is not None:
                time.sleep(max(0.0, due - time.monotonic()))
            begin = time.monotonic()
            rows.append((due if load.rate is not None else begin, begin, *request(session, index)))

    with ThreadPoolExecutor(load.instances) as pool:
        list(pool.map(warm_up, sessions))
        started = shared.agree_on_start()
        cpu = time.process_time()
        parts = list(pool.map(drive, sessions))
        cpu = time.process_time() - cpu
    table = np.array([row for rows, _ in parts for row in rows], dtype=np.float64).reshape(-1, 4)
    return Measured(
        records=Records(*table.T),
        started=started,
        finished=min(stopped for _, stopped in parts),
        cpu_seconds=cpu,
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        load_seconds=sessions[0].load_seconds,
        first_inference_seconds=first,
        operators=sessions[0].count_operators() if kept is None else None,
    )


def _first_inference(session: ModelSession, preprocess: Preprocessor, images: Sequence[UInt8Array]) -> float:
    tensor = preprocess(images)
    begin = time.monotonic()
    session.infer(tensor)
    return time.monotonic() - begin


def _arrivals(load: Load) -> npt.NDArray[np.float64]:
    """Seconds after the start at which requests are due: a Poisson process, the same in every worker."""
    if load.rate is None:
        return np.empty(0)
    generator = np.random.default_rng(load.seed)
    mean = load.rate * load.seconds
    # Ten standard deviations more than are expected, so that the schedule always reaches past the end.
    count = load.requests or int(mean + 10 * np.sqrt(mean) + 10)
    times = np.cumsum(generator.exponential(1 / load.rate, count))
    return times if load.requests else times[times < load.seconds]


def _due(load: Load, schedule: npt.NDArray[np.float64], started: float, index: int) -> float | None:
    """When request ``index`` is due, on the monotonic clock; None where the run ends before it."""
    if load.rate is not None:
        return started + float(schedule[index]) if index < len(schedule) else None
    now = time.monotonic()
    if load.requests is not None:
        return now if index < load.requests else None
    return now if now - started < load.seconds else None


def _merged(parts: Sequence[Measured]) -> Measured:
    columns = [np.concatenate([getattr(part.records, name) for part in parts]) for name in Records.__annotations__]
    order = np.argsort(columns[-1], kind="stable")
    if not len(order):
        raise MeasurementError("no request finished; measure for longer")
    return Measured(
        records=Records(*(column[order] for column in columns)),
        started=parts[0].started,
        finished=min(part.finished for part in parts),
        cpu_seconds=sum(part.cpu_seconds for part in parts),
        peak_bytes=sum(part.peak_bytes for part in parts),
        load_seconds=max(part.load_seconds for part in parts),
        first_inference_seconds=max(part.first_inference_seconds for part in parts),
        operators=parts[0].operators,
    )
