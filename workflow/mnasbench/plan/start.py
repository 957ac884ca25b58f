"""What is done when a plan stands, before its first job."""

from mnasbench.data.available import Extent
from mnasbench.errors import InputError
from mnasbench.plan.early import look_ahead
from mnasbench.plan.estimate import expected_time
from mnasbench.plan.internals import Internals, end_by_signal
from mnasbench.plan.leftovers import remove_former_shards
from mnasbench.plan.names import FAILURES
from mnasbench.plan.reasons import Reasons
from mnasbench.plan.room import require_room_for
from mnasbench.settings import Settings


def start(settings: Settings, extent: Extent, snakemake: Internals, reasons: Reasons) -> str:
    """Make ready for the jobs of a plan; gives one line that says how long they will take.

    Raises InputError for a run without cores, which Snakemake would wait for without end, OutputError where the
    disk will not hold what the jobs write, and what ``look_ahead`` does.
    """
    if snakemake.cores is not None and snakemake.cores < 1:
        raise InputError(f"--cores {snakemake.cores}: expected a number of cores, 1 or more, or all")
    planned = snakemake.planned_jobs()
    jobs = reasons.jobs_of(planned)
    look_ahead(settings, extent, {job.rule for job in jobs}, snakemake.submits_jobs)
    FAILURES.unlink(missing_ok=True)
    remove_former_shards(settings)
    require_room_for(settings, extent, jobs)
    reasons.keep()
    end_by_signal()
    return expected_time(reasons.timed(planned), snakemake.cores)
