"""What this workflow uses of Snakemake that no documentation promises, each looked up here and nowhere else.

Nothing of Snakemake is imported: the Snakefile hands it over. An update of Snakemake that took an attribute away is
told by its name, before anything runs.
"""

import functools
import inspect
import math
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from mnasbench.errors import ToolError

_RECEIPT = "receipt"


@dataclass(frozen=True)
class Node:
    """A job that Snakemake will run: its receipt (None: a target, which runs nothing), threads, what it waits for.

    ``why``: Snakemake's own reason, for a job that nothing else explains.
    """

    receipt: str | None
    threads: int
    needs: tuple[Any, ...]
    why: str


class Internals:
    """Snakemake's workflow object, asked by names of ours."""

    def __init__(self, workflow: Any, job_class: Any, version: str) -> None:
        self._workflow = workflow
        self._job_class = job_class
        self._version = version
        # Those that are there while the Snakefile is read; the others come with the plan.
        _ = (self.is_module, self.is_planner, self.configuration_files, self.command_line, self.cores)
        self._require_property("output_mintime")

    def _get(self, path: str) -> Any:
        try:
            return functools.reduce(getattr, path.split("."), self._workflow)
        except AttributeError:
            raise self._missing(f"workflow.{path}") from None

    def _missing(self, name: str) -> ToolError:
        return ToolError(
            f"Snakemake {self._version} has no {name}, which this workflow needs; install the version of "
            "requirements.lock"
        )

    def _require_property(self, name: str) -> None:
        if not isinstance(inspect.getattr_static(self._job_class, name, None), property):
            raise self._missing(f"property {name} of a job")

    # ------------------------------------------------------------------------------------ while the Snakefile is read
    @property
    def is_module(self) -> bool:
        """Whether another workflow uses this one by ``module:``, with a configuration of its own."""
        return bool(self._get("modifier.skip_configfile"))

    @property
    def is_planner(self) -> bool:
        """Whether this is the user's call and not that of one of its jobs."""
        return bool(self._get("is_main_process"))

    @property
    def configuration_files(self) -> list[Path]:
        """What ``--configfile`` names."""
        return list(self._get("config_settings.configfiles") or ())

    @property
    def command_line(self) -> Mapping[str, Any]:
        """What ``--config`` says."""
        return dict(self._get("config_settings.config") or {})

    @property
    def cores(self) -> int | None:
        """``--cores``; None where it is not given."""
        cores: int | None = self._get("resource_settings.cores")
        return cores

    @property
    def submits_jobs(self) -> bool:
        """Whether jobs go to a cluster."""
        return self._get("resource_settings.nodes") is not None

    @property
    def rules_folder(self) -> Path:
        """The folder of the file that is being read; an address of the web, where it was not cloned, as a path."""
        return Path(self._get("current_basedir").get_path_or_uri(secret_free=True))

    # ----------------------------------------------------------------------------------------- while the plan is made
    @property
    def runs_jobs(self) -> bool:
        """Whether this call will run jobs: no dry run, no ``--touch``, no ``--summary`` and their like."""
        return bool(self._get("executor_plugin")) and not self._get("dryrun") and not self._get("touch")

    def force(self, output: str) -> None:
        """Have the job of an output run, as ``--forcerun`` does; only a job that the targets need is affected."""
        self._get("dag.forcefiles").add(output)

    def ignore_times(self) -> None:
        """Have no job with a receipt run because an input is newer than its outputs.

        Snakemake compares times whatever ``rerun-triggers`` says, and times change where results are copied. It asks a
        job for the time of its oldest output; nothing is newer than the end of time.
        """
        former = inspect.getattr_static(self._job_class, "output_mintime")

        async def output_mintime(job: Any) -> Any:
            return math.inf if _receipt_of(job) else await former.fget(job)

        self._job_class.output_mintime = property(output_mintime)

    # ---------------------------------------------------------------------------------------- when the plan is made
    def planned_jobs(self) -> dict[Any, Node]:
        """The jobs that will run, by Snakemake's own objects."""
        dag = self._get("dag")
        try:
            return {
                job: Node(_receipt_of(job), job.threads, tuple(dag.dependencies[job]), str(dag.reason(job)))
                for job in dag.needrun_jobs()
            }
        except AttributeError as error:
            raise self._missing(f"'{error.name}' of a plan") from None


def _receipt_of(job: Any) -> str | None:
    receipt = dict(job.output.items()).get(_RECEIPT)
    return None if receipt is None else str(receipt)


def end_by_signal() -> None:
    """Let SIGTERM end the run at any moment.

    Snakemake's own handler waits for a lock that the interrupted thread itself may hold, and then for ever; from a
    thread of its own it does not.
    """
    former: Callable[[int, FrameType | None], Any] | int | None = signal.getsignal(signal.SIGTERM)
    if callable(former):
        handler = former
        signal.signal(
            signal.SIGTERM, lambda number, frame: threading.Thread(target=handler, args=(number, frame)).start()
        )
