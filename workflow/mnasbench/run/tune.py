"""How many sessions of how many threads give the highest throughput here: searched briefly, and remembered.

Candidates fill the CPUs in every way that differs much: sessions of 1, 2, 4, ... threads, on all of the CPUs or on
half of them (where memory is the limit, or two CPUs share a core). They are measured in turn, and the slower half
drops out after each round, so that a disturbance of a second does not decide. Sessions are loaded once.
"""

import contextlib
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mnasbench.build.package import CompiledModel
from mnasbench.cpus import usable_cpus
from mnasbench.errors import InputError, OutputError
from mnasbench.files import canonical_json, read_json, sha256_of_bytes, write_json
from mnasbench.machine import machine
from mnasbench.preprocessing import Preprocessing
from mnasbench.run.figures import figures
from mnasbench.run.inputs import UInt8Array
from mnasbench.run.interference import DISTURBED, Monitor, verdict
from mnasbench.run.performance import Load, measure
from mnasbench.run.session import ModelSession
from mnasbench.runtimes import described

# The whole search stays well below 20 s, loading included; a slice holds some tens of requests.
SEARCH_SECONDS, _LONGEST_SLICE, _SHORTEST_SLICE = 5.0, 0.6, 0.2
_WARMUP_SECONDS = 0.05
_MIN_ROUNDS = 3
# A session of several threads has to be clearly better than several sessions, which are steadier under load.
_TIE = 0.01


@dataclass(frozen=True)
class Tuned:
    """The best setting found, its throughput in images a second, and what every candidate reached (median)."""

    instances: int
    threads: int
    throughput_qps: float
    candidates: list[dict[str, Any]]
    is_remembered: bool = False


def candidates(cpus: int, load: Load) -> list[tuple[int, int]]:
    """(instances, threads) worth trying on ``cpus`` CPUs; one instance only where ``load`` is a single stream."""
    settings = []
    threads = 1
    while threads <= cpus:
        if load.scenario == "single_stream":
            settings.append((1, threads))
        else:
            most = max(1, cpus // (threads * load.processes))
            settings += [(most, threads), (max(1, most // 2), threads)]
        threads *= 2
    return list(dict.fromkeys(settings))


def tune(
    compiled: CompiledModel,
    params: Preprocessing,
    images: Sequence[UInt8Array],
    load: Load,
    *,
    budget_seconds: float = SEARCH_SECONDS,
    again: bool = False,
) -> Tuned:
    """The best instances and threads for ``load`` (whose own are ignored) on this machine, by offline throughput.

    A result is remembered in the user's cache folder for this machine, runtime, model (by digest) and load, and
    used until ``again``. One that was DISTURBED is used but not remembered.
    """
    memory = _memory_file(compiled, load)
    remembered = None if again else _recall(memory)
    if remembered is not None:
        return remembered
    trial = replace(load, rate=None, requests=None, warmup_seconds=_WARMUP_SECONDS)
    trial = trial if load.scenario == "single_stream" else replace(trial, scenario="offline")
    with Monitor() as monitor:
        rates, is_disturbed = _halving(compiled, params, images, trial, monitor, budget_seconds)
    medians = {setting: statistics.median(values) for setting, values in rates.items()}
    finalists = [setting for setting, values in rates.items() if len(values) == max(map(len, rates.values()))]
    top = max(medians[setting] for setting in finalists)
    instances, threads = min(
        (setting for setting in finalists if medians[setting] >= top * (1 - _TIE)), key=lambda item: item[1]
    )
    tried = [{"instances": i, "threads": t, "throughput_qps": medians[i, t]} for i, t in medians]
    tuned = Tuned(instances, threads, medians[instances, threads], tried)
    if not is_disturbed:
        with contextlib.suppress(OutputError):  # a cache that cannot be written costs the next run a search, no more
            write_json(memory, asdict(tuned))
    return tuned


def _halving(
    compiled: CompiledModel,
    params: Preprocessing,
    images: Sequence[UInt8Array],
    load: Load,
    monitor: Monitor,
    budget_seconds: float,
) -> tuple[dict[tuple[int, int], list[float]], bool]:
    """Throughputs of each setting, those dropped early with fewer of them; and whether others disturbed it."""
    alive = candidates(usable_cpus(), load)
    rates: dict[tuple[int, int], list[float]] = {setting: [] for setting in alive}
    rounds = max(_MIN_ROUNDS, len(alive).bit_length())
    is_disturbed = False
    kept: dict[int, list[ModelSession]] = {}
    for turn in range(rounds):
        share = budget_seconds / rounds / len(alive) - _WARMUP_SECONDS
        for instances, threads in alive:
            slice_load = replace(
                load, instances=instances, threads=threads, seconds=min(max(share, _SHORTEST_SLICE), _LONGEST_SLICE)
            )
            measured = measure(compiled, params, images, slice_load, kept)
            computed = figures(measured, slice_load)
            rates[instances, threads].append(computed["throughput_qps"])
            end = float(measured.records.end[-1])
            observation = monitor.observation(measured.started, end, measured.cpu_seconds, instances * threads)
            is_disturbed |= verdict(observation, computed)["status"] == DISTURBED
        if turn + 1 < rounds:
            alive = sorted(alive, key=lambda setting: -statistics.median(rates[setting]))[: max(2, -(-len(alive) // 2))]
    return rates, is_disturbed


def _memory_file(compiled: CompiledModel, load: Load) -> Path:
    key = {
        "machine": machine(),
        "runtime": described(compiled.info),
        "digests": compiled.digests,
        "load": [load.scenario == "single_stream", load.processes, load.batch],
    }
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "mnasbench" / f"instances-{sha256_of_bytes(canonical_json(key).encode())[:16]}.json"


def _recall(file: Path) -> Tuned | None:
    """What ``file`` remembers; None where it is missing or not of this form."""
    try:
        return replace(Tuned(**read_json(file)), is_remembered=True)
    except (InputError, TypeError):
        return None
