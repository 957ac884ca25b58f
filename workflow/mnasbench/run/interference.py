"""Whether a measurement can be trusted: what else happened on the machine while it ran, and a verdict.

The counters are Linux's (/proc/stat, /sys, cgroup v2); one that a system lacks is None and judges nothing.
"""

import math
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnasbench.cpus import usable_cpu_numbers

VALID, UNSTABLE, DISTURBED = "VALID", "UNSTABLE", "DISTURBED"

_SAMPLE_SECONDS = 0.1
_TICKS = os.sysconf("SC_CLK_TCK")
_UNKNOWN = math.nan  # a counter that this system does not have

# Limits, each with the reason for its size.
_STEAL = 0.01  # a hypervisor that takes 1 % takes it in slices longer than a request
_OTHERS = 0.05  # a quiet Linux machine's own services stay below 2 %
_QUEUE = 0.5  # on average half a thread waits for a core that ours would use
_FREQUENCY = 0.05  # turbo steps are 100 MHz of 2 to 4 GHz
_CLOCK_SECONDS = 0.05  # NTP slews far less in a minute; a step is what shows
_SPREAD = 0.10  # perf_analyzer calls a measurement stable when three windows agree within 10 %
_LITTLE = 0.10
_MIN_SECONDS = 3.0
_MIN_REQUESTS = 64  # below it not even p90 can be told


@dataclass(frozen=True)
class Observation:
    """The machine during a run. Shares are of the time of the CPUs that this process may use."""

    seconds: float
    cpus: int
    steal_share: float | None
    other_share: float | None
    waiting_threads: float | None
    frequency_mhz: tuple[float, float] | None
    thermal_throttles: float | None
    quota_throttles: float | None
    clock_step_seconds: float


@dataclass(frozen=True)
class _Sample:
    monotonic: float
    wall: float
    busy: float
    steal: float
    running: float
    frequency_mhz: float
    thermal: float
    quota: float


class Monitor:
    """Samples the machine's counters ten times a second from ``__enter__`` to ``__exit__``."""

    def __enter__(self) -> "Monitor":
        self._stop = threading.Event()
        self._samples = [_sample()]
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._samples.append(_sample())

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            self._samples.append(_sample())

    def observation(self, started: float, finished: float, own_cpu_seconds: float, own_threads: int) -> Observation:
        """What was seen between two times (monotonic seconds).

        ``own_cpu_seconds`` and ``own_threads`` are what the measured sessions used themselves in that time.
        """
        columns = {name: np.array([getattr(s, name) for s in self._samples]) for name in _Sample.__annotations__}
        times = columns["monotonic"]
        inside = (times >= started) & (times <= finished)
        seconds, cpus = finished - started, len(usable_cpu_numbers())

        def gained(name: str) -> float | None:
            low, high = np.interp([started, finished], times, columns[name])
            return None if np.isnan(low) or np.isnan(high) else float(high - low)

        def share(cpu_seconds: float | None, own: float = 0.0) -> float | None:
            return None if cpu_seconds is None else max(0.0, (cpu_seconds - own) / (seconds * cpus))

        # The sampling thread itself runs whenever it looks.
        waiting = np.maximum(columns["running"][inside] - own_threads - 1, 0)
        clocks = columns["frequency_mhz"][inside]
        return Observation(
            seconds=seconds,
            cpus=cpus,
            steal_share=share(gained("steal")),
            other_share=share(gained("busy"), own_cpu_seconds),
            waiting_threads=_or_none(waiting.mean()) if len(waiting) else None,
            frequency_mhz=(float(clocks.min()), float(clocks.max()))
            if len(clocks) and not np.isnan(clocks).any()
            else None,
            thermal_throttles=gained("thermal"),
            quota_throttles=gained("quota"),
            clock_step_seconds=(gained("wall") or seconds) - seconds,
        )


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _sample() -> _Sample:
    busy, steal, running = _proc_stat()
    return _Sample(
        time.monotonic(), time.time(), busy, steal, running, _frequency_mhz(), _thermal_throttles(), _quota_throttles()
    )


def _proc_stat() -> tuple[float, float, float]:
    """Busy and stolen seconds since boot of the CPUs in the affinity mask, and the threads that run or want to."""
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return _UNKNOWN, _UNKNOWN, _UNKNOWN
    mask = {f"cpu{index}" for index in usable_cpu_numbers()}
    busy = steal = 0
    running = _UNKNOWN
    for line in lines:
        name, *fields = line.split()
        if name in mask:
            # Guest time is counted in user already.
            user, nice, system, _idle, _iowait, irq, softirq, stolen = map(int, fields[:8])
            busy += user + nice + system + irq + softirq
            steal += stolen
        elif name == "procs_running":
            running = float(fields[0])
    return busy / _TICKS, steal / _TICKS, running


def _frequency_mhz() -> float:
    """Mean current frequency of the usable CPUs, where the kernel tells it."""
    pattern = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_cur_freq"
    return float(np.mean([_number(pattern.format(i)) for i in usable_cpu_numbers()])) / 1000


def _thermal_throttles() -> float:
    pattern = "/sys/devices/system/cpu/cpu{}/thermal_throttle/core_throttle_count"
    return sum(_number(pattern.format(i)) for i in usable_cpu_numbers())


def _quota_throttles() -> float:
    """Periods in which this process's cgroup ran out of its CPU quota."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
        group = next(line.removeprefix("0::/") for line in lines if line.startswith("0::/"))
        stat = (Path("/sys/fs/cgroup") / group / "cpu.stat").read_text(encoding="ascii")
    except (OSError, StopIteration):
        return _UNKNOWN
    return next((float(line.split()[1]) for line in stat.splitlines() if line.startswith("nr_throttled")), _UNKNOWN)


def _number(path: str) -> float:
    try:
        return float(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return _UNKNOWN


def verdict(observation: Observation, figures: Mapping[str, Any]) -> dict[str, Any]:
    """``{status, reasons, advice, observation}``: DISTURBED by others, UNSTABLE by itself, or VALID.

    ``figures`` is what ``figures.figures`` gives.
    """
    disturbed = _disturbances(observation)
    unstable = _instabilities(figures)
    status = DISTURBED if disturbed else UNSTABLE if unstable else VALID
    problems = disturbed + unstable
    return {
        "status": status,
        "reasons": [reason for reason, _ in problems],
        "advice": [advice for _, advice in problems],
        "observation": asdict(observation),
    }


def _disturbances(observation: Observation) -> list[tuple[str, str]]:
    problems = []
    if observation.steal_share is not None and observation.steal_share > _STEAL:
        reason = f"the hypervisor took {observation.steal_share:.1%} of the CPU time"
        problems.append((reason, "measure on a machine of its own, or at a quieter time"))
    if observation.other_share is not None and observation.other_share > _OTHERS:
        reason = f"other processes used {observation.other_share:.1%} of the CPU time"
        problems.append((reason, "end other jobs, or have the scheduler give the node exclusively"))
    if observation.waiting_threads is not None and observation.waiting_threads > _QUEUE:
        reason = f"{observation.waiting_threads:.1f} other threads wanted to run on average"
        problems.append((reason, "end other jobs, or use fewer instances than CPUs"))
    if observation.frequency_mhz is not None and observation.frequency_mhz[1] > observation.frequency_mhz[0] * (
        1 + _FREQUENCY
    ):
        low, high = observation.frequency_mhz
        problems.append((f"the CPU clock moved from {low:.0f} to {high:.0f} MHz", "set the performance governor"))
    if observation.thermal_throttles is not None and observation.thermal_throttles >= 1:
        problems.append(
            (f"the CPU throttled {observation.thermal_throttles:.0f} times for heat", "improve cooling, or wait")
        )
    if observation.quota_throttles is not None and observation.quota_throttles >= 1:
        reason = f"the container's CPU quota stopped the run {observation.quota_throttles:.0f} times"
        problems.append((reason, "use no more threads than the quota has CPUs"))
    if abs(observation.clock_step_seconds) > _CLOCK_SECONDS:
        problems.append((f"the system clock was set by {observation.clock_step_seconds:+.2f} s", "measure again"))
    return problems


def _instabilities(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    problems = []
    if figures["measured_seconds"] < _MIN_SECONDS or figures["requests"] < _MIN_REQUESTS:
        reason = f"only {figures['requests']} requests in {figures['measured_seconds']:.1f} s"
        problems.append((reason, f"measure at least {_MIN_SECONDS:g} s and {_MIN_REQUESTS} requests"))
    spread = figures["windows"]["spread"]
    # Poisson arrivals differ from window to window by themselves; their throughput is the offered rate.
    closed_loop = figures["settings"]["rate"] is None
    if closed_loop and (spread is None or spread > _SPREAD):
        problems.append(
            (f"throughput differs by {spread or 1:.0%} between windows", "measure longer, on a quiet machine")
        )
    ratio = figures["littles_law"]["ratio"]
    if closed_loop and (ratio is None or abs(ratio - 1) > _LITTLE):
        reason = f"throughput x latency is {ratio or 0:.2f} of the requests in flight (Little's law)"
        problems.append((reason, "measure longer; a single request may have taken a large part of the run"))
    return problems
