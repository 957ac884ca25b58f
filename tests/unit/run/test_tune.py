from types import SimpleNamespace

import numpy as np
import pytest

from mnasbench.run import tune as module
from mnasbench.run.performance import Load, Measured, Records
from mnasbench.run.tune import candidates, tune


@pytest.fixture
def machine_with(monkeypatch, tmp_path):
    """A pretended machine whose throughput is given for each (instances, threads)."""

    def pretend(cpus, speed, status="VALID"):
        measured = []

        def measure(compiled, params, images, load, kept):
            measured.append((load.instances, load.threads))
            seconds = 1 / speed(load.instances, load.threads)
            end = np.arange(1, 101) * seconds
            return Measured(Records(end - seconds, end - seconds, end - seconds, end), 0.0, end[-1], 0.1, 1, 0.1, 0.1)

        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr(module, "usable_cpus", lambda: cpus)
        monkeypatch.setattr(module, "measure", measure)
        monkeypatch.setattr(module, "verdict", lambda seen, found: {"status": status})
        monkeypatch.setattr(module.Monitor, "observation", lambda *_: None)
        return measured

    return pretend


def model(name):
    return SimpleNamespace(info={}, digests={"graph": name})


def test_candidates_fill_the_cpus_in_every_way_that_differs():
    assert candidates(2, Load()) == [(2, 1), (1, 1), (1, 2)]
    assert candidates(8, Load()) == [(8, 1), (4, 1), (4, 2), (2, 2), (2, 4), (1, 4), (1, 8)]
    assert candidates(8, Load(processes=4)) == [(2, 1), (1, 1), (1, 2), (1, 4), (1, 8)]
    assert candidates(4, Load(scenario="single_stream")) == [(1, 1), (1, 2), (1, 4)]
    assert candidates(1, Load()) == [(1, 1)]


@pytest.mark.parametrize("best", [(8, 1), (4, 2), (1, 8), (2, 2)])
def test_the_fastest_setting_is_found(best, machine_with):
    machine_with(8, lambda i, t: 200 if (i, t) == best else 100 + i)
    found = tune(model("a"), None, [], Load(batch=8))
    assert (found.instances, found.threads) == best
    assert found.throughput_qps == pytest.approx(1600)
    assert len(found.candidates) == 7


def test_between_equals_the_setting_of_fewer_threads_wins(machine_with):
    machine_with(2, lambda i, t: {(2, 1): 100, (1, 2): 100.5, (1, 1): 50}[i, t])
    assert tune(model("a"), None, [], Load()).threads == 1


def test_a_result_is_remembered_for_its_model_and_load(machine_with):
    measured = machine_with(2, lambda i, t: i)
    assert not tune(model("a"), None, [], Load()).is_remembered
    searched = len(measured)
    again = tune(model("a"), None, [], Load())
    assert again.is_remembered and (again.instances, again.threads) == (2, 1)
    assert len(measured) == searched
    assert not tune(model("b"), None, [], Load()).is_remembered
    assert not tune(model("a"), None, [], Load(batch=4)).is_remembered
    assert not tune(model("a"), None, [], Load(), again=True).is_remembered


def test_a_disturbed_search_is_not_remembered(machine_with):
    machine_with(2, lambda i, t: i, status="DISTURBED")
    assert tune(model("a"), None, [], Load()).instances == 2
    assert not tune(model("a"), None, [], Load()).is_remembered


def test_a_damaged_memory_is_searched_anew(machine_with, tmp_path):
    machine_with(2, lambda i, t: i)
    tune(model("a"), None, [], Load())
    (memory,) = (tmp_path / "mnasbench").glob("instances-*.json")
    memory.write_text('{"instances": 7}')
    found = tune(model("a"), None, [], Load())
    assert (found.instances, found.is_remembered) == (2, False)


def test_a_memory_that_cannot_be_written_costs_no_result(machine_with, monkeypatch):
    machine_with(2, lambda i, t: i)
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")  # a home that is full, read-only or none at all
    assert tune(model("a"), None, [], Load()).instances == 2


def test_a_search_on_this_machine_keeps_its_budget(compiled, params, images, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = tune(compiled, params, images, Load(batch=2), budget_seconds=1.0)
    tried = {(entry["instances"], entry["threads"]) for entry in found.candidates}
    assert (found.instances, found.threads) in tried
    assert found.throughput_qps > 0
