"""What only Snakemake can do for the rules; everything that is computed stands in mnasbench.plan."""

import functools
import os
import sys
from pathlib import Path

import snakemake
from snakemake.jobs import Job
from snakemake_interface_logger_plugins.common import LogEvent

import mnasbench
from mnasbench.code_digest import code_digest
from mnasbench.data.available import check_data, check_results
from mnasbench.errors import MnasbenchError, OutputError, one_line
from mnasbench.files import read_yaml
from mnasbench.plan import estimate, names, steps
from mnasbench.plan.configured import configured, require_free_names
from mnasbench.plan.inputs import Inputs
from mnasbench.plan.internals import Internals, end_by_signal
from mnasbench.plan.leftovers import remove_former_shards
from mnasbench.plan.reasons import Reasons
from mnasbench.plan.resources import JobResources
from mnasbench.plan.room import require_room_for
from mnasbench.plan.run_lock import hold_results
from mnasbench.processes import this_process
from mnasbench.settings import load_settings


def refuse(message, code=2):
    """End the call in one line; an exception would be Snakemake's traceback."""
    print(f"mnasbench: error{message}", file=sys.stderr)
    sys.exit(code)


try:
    SNAKEMAKE = Internals(workflow, Job, snakemake.__version__)
    if not SNAKEMAKE.is_module:
        config = configured(config, map(read_yaml, SNAKEMAKE.configuration_files), SNAKEMAKE.command_line)
    SETTINGS = load_settings(config)
    require_free_names(SETTINGS, steps.STEPS)
    if SNAKEMAKE.is_planner:
        EXTENT = check_data(SETTINGS, on_cluster=SNAKEMAKE.submits_jobs)
        check_results(Path())
        # Each job's own Snakemake asks for it on its node, where counting 50,000 images of a shared disk takes long.
        os.environ.update(MNASBENCH_IMAGES=str(EXTENT.images))
        REASONS = Reasons(SETTINGS, EXTENT)
        SNAKEMAKE.ignore_times()
except MnasbenchError as error:
    refuse(f"{'' if isinstance(error, OutputError) else ' in the configuration'}: {error}", error.exit_code)

# Commands are found by variables: one that named a path would change with the place of the checkout.
SCRIPTS = SNAKEMAKE.rules_folder.parent / "scripts"
if SCRIPTS.is_dir() and not SCRIPTS.parent.samefile(Path(mnasbench.__file__).parent.parent):
    refuse(
        f": {one_line(SCRIPTS.parent)}: belongs to another checkout than the mnasbench of this Python ({sys.prefix}); "
        "run `make` here, or this checkout's own .venv/bin/snakemake"
    )
os.environ.update(
    MNASBENCH_SCRIPTS=str(SCRIPTS),
    MNASBENCH_RUNNER=this_process(),
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]),
)

DATA = names.data_folder(SETTINGS)
MODELS = SETTINGS.models
PRECISIONS = SETTINGS["precisions"]
inputs = Inputs(SETTINGS)
# Some executors hand no environment on.
ask = JobResources(SETTINGS, lambda: int(os.environ.get("MNASBENCH_IMAGES") or check_data(SETTINGS).images))


wildcard_constraints:
    variant="|".join(map(re.escape, MODELS)),
    precision="|".join(map(re.escape, PRECISIONS)),
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
    """Hold the results folder where this call runs jobs."""
    try:
        if SNAKEMAKE.runs_jobs and hold_results():
            logger.info("The last run was killed; its lock is removed, and what it did not finish is made again.")
    except MnasbenchError as error:
        refuse(f": {error}", error.exit_code)
    if SNAKEMAKE.runs_jobs:
        # Jobs inherit it, on a cluster as well: those of a killed run see that it is no longer theirs.
        os.environ.update(MNASBENCH_RUN=this_process())


def is_news(record):
    """Whether a message of Snakemake's tells more than record.py does of the same job; before its plan, why."""
    event = getattr(record, "event", None)
    if event == LogEvent.RUN_INFO:
        say_why()
    return event != LogEvent.JOB_FINISHED and not record.getMessage().startswith(("Select jobs to execute", "Execute "))


@functools.cache
def say_why():
    """Say once why the planned jobs run."""
    lines = REASONS.lines(SNAKEMAKE.planned_jobs())
    if lines:
        about = [f"The dataset: {EXTENT.message}"] if EXTENT.message else []
        logger.info("\n".join([*about, "Why these jobs run:", *lines]))


# The user's own workflow says what it likes.
if SNAKEMAKE.is_planner and not SNAKEMAKE.is_module:
    logger.addFilter(is_news)


def begin():
    """Before the first job: refuse what cannot end well, and say how long it takes."""
    if SNAKEMAKE.cores is not None and SNAKEMAKE.cores < 1:
        refuse(f": --cores {SNAKEMAKE.cores}: expected a number of cores, 1 or more, or all")
    names.FAILURES.unlink(missing_ok=True)
    remove_former_shards(SETTINGS)
    planned = SNAKEMAKE.planned_jobs()
    try:
        require_room_for(SETTINGS, EXTENT, REASONS.jobs_of(planned))
        REASONS.keep()
    except MnasbenchError as error:
        refuse(f": {error}", error.exit_code)
    end_by_signal()
    logger.info(estimate.expected_time(REASONS.timed(planned), SNAKEMAKE.cores))
