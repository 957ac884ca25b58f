import subprocess
import sys
import time
from dataclasses import replace

import pytest

from mnasbench.run.interference import Monitor, Observation, verdict

QUIET = Observation(
    seconds=10.0,
    cpus=4,
    steal_share=0.0,
    other_share=0.01,
    waiting_threads=0.1,
    frequency_mhz=(3000.0, 3050.0),
    thermal_throttles=0.0,
    quota_throttles=0.0,
    clock_step_seconds=0.001,
)
STEADY = {
    "measured_seconds": 10.0,
    "requests": 1000,
    "windows": {"spread": 0.02},
    "littles_law": {"ratio": 1.0},
    "settings": {"rate": None},
}


def test_a_quiet_steady_run_is_valid():
    found = verdict(QUIET, STEADY)
    assert (found["status"], found["reasons"], found["advice"]) == ("VALID", [], [])


def test_counters_that_a_system_lacks_judge_nothing():
    blind = Observation(10.0, 4, None, None, None, None, None, None, 0.0)
    assert verdict(blind, STEADY)["status"] == "VALID"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"steal_share": 0.02}, "hypervisor took 2.0%"),
        ({"other_share": 0.2}, "other processes used 20.0%"),
        ({"waiting_threads": 1.5}, "1.5 other threads"),
        ({"frequency_mhz": (2000.0, 3000.0)}, "from 2000 to 3000 MHz"),
        ({"thermal_throttles": 3.0}, "throttled 3 times"),
        ({"quota_throttles": 8.0}, "quota stopped the run 8 times"),
        ({"clock_step_seconds": -3600.0}, "set by -3600.00 s"),
    ],
)
def test_each_disturbance_is_told_with_advice(change, reason):
    found = verdict(replace(QUIET, **change), STEADY)
    assert found["status"] == "DISTURBED"
    assert len(found["reasons"]) == len(found["advice"]) == 1
    assert reason in found["reasons"][0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"measured_seconds": 1.0}, "1000 requests in 1.0 s"),
        ({"requests": 20}, "only 20 requests"),
        ({"windows": {"spread": 0.3}}, "differs by 30%"),
        ({"littles_law": {"ratio": 0.5}}, "Little's law"),
    ],
)
def test_each_instability_is_told_with_advice(change, reason):
    found = verdict(QUIET, {**STEADY, **change})
    assert found["status"] == "UNSTABLE"
    assert reason in found["reasons"][0]


def test_a_disturbed_run_names_what_it_did_to_the_windows_as_well():
    found = verdict(replace(QUIET, other_share=0.5), {**STEADY, "windows": {"spread": 0.4}})
    assert found["status"] == "DISTURBED" and len(found["reasons"]) == 2


def test_windows_of_poisson_arrivals_may_differ():
    assert verdict(QUIET, {**STEADY, "windows": {"spread": 0.4}, "settings": {"rate": 10.0}})["status"] == "VALID"


def test_another_process_that_computes_is_seen():
    loop = "import time\nend = time.monotonic() + 30\nwhile time.monotonic() < end: pass"
    with Monitor() as monitor, subprocess.Popen([sys.executable, "-c", loop]) as busy:
        time.sleep(0.3)
        begin = time.monotonic()
        time.sleep(1.0)
        end = time.monotonic()
        busy.kill()
    seen = monitor.observation(begin, end, own_cpu_seconds=0.0, own_threads=0)
    assert seen.seconds == end - begin
    # Alone it would have one CPU of the whole time; half of that is left to a machine that is busy already.
    assert seen.other_share > 0.5 / seen.cpus
    assert verdict(seen, STEADY)["status"] == "DISTURBED" or seen.cpus > 10
    assert abs(seen.clock_step_seconds) < 0.5
