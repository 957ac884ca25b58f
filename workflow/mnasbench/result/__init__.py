"""Stage result: evaluation, statistics, summary, report."""
