"""A whole performance measurement: load, figures, verdict, and what they rest on."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mnasbench.build.package import CompiledModel
from mnasbench.machine import machine
from mnasbench.preprocessing import Preprocessing
from mnasbench.run.figures import figures, requests_needed
from mnasbench.run.inputs import UInt8Array
from mnasbench.run.interference import VALID, Monitor, verdict
from mnasbench.run.performance import Load, measure
from mnasbench.runtimes import described

# A missed bound counts when it is missed again: one stall of the machine fills the p99 of a whole run.
_TRIES = 2
# Halvings from the saturation throughput after which a bound that never held is given up.
_HOPELESS_RUNS = 4


def measure_performance(
    compiled: CompiledModel, params: Preprocessing, images: Sequence[UInt8Array], load: Load, retries: int = 0
) -> dict[str, Any]:
    """The report of a performance run, as written by ``--json``.

    A run that is not VALID is made again up to ``retries`` times; the last one counts, and ``attempts`` lists the
    verdicts of all, so that nobody can pick the fastest.
    """
    attempts: list[str] = []
    while True:
        report = _measure_once(compiled, params, images, load)
        attempts.append(report["verdict"]["status"])
        if attempts[-1] == VALID or len(attempts) > retries:
            return {**report, "attempts": attempts}


def _measure_once(
    compiled: CompiledModel, params: Preprocessing, images: Sequence[UInt8Array], load: Load
) -> dict[str, Any]:
    with Monitor() as monitor:
        measured = measure(compiled, params, images, load)
    computed = figures(measured, load)
    threads = load.sessions * load.threads
    observation = monitor.observation(measured.started, float(measured.records.end[-1]), measured.cpu_seconds, threads)
    return {
        "model": compiled.info["name"],
        "precision": compiled.info["precision"],
        "engine": compiled.info["engine"],
        "runtime": described(compiled.info),
        "operators_as_run": measured.operators.as_json() if measured.operators else None,
        **computed,
        "verdict": verdict(observation, computed),
        "machine": machine(),
        "digests": compiled.digests,
        "inputs": {"distinct": len(images), "shape": list(images[0].shape)},
    }


def find_peak(
    compiled: CompiledModel,
    params: Preprocessing,
    images: Sequence[UInt8Array],
    load: Load,
    latency_bound_us: float,
    *,
    runs: int = 8,
) -> dict[str, Any]:
    """The highest rate of Poisson arrivals whose p99 latency stays within a bound, and the curve that shows it.

    Bisection between nothing and the saturation throughput at ``runs`` rates at most, in open-loop runs of
    ``load.seconds`` or of as many requests as a p99 needs, whichever is longer. A rate that misses the bound is run
    a second time before it counts; both runs stand in the curve. Returns ``{latency_bound_us,
    saturation_rps, peak_rps, peak_report, curve: [{rate, p99_us, met, verdict}]}``; ``peak_rps`` is None where not
    even a sixteenth of the saturation throughput met the bound.
    """
    saturation = _measure_once(compiled, params, images, replace(load, scenario="offline", rate=None))
    low, high = 0.0, saturation["throughput_qps"] / load.batch
    curve, best = [], None
    for turn in range(runs):
        if best is None and turn == _HOPELESS_RUNS:
            break
        rate = (low + high) / 2
        requests = max(requests_needed(0.99), int(rate * load.seconds))
        open_loop = replace(load, scenario="open_loop", rate=rate, requests=requests)
        met = False
        for attempt in range(_TRIES):
            report = _measure_once(compiled, params, images, replace(open_loop, seed=load.seed + attempt))
            p99 = report["latency_us"]["p99"]
            met = p99 <= latency_bound_us
            curve.append({"rate": rate, "p99_us": p99, "met": met, "verdict": report["verdict"]["status"]})
            if met:
                break
        low, high, best = (rate, high, report) if met else (low, rate, best)
    return {
        "latency_bound_us": latency_bound_us,
        "saturation_rps": saturation["throughput_qps"] / load.batch,
        "peak_rps": low or None,
        "peak_report": best,
        "curve": sorted(curve, key=lambda point: point["rate"]),
    }
