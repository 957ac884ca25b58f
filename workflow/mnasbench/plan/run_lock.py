"""The hold of one run on the results folder, and what a killed run left of its own."""

from pathlib import Path

from mnasbench.errors import RunningError, one_line
from mnasbench.plan.names import LOCK, RESULTS
from mnasbench.processes import former_holder, is_gone, sign, take

# Snakemake's own: one file for the outputs of a plan, one for its inputs.
_SNAKEMAKE_LOCKS = Path(".snakemake/locks")


def hold_results() -> bool:
    """Hold the results for this process until it ends; gives whether locks of a killed run were removed.

    Snakemake's own lock stays behind when it is killed, or power fails. It is removed only where the process that
    made it is known to have ended. Raises RunningError while another run holds the results.
    """
    before = former_holder(LOCK)
    holder = take(LOCK)
    if holder is not None:
        raise RunningError(
            f"Another run works on {one_line(RESULTS.resolve())} (process {holder}); wait for it, or end it"
        )
    # What Snakemake itself calls locked is by the jobs of a plan, which is not yet made here; and its own way of
    # unlocking takes the folder along, which the lock of this run belongs in.
    left = list(_SNAKEMAKE_LOCKS.glob("*.lock")) if before and is_gone(before) else []
    for file in left:
        file.unlink()
    sign(LOCK)
    return bool(left)
