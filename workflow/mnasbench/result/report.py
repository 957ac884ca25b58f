"""The report: one HTML file that says which row to ship, how sure that is, and what it rests on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mnasbench.data.class_file import class_file, reason_of_classes
from mnasbench.data.layouts import Dataset
from mnasbench.files import read_json
from mnasbench.presets import split_tag
from mnasbench.result import columns
from mnasbench.result import report_plots as plots
from mnasbench.result import report_sections as sections
from mnasbench.result.columns import Column, lookup
from mnasbench.result.decision import KEPT_SHARE, pareto_front, recommend
from mnasbench.result.expected import deviations
from mnasbench.result.page import render
from mnasbench.result.results_folder import Results, RowResults
from mnasbench.result.summary_tables import calibration_notes, left_out, ran_by
from mnasbench.result.times import job_times

_PUBLISHED = Path(__file__).parent / "published.json"
# A plot is drawn for the width that it is shown at: a page's, a phone's, or half a page's.
_WIDE, _NARROW, _HALF = 880.0, 360.0, 440.0


def make_report(
    results: Results,
    *,
    dataset_root: Path | None = None,
    calibration: Dataset | None = None,
    class_names: Sequence[str] = (),
    imagenet: bool = False,
) -> str:
    """The page, as HTML.

    ``dataset_root``: where the images of the manifest are (None: no thumbnails). ``calibration``: the dataset that
    calibration images were chosen from. ``imagenet``: whether published accuracies are comparable. Raises
    InputError naming the file that is missing or damaged.
    """
    rows = [result.row for result in results.rows]
    overlap = any(row.calibration_overlap for row in rows)
    front = pareto_front(rows)
    names = list(class_names)
    published = _published(results.rows) if imagenet else []
    covered = sections.coverage(results, calibration, names)
    recommendation = recommend(rows)
    values = {
        "results": results,
        "columns": [
            column
            for column in columns.displayed("page")
            if column.display
            and (imagenet or not column.display.imagenet_only)
            and (overlap or not column.display.overlap_only)
        ],
        "bounds": bounds,
        "front": front,
        "ran_by": ran_by,
        "kept_share": KEPT_SHARE,
        "recommendation": recommendation,
        "decision_plots": [
            _svg(plots.decision_plot(results.rows, front, recommendation.row, published, width))
            for width in (_WIDE, _NARROW)
        ]
        if front
        else [],
        "published": published,
        "imagenet": imagenet,
        "deviations": deviations(rows),
        "excluded": sections.excluded(results),
        "left_out": sum(left_out(results.rows[0].accuracy)),
        "calibration_notes": calibration_notes(rows, results.rows[0].accuracy),
        "losses": sections.losses(results, dataset_root, names),
        "latency_plots": _latency_plots(results),
        "peak_commands": sections.peak_commands(results),
        "peak_plots": [(result, _svg(plots.peak_plot(result, _HALF))) for result in results.rows if result.peak],
        "layer_plots": [
            (
                result,
                _svg(plots.layer_plot(result.name, result.quantization, _HALF)),
                sections.quantization_notes(result),
            )
            for result in results.rows
            if result.quantization is not None and not result.quantization.empty
        ],
        "front_rows": sections.front_rows,
        "coverage": covered,
        "coverage_plot": _svg(plots.coverage_plot(covered.by_class, _HALF)) if covered and covered.by_class else None,
        "parity": sections.parity(results),
        "conditioned": sections.conditioned(results),
        "times_plots": _times_plots(results),
        "class_order": reason_of_classes(class_file(results.manifest)),
        "origins": sections.origins(results),
        "acceptances": sections.acceptances(results),
        "machines": sections.distinct(results.receipts, "machine"),
        "versions": sections.distinct(results.receipts, "versions"),
        "commits": sections.distinct(results.receipts, "git_commit"),
        "digests": [(result, sections.digests_of(results, result)) for result in results.rows],
        "shared_commands": sections.shared_commands(results),
        "row_commands": [(result, sections.row_commands(results, result)) for result in results.rows],
    }
    return render("report.html.jinja", values)


def bounds(result: RowResults, column: Column) -> tuple[float | None, float | None]:
    """The bounds of the interval that a cell of the page shows; None where it has none, or they are unknown."""
    interval = column.display.interval if column.display else ""
    if isinstance(interval, tuple):
        low, high = (getattr(result.row, name) for name in interval)
    else:
        files = {"performance": result.performance, "accuracy": result.accuracy, "compiled": result.model_info}
        low, high = (lookup(files, interval) if interval else None) or (None, None)
    return low, high


def _svg(text: str) -> Markup:
    return Markup(text)  # noqa: S704 - Matplotlib escapes the text in its plots


def _published(rows: Sequence[RowResults]) -> list[dict[str, Any]]:
    """Published points of the very weights that were measured, at their size; none of weights that are guessed."""
    measured = [_weights_of(result.description) for result in rows]
    points = read_json(_PUBLISHED)["points"]
    return [point for point in points if [point[key] for key in ("library", "model", "weights", "size")] in measured]


def _weights_of(description: Mapping[str, Any]) -> list[Any] | None:
    """Library, architecture, published weights and size of an exported model; None where the weights are guessed."""
    library, preset = description.get("library"), description.get("preset") or {}
    if library is None or preset.get("is_guess", True):
        return None
    return [library, split_tag(library, description["name"])[0], preset["entry"], description["size"]]


def _latency_plots(results: Results) -> list[tuple[str, Markup]]:
    return [
        (variant, _svg(plots.latency_plot(rows, _HALF)))
        for variant, rows in results.variants.items()
        if any(result.performance.get("latency_us") for result in rows)
    ]


def _times_plots(results: Results) -> list[tuple[str, Markup]]:
    """Time and memory of the rules, each with its title; none where no job left a receipt."""
    seconds: dict[str, float] = {}
    peaks: dict[str, float] = {}
    for job in job_times(receipt.path for receipt in results.receipts):
        seconds[job.rule] = seconds.get(job.rule, 0.0) + job.seconds
        peaks[job.rule] = max(peaks.get(job.rule, 0.0), job.peak_bytes / 1e6)
    if not seconds:
        return []
    time = plots.bars_plot("times", seconds, "s", 1, "seconds, all jobs of the rule together", _HALF)
    memory = plots.bars_plot("memory", peaks, "MB", 0, "peak MB of the rule's largest process", _HALF)
    return [("Seconds of each rule", _svg(time)), ("Peak memory of each rule", _svg(memory))]
