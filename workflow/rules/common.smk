"""What only Snakemake can do for the rules; everything that is computed stands in mnasbench.plan."""

import contextlib
import functools
import os
import sys
from pathlib import Path

import snakemake
from snakemake.jobs import Job
from snakemake_interface_logger_plugins.common import LogEvent

from mnasbench.code_digest import code_digest
from mnasbench.data.available import check_data, check_results
from mnasbench.errors import MnasbenchError, OutputError
from mnasbench.files import read_yaml
from mnasbench.plan import names, steps
from mnasbench.plan.configured import configured, numbered, require_free_names
from mnasbench.plan.environment import CLASSES, IMAGES, RUN, extent_environment, job_environment
from mnasbench.plan.inputs import Inputs
from mnasbench.plan.internals import Internals
from mnasbench.plan.model_classes import model_classes
from mnasbench.plan.reasons import Reasons
from mnasbench.plan.resources import JobResources
from mnasbench.plan.run_lock import hold_results
from mnasbench.plan.shards import require_different_npz, split
from mnasbench.plan.start import start
from mnasbench.processes import this_process
from mnasbench.settings import load_settings


@contextlib.contextmanager
def refusals(place=""):
    """End the call with one line for an error of ours; Snakemake would print a traceback."""
    try:
        yield
    except MnasbenchError as error:
        print(f"mnasbench: error{'' if isinstance(error, OutputError) else place}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


with refusals():
    SNAKEMAKE = Internals(workflow, Job, snakemake.__version__)
    os.environ.update(job_environment(SNAKEMAKE.rules_folder.parent / "scripts"))
with refusals(" in the configuration"):
    if not SNAKEMAKE.is_module:
        config = configured(config, map(read_yaml, SNAKEMAKE.configuration_files), SNAKEMAKE.command_line)
    SETTINGS = load_settings(config)
    require_free_names(SETTINGS, steps.STEPS)
    if SNAKEMAKE.is_planner:
        EXTENT = check_data(SETTINGS, SNAKEMAKE.submits_jobs, functools.partial(model_classes, SETTINGS))
        check_results(Path())
        os.environ.update(extent_environment(EXTENT))
        SNAKEMAKE.ignore_times()
    # Some executors hand no environment on.
    if IMAGES not in os.environ:
        os.environ.update(extent_environment(check_data(SETTINGS, False, functools.partial(model_classes, SETTINGS))))
    images = int(os.environ[IMAGES])
    SETTINGS = split(numbered(SETTINGS, os.environ[CLASSES]), images)
    if SNAKEMAKE.is_planner:
        require_different_npz(SETTINGS, EXTENT.files or {})
        REASONS = Reasons(SETTINGS, EXTENT)

DATA = names.data_folder(SETTINGS)
inputs = Inputs(SETTINGS)
ask = JobResources(SETTINGS, images)


wildcard_constraints:
    variant="|".join(map(re.escape, SETTINGS.models)),
    precision="|".join(map(re.escape, SETTINGS["precisions"])),
    shard=r"\d+",
    geometry=r"[^/]+",


def record(command, folders="", verified=""):
    """The shell command of a step: record.py, which keeps its output and writes its receipt, then the step's own.

    ``folders``: those that the step fills. ``verified``: receipts of jobs whose files must be as they were left.
    """
    return (
        'python "$MNASBENCH_SCRIPTS/record.py" --receipt {output.receipt:q} --log {log:q}'
        " --settings {params.settings:q} --code {params.code:q} --threads {threads} --inputs {input:q}"
        f" --outputs {{output:q}} {{params.files:q}} --folders {folders} --verified {verified} -- {command}"
    )


def get_step(rule):
    """The params that follow from the settings, as mnasbench.plan.steps has them."""

    def step(wildcards):
        return steps.STEPS[rule](SETTINGS, **wildcards)

    return {
        "settings": lambda wildcards: step(wildcards).settings_text,
        "code": lambda wildcards: code_digest(step(wildcards).script_file),
        "command": lambda wildcards: step(wildcards).command,
        "arguments": lambda wildcards: step(wildcards).arguments,
        "files": lambda wildcards: step(wildcards).files,
    }


def get_sessions(wildcards, threads):
    """How many sessions an accuracy run opens."""
    return steps.accuracy_sessions(SETTINGS, wildcards.precision, threads)


def get_current(rule):
    """An input function that gives no file, and has a job run whose receipt does not hold any more.

    Snakemake calls it for each job of its plan, whatever the targets are; the first call holds the results folder.
    """

    def current(wildcards):
        if SNAKEMAKE.is_planner:
            hold()
            receipt = getattr(rules, rule).output.receipt.format(**wildcards)
            if REASONS.why(rule, wildcards, receipt) is not None:
                SNAKEMAKE.force(receipt)
        return []

    return current


@functools.cache
def hold():
    """Hold the results folder where this call runs jobs; they inherit its name."""
    if SNAKEMAKE.runs_jobs:
        with refusals():
            if hold_results():
                logger.info("The last run was killed; its lock is removed, and what it did not finish is made again.")
        os.environ[RUN] = this_process()


def is_news(record):
    """Whether a message of Snakemake's tells what record.py and our reasons do not; those come before its plan."""
    event = getattr(record, "event", None)
    if event == LogEvent.RUN_INFO:
        say_why()
    elsewhere = ("Select jobs to execute", "Execute ", "Reasons:\n")
    return event != LogEvent.JOB_FINISHED and not record.getMessage().startswith(elsewhere)


@functools.cache
def say_why():
    """Say once why the planned jobs run."""
    lines = REASONS.lines(SNAKEMAKE.planned_jobs())
    if lines:
        about = [f"The dataset: {EXTENT.message}"] if EXTENT.message else []
        logger.info("\n".join([*about, "Why these jobs run:", *lines, ""]))


# The user's own workflow says what it likes.
if SNAKEMAKE.is_planner and not SNAKEMAKE.is_module:
    logger.addFilter(is_news)
