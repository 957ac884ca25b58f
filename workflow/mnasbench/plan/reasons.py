"""Why each job of a plan runs: asked job by job while Snakemake plans, and said together before anything runs."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnasbench.code_digest import code_of
from mnasbench.data.available import Extent
from mnasbench.file_memory import memory_of_this_machine
from mnasbench.plan.dataset_look import DatasetLook
from mnasbench.plan.estimate import PlannedJob
from mnasbench.plan.internals import Node
from mnasbench.plan.kept_code import KeptCode
from mnasbench.plan.names import RESULTS
from mnasbench.plan.staleness import why_stale
from mnasbench.plan.steps import STEPS, Step
from mnasbench.receipts import Records
from mnasbench.result.times import find_receipts
from mnasbench.settings import Settings

NOT_MADE = "not made yet"
# Lines that a plan's reasons take on a terminal; more are counted.
_MOST_LINES = 20


@dataclass(frozen=True)
class Job:
    """A job by its rule and wildcards."""

    rule: str
    wildcards: Mapping[str, str]

    def __str__(self) -> str:
        """As its log is named."""
        return "-".join([self.rule, *self.wildcards.values()])

    def step(self, settings: Settings) -> Step:
        """Its settings and arguments."""
        return STEPS[self.rule](settings, **self.wildcards)


class Reasons:
    """Why the jobs of one plan must run, as far as their receipts and the dataset say."""

    def __init__(self, settings: Settings, extent: Extent) -> None:
        self._settings = settings
        self._dataset = DatasetLook(settings, extent)
        self._records = Records(find_receipts(RESULTS))
        self._memory = memory_of_this_machine()
        self._kept_code = KeptCode()
        self.jobs: dict[str, Job] = {}
        self._why: dict[str, str | None] = {}

    def why(self, rule: str, wildcards: Mapping[str, str], receipt: str) -> str | None:
        """In one line why a job must run; None where its receipt holds."""
        if receipt not in self.jobs:
            job = Job(rule, dict(wildcards))
            self.jobs[receipt] = job
            self._why[receipt] = self._ask(job, receipt)
        return self._why[receipt]

    def _ask(self, job: Job, receipt: str) -> str | None:
        if not Path(receipt).exists():
            return NOT_MADE
        step = job.step(self._settings)
        reason = why_stale(
            Path(receipt),
            step.settings_text,
            code_of(step.script_file),
            records=self._records,
            memory=self._memory,
            kept_code=self._kept_code,
            by_contents=self._settings["verify"] == "contents",
        )
        if reason is None and job.rule == "index_shard":
            return self._dataset.why_shard_changed(int(job.wildcards["shard"]))
        if reason is None and job.rule == "sample_calibration":
            return self._dataset.why_calibration_changed()
        return reason

    def keep(self) -> None:
        """Keep for the next plan what this one found out, and the code that its jobs run; before a run, not a look."""
        self._memory.save()
        codes = {code_of(job.step(self._settings).script_file) for job in self.jobs.values()}
        self._kept_code.keep(codes, (receipt.code_sha256 for receipt in self._records.all().values()))

    def jobs_of(self, planned: Mapping[Any, Node]) -> list[Job]:
        """The jobs of ours among those that Snakemake will run."""
        return [self.jobs[node.receipt] for node in planned.values() if node.receipt in self.jobs]

    def timed(self, planned: Mapping[Any, Node]) -> dict[Hashable, PlannedJob]:
        """The planned jobs as an estimate of their time takes them; what is not ours runs nothing."""
        return {
            key: PlannedJob(self.jobs[node.receipt].rule, Path(node.receipt), node.threads, node.needs)
            if node.receipt in self.jobs
            else PlannedJob("", None, node.threads, node.needs)
            for key, node in planned.items()
        }

    def lines(self, planned: Mapping[Any, Node]) -> list[str]:
        """What to say of the jobs that Snakemake will run: jobs with one reason in one line."""
        groups: dict[tuple[str, str], list[Job]] = {}
        following = []
        for node in planned.values():
            if node.receipt not in self.jobs:
                continue
            job, reason = self.jobs[node.receipt], self._why[node.receipt]
            if reason == NOT_MADE:
                groups.setdefault(("", reason), []).append(job)
            elif reason is not None:
                groups.setdefault((job.rule, reason), []).append(job)
            elif node.why.startswith(_FOLLOWS):
                following.append(job)
            else:
                groups.setdefault((job.rule, node.why), []).append(job)
        lines = [f"  {_named(rule, jobs)}: {reason}" for (rule, reason), jobs in groups.items()]
        if len(lines) > _MOST_LINES:
            lines = [*lines[:_MOST_LINES], f"  and {len(lines) - _MOST_LINES} reasons more"]
        if following:
            rules = ", ".join(dict.fromkeys(job.rule for job in following))
            lines.append(f"  {_count(following)} follow from these: {rules}")
        return lines


# How Snakemake begins its reason for a job whose input another job makes anew.
_FOLLOWS = "Input files updated by another job"


def _named(rule: str, jobs: Sequence[Job]) -> str:
    if len(jobs) == 1:
        return str(jobs[0])
    return f"{rule} ({_count(jobs)})" if rule else _count(jobs)


def _count(jobs: Sequence[Job]) -> str:
    return f"{len(jobs)} job{'s' if len(jobs) > 1 else ''}"
