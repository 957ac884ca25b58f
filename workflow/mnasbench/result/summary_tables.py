"""The summary as people read it: a table for a terminal or for Markdown, and the notes below it."""

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from mnasbench.errors import named
from mnasbench.result import columns
from mnasbench.result.columns import Column, Display, Place
from mnasbench.result.summary import Row
from mnasbench.runtimes import title_of

TERMINAL_WIDTH = 100
UNKNOWN = "-"
_MARK = "*"
# Digits of the bounds of an interval that stands in a cell.
_BOUND_DIGITS = 1
_CONFIDENCE = "95 %"


def ran_by(row: Row) -> str:
    """What ran a row, as people call it: its runtime, or the card; empty where its files do not say."""
    if row.runtime:
        return title_of(row.runtime)
    return "The card" if row.engine == "vacc" else str(row.engine)


def _shown(value: Any, display: Display, digits: int | None = None) -> str:
    if value is None or value == "":
        return UNKNOWN
    if isinstance(value, str):
        return value
    return f"{value * display.scale:.{display.digits if digits is None else digits}f}"


def _cells(rows: Sequence[Row], place: Place) -> dict[Column, list[str]]:
    """The cells of each column that ``place`` shows."""
    shown = {}
    for column in columns.displayed(place):
        display = column.display or Display("")
        cells = [_shown(getattr(row, column.name), display) for row in rows]
        if display.interval_everywhere:
            bounds = [[_shown(getattr(row, name), display, _BOUND_DIGITS) for name in display.interval] for row in rows]
            cells = [f"{cell} ({low}-{high})" for cell, (low, high) in zip(cells, bounds, strict=True)]
        shown[column] = cells
    return shown


def _heading(column: Column) -> str:
    display = column.display or Display(column.name)
    return f"{display.heading} ({_CONFIDENCE})" if display.interval_everywhere else display.heading


def markdown_table(rows: Sequence[Row]) -> str:
    """The summary's main columns as a table of GitHub's Markdown."""
    shown = _cells(rows, "markdown")
    aligned = ["left" if column.kind is str else "right" for column in shown]
    cells = zip(*shown.values(), strict=True)
    return tabulate(cells, list(map(_heading, shown)), tablefmt="github", colalign=aligned, disable_numparse=True)


def terminal_table(rows: Sequence[Row]) -> str:
    """The summary's main columns in at most TERMINAL_WIDTH characters; a star at a speed whose run was not VALID."""
    shown = _cells(rows, "terminal")
    # The verdict is a mark at what it is about.
    for column in [column for column in shown if column.display and column.display.form == "verdict"]:
        del shown[column]
    for column, cells in shown.items():
        if column.name == "throughput_qps":
            marks = (_MARK if row.verdict not in {"", "VALID"} else " " for row in rows)
            shown[column] = [f"{cell}{mark}" for cell, mark in zip(cells, marks, strict=True)]
    dispensable = [column for column in shown if column.display and column.display.dispensable is not None]
    dispensable.sort(key=lambda column: (column.display and column.display.dispensable) or 0)
    while True:
        text = _plain(shown)
        surplus = max(map(len, text.splitlines())) - TERMINAL_WIDTH
        if surplus <= 0:
            return text
        if not dispensable:
            break
        del shown[dispensable.pop(0)]
    model = next(column for column in shown if column.name == "model")
    most = max(8, max(map(len, shown[model])) - surplus)
    shown[model] = [name if len(name) <= most else f"{name[: most - 3]}..." for name in shown[model]]
    return _plain(shown)


def _plain(shown: Mapping[Column, Sequence[str]]) -> str:
    widths = {column: max(len(_heading(column)), *map(len, cells)) for column, cells in shown.items()}
    head = [list(map(_heading, shown)), ["-" * width for width in widths.values()]]
    # tabulate would make every column at least two characters wider than its heading.
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column.kind is str else cell.rjust(width)
            for cell, (column, width) in zip(line, widths.items(), strict=True)
        ).rstrip()
        for line in [*head, *zip(*shown.values(), strict=True)]
    )


def exclusion_notes(accuracy: Mapping[str, Any]) -> list[str]:
    """One line on the images that could not be read and so count nowhere; none where there is no such image.

    ``accuracy``: the content of a row's accuracy JSON; the images are the same for every row.
    """
    excluded = accuracy.get("excluded")
    if not excluded:
        return []
    images = int(accuracy["images"]) + sum(left_out(accuracy))
    return [f"excluded, as faulty: {len(excluded)} of {images} images ({named(excluded)}); the manifest says why"]


def left_out(accuracy: Mapping[str, Any]) -> tuple[int, int]:
    """How many images of the dataset count nowhere: faulty ones, and calibration images that are not judged."""
    return len(accuracy.get("excluded") or ()), int(accuracy.get("calibration_left_out") or 0)


def calibration_notes(rows: Sequence[Row], accuracy: Mapping[str, Any]) -> list[str]:
    """What calibration images have to do with the judged ones, and what the rows come to without them.

    None where none of them is judged, or was left out; ``accuracy`` as in ``exclusion_notes``.
    """
    _, split = left_out(accuracy)
    notes = [f"calibration images are not judged: {split} of {split + rows[0].images} images"] if split else []
    overlap = {(row.calibration_overlap, row.images) for row in rows if row.calibration_overlap}
    for calibrated, images in sorted(overlap):
        notes.append(
            f"{calibrated} of the {images} judged images are calibration images, too"
            + ("" if calibrated < images else ", so none is left to judge without them")
            + " (calibration.split: true judges the others alone)"
        )
    for model in dict.fromkeys(row.model for row in rows if row.calibration_overlap and row.held_out_top1 is not None):
        own = "; ".join(_held_out(row) for row in rows if row.model == model and row.held_out_top1 is not None)
        notes.append(f"{model} without them: {own}")
    return notes


def _held_out(row: Row) -> str:
    text = f"{row.precision} top-1 {row.held_out_top1:.2f}"
    if row.held_out_top1_drop is None or row.held_out_agreement is None:
        return text
    return f"{text}, drop {row.held_out_top1_drop:.2f}, agreement {row.held_out_agreement:.1f}"


def terminal_notes(
    rows: Sequence[Row],
    reasons: Mapping[tuple[str, str], str],
    exclusions: Sequence[str] = (),
) -> list[str]:
    """What must be known to read ``terminal_table``: which runs are not VALID, and what accuracies compare with.

    ``reasons``: why a run is not VALID, by model and precision, where a reason was recorded; ``exclusions``: what
    ``exclusion_notes`` says.
    """
    notes = [f"{_MARK} {note}" for note in exclusions]
    for row in rows:
        if row.verdict not in {"", "VALID"}:
            reason = reasons.get((row.model, row.precision))
            because = f" ({reason})" if reason else ""
            notes.append(f"{_MARK} {row.model} {row.precision}: {row.verdict}{because}; its speed is in doubt")
    published = {row.model: row for row in rows if row.reference_top1 is not None}
    for model, row in published.items():
        five = "" if row.reference_top5 is None else f", top-5 {row.reference_top5:.2f}"
        source = f" ({row.reference_source})" if row.reference_source else ""
        accuracies = f"published top-1 {row.reference_top1:.2f}{five}{source}"
        notes.append(f"{model}: {accuracies}, comparable with the fp32 row")
    if not published:
        dataset = rows[0].dataset
        notes.append(f"No published accuracy is comparable: they are of ImageNet, and these are of {dataset}.")
    fp32 = {row.model for row in rows if row.precision == "fp32"}
    alone = sorted({row.model for row in rows} - fp32)
    runners = {ran_by(row) for row in rows} - {""}
    if len(runners) > 1:
        for runner in sorted(runners):
            ran = dict.fromkeys(row.precision for row in rows if ran_by(row) == runner)
            notes.append(f"{runner} ran {', '.join(ran)}.")
    notes.append("Drop (points) and agreement (%) are against the model's own fp32 row, on the same images.")
    if alone:
        notes.append(f"Without an fp32 row, and so without a drop: {', '.join(alone)}.")
    return notes


def to_markdown(rows: Sequence[Row], notes: Sequence[str]) -> str:
    """The summary as a page: the table, then one line for each note."""
    return "\n".join(["# Results", "", markdown_table(rows), "", *(f"- {note}" for note in notes)]) + "\n"
