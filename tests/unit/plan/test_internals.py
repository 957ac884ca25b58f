"""What is used of Snakemake is there in the version of the lock, and one that lacks it is told by name."""

import asyncio
import math
from types import SimpleNamespace
from typing import Any

import pytest
import snakemake.api
from snakemake.dag import DAG
from snakemake.jobs import Job
from snakemake.settings.types import ConfigSettings, ResourceSettings
from snakemake.workflow import Workflow

from mnasbench.errors import ToolError
from mnasbench.plan.internals import Internals


class _Job:
    @property
    async def output_mintime(self) -> float:
        return 5.0


def _workflow(**changed: Any) -> Any:
    attributes = {
        "modifier": SimpleNamespace(skip_configfile=False),
        "is_main_process": True,
        "config_settings": SimpleNamespace(configfiles=[], config={"models": {}}),
        "resource_settings": SimpleNamespace(cores=2, nodes=None),
        "executor_plugin": object(),
        "dryrun": False,
        "touch": False,
    }
    return SimpleNamespace(**(attributes | changed))


def _job(**outputs: str) -> Any:
    job = _Job()
    job.output = outputs  # type: ignore[attr-defined]
    return job


def test_snakemake_has_what_is_used_of_it() -> None:
    for name in ("is_main_process", "dryrun", "touch", "executor_plugin", "dag", "modifier", "current_basedir"):
        assert isinstance(getattr(Workflow, name), property), name
    assert hasattr(ConfigSettings(), "config") and hasattr(ConfigSettings(), "configfiles")
    assert hasattr(ResourceSettings(), "cores") and hasattr(ResourceSettings(), "nodes")
    assert callable(DAG.needrun_jobs) and callable(DAG.reason) and isinstance(DAG.dependencies, property)
    # Sets of the instance: its source says them.
    assert {"forcefiles"} <= set(DAG.__init__.__code__.co_names)
    assert isinstance(vars(Job)["output_mintime"], property) and snakemake.__version__


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"modifier": SimpleNamespace()}, "workflow.modifier.skip_configfile"),
        ({"resource_settings": SimpleNamespace(nodes=1)}, "workflow.resource_settings.cores"),
    ],
)
def test_what_an_update_took_away_is_told_by_name(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ToolError, match=rf"Snakemake 99 has no {message}, which this workflow needs; install"):
        Internals(_workflow(**changed), _Job, "99")
    with pytest.raises(ToolError, match="property output_mintime of a job"):
        Internals(_workflow(), object, "99")


def test_times_count_only_for_jobs_without_a_receipt() -> None:
    class Own(_Job):
        output_mintime = _Job.output_mintime

    Internals(_workflow(), Own, "9").ignore_times()
    for outputs, expected in ({"receipt": "a.receipt.json", "a": "a"}, math.inf), ({"a": "a"}, 5.0):
        job: Any = Own()
        job.output = outputs
        assert asyncio.run(_await(job.output_mintime)) == expected


async def _await(value: Any) -> Any:
    return await value


@pytest.mark.parametrize(
    ("changed", "runs"),
    [({}, True), ({"dryrun": True}, False), ({"touch": True}, False), ({"executor_plugin": None}, False)],
)
def test_only_a_call_that_runs_jobs_holds_the_results(changed: dict[str, Any], runs: bool) -> None:
    assert Internals(_workflow(**changed), _Job, "9").runs_jobs is runs
