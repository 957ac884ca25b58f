import math
import time
from dataclasses import replace

import numpy as np
import pytest

from mnasbench.errors import MeasurementError, ModelError, SettingsError
from mnasbench.run import performance
from mnasbench.run.measurement import find_peak, measure_performance
from mnasbench.run.performance import Load, measure
from mnasbench.run.report_text import report_text
from mnasbench.run.session import ModelSession, input_format

QUICK = Load(requests=40, warmup_seconds=0.01)


def assert_in_order(records):
    for earlier, later in (("due", "begin"), ("begin", "ready"), ("ready", "end")):
        assert (getattr(records, earlier) <= getattr(records, later)).all()
    assert (np.diff(records.end) >= 0).all()


@pytest.mark.parametrize("instances", [1, 3])
def test_every_request_is_recorded_once(instances, compiled, params, images):
    measured = measure(compiled, params, images, replace(QUICK, instances=instances, batch=2))
    assert len(measured.records.end) == 40
    assert_in_order(measured.records)
    assert measured.started <= measured.records.begin.min()
    assert measured.finished <= measured.records.end[-1] + 1
    assert measured.cpu_seconds > 0 and measured.peak_bytes > 1e6 and measured.load_seconds > 0


def test_processes_share_the_requests(compiled, params, images):
    measured = measure(compiled, params, images, replace(QUICK, processes=2, requests=30))
    assert len(measured.records.end) == 30
    assert_in_order(measured.records)


def test_a_run_of_some_seconds_ends_after_them(compiled, params, images):
    measured = measure(compiled, params, images, Load(seconds=0.3, warmup_seconds=0.01))
    assert measured.finished - measured.started >= 0.3
    assert measured.records.begin[-1] <= measured.started + 0.3


def test_poisson_arrivals_are_poissons():
    times = performance._arrivals(Load(scenario="open_loop", rate=500.0, seconds=20.0))
    gaps = np.diff(times)
    assert times[-1] < 20.0
    assert len(times) == pytest.approx(10_000, rel=0.05)
    assert gaps.mean() == pytest.approx(1 / 500, rel=0.05)
    assert gaps.std() == pytest.approx(1 / 500, rel=0.05)  # exponential: as large as the mean
    assert np.array_equal(times, performance._arrivals(Load(scenario="open_loop", rate=500.0, seconds=20.0)))


def test_open_loop_latency_counts_the_queue(compiled, params, images, monkeypatch):
    """Twice as many requests as one session can do: a harness that waits for its answers would see 20 ms."""
    monkeypatch.setattr(ModelSession, "infer", lambda self, tensor: time.sleep(0.02))
    load = Load(scenario="open_loop", rate=100.0, seconds=0.6, warmup_seconds=0.0)
    records = measure(compiled, params, images, load).records
    assert_in_order(records)
    assert (records.end - records.due)[-5:].min() > 0.15
    # The machine may make a sleep longer, never shorter.
    assert (records.end - records.ready).min() >= 0.02


def test_requests_cycle_through_the_images(compiled, params, images, monkeypatch):
    seen = []
    infer = ModelSession.infer
    monkeypatch.setattr(
        ModelSession, "infer", lambda self, tensor: (seen.append(tensor.copy()), infer(self, tensor))[1]
    )
    measure(compiled, params, images[:5], replace(QUICK, requests=10, batch=2))
    assert len({tensor.tobytes() for tensor in seen[-10:]}) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scenario": "ofline"}, "did you mean 'offline'"),
        ({"instances": 0}, "instances is 0"),
        ({"scenario": "single_stream", "instances": 2}, "one request in flight"),
        ({"scenario": "open_loop"}, "needs one"),
        ({"rate": 10.0}, "a rate belongs to"),
        ({"seconds": 0.0}, "cannot be measured"),
        ({"seconds": math.nan}, "cannot be measured"),
        ({"warmup_seconds": math.inf}, "cannot be measured"),
        ({"scenario": "open_loop", "rate": math.nan}, "expected requests a second"),
        ({"scenario": "open_loop", "rate": 1e30}, "no more than 100000000 in 10.0 seconds"),
        ({"requests": 0}, "requests is 0"),
    ],
)
def test_impossible_loads_are_refused(change, message):
    with pytest.raises(SettingsError, match=message):
        Load(**change)


def test_a_schedule_without_requests_is_an_error(compiled, params, images):
    with pytest.raises(MeasurementError, match="no request finished"):
        measure(compiled, params, images, Load(scenario="open_loop", rate=1e-6, seconds=0.01, warmup_seconds=0.0))


def test_the_report_says_what_it_rests_on(compiled, params, images):
    report = measure_performance(compiled, params, images, QUICK, retries=1)
    assert report["digests"] == compiled.digests
    assert report["verdict"]["status"] in ("UNSTABLE", "DISTURBED")  # far too short
    assert len(report["attempts"]) == 2
    assert report["inputs"] == {"distinct": 24, "shape": [3, 32, 32]}
    assert report["machine"]["cpus"] >= 1


def test_the_vendors_report_has_its_fields_in_its_order(compiled, params, images):
    report = measure_performance(compiled, params, images, QUICK)
    names = [line.strip(" -").partition(":")[0] for line in report_text(report, "[0]").splitlines()]
    latency = ["avg latency", "min latency", "max latency"]
    assert names == [
        "number of instances in each device",
        "devices",
        "batch size",
        "samples",
        "forwad time (s)",
        "throughput (qps)",
        "ai utilize (%)",
        "die memory used (MB)",
        "e2e latency (us)",
        *latency,
        "model latency (us)",
        *latency,
    ]


def test_the_peak_rate_is_found_where_the_bound_begins_to_break(compiled, params, images, monkeypatch):
    def pretend(compiled, params, images, load):
        p99 = None if load.rate is None else 1000.0 if load.rate <= 30 else 9000.0
        return {"throughput_qps": 100.0, "latency_us": {"p99": p99}, "verdict": {"status": "VALID"}}

    monkeypatch.setattr("mnasbench.run.measurement._measure_once", pretend)
    found = find_peak(compiled, params, images, Load(batch=2), 5000.0)
    assert found["saturation_rps"] == 50
    assert found["peak_rps"] == pytest.approx(30, abs=0.5)
    assert [point["rate"] for point in found["curve"]] == sorted(point["rate"] for point in found["curve"])


def test_one_stall_does_not_end_the_search_for_the_peak(compiled, params, images, monkeypatch):
    tried = []

    def pretend(compiled, params, images, load):
        tried.append(load.rate)
        stalled = len(tried) == 2  # the first open-loop run
        p99 = None if load.rate is None else 9000.0 if stalled or load.rate > 90 else 1000.0
        return {"throughput_qps": 100.0, "latency_us": {"p99": p99}, "verdict": {"status": "VALID"}}

    monkeypatch.setattr("mnasbench.run.measurement._measure_once", pretend)
    found = find_peak(compiled, params, images, Load(), 5000.0)
    assert tried[1:3] == [50, 50]
    assert found["peak_rps"] == pytest.approx(90, abs=0.5)
    assert [point["met"] for point in found["curve"] if point["rate"] == 50] == [False, True]


def test_a_model_info_of_another_form_is_refused(compiled):
    info = {**compiled.info, "inputs": [{"name": "input", "dtype": "int32", "shape": ["batch", 3, 32, 32]}]}
    with pytest.raises(ModelError, match="input is unknown"):
        input_format(info)


def test_a_bound_that_never_holds_is_given_up(compiled, params, images, monkeypatch):
    def pretend(compiled, params, images, load):
        return {"throughput_qps": 100.0, "latency_us": {"p99": 9000.0}, "verdict": {"status": "VALID"}}

    monkeypatch.setattr("mnasbench.run.measurement._measure_once", pretend)
    found = find_peak(compiled, params, images, Load(), 5000.0)
    assert found["peak_rps"] is None and found["peak_report"] is None
    assert [point["rate"] for point in found["curve"]] == [6.25, 6.25, 12.5, 12.5, 25, 25, 50, 50]  # each twice
