"""The summary: one row for each variant and precision, from the JSON files that their jobs left."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from tabulate import tabulate

from mnasbench.errors import named

# What the columns mean stands in docs/measurement.md; their names are a fixed contract.


@dataclass(frozen=True)
class Row:
    """A row of summary.csv, in the order of its columns; None is unknown, which is never zero.

    Accuracies, drops and agreement in percent; throughput in images a second; latencies in microseconds.
    """

    model: str
    precision: str
    engine: str
    dataset: str
    images: int
    top1: float
    top1_low: float
    top1_high: float
    top5: float
    top1_drop: float | None
    top1_drop_low: float | None
    top1_drop_high: float | None
    mcnemar_p: float | None
    agreement: float | None
    sqnr_db: float | None
    throughput_qps: float | None
    latency_avg_us: float | None
    latency_p50_us: float | None
    latency_p90_us: float | None
    latency_p95_us: float | None
    latency_p99_us: float | None
    verdict: str
    model_bytes: int | None
    params: int
    macs: int
    reference_top1: float | None
    reference_top5: float | None
    reference_source: str


COLUMNS = tuple(field.name for field in fields(Row))
# Digits after the point: an accuracy's third is one image of 50,000; a latency's is a nanosecond.
_DIGITS = {"mcnemar_p": 6, "sqnr_db": 2, "throughput_qps": 2} | {name: 1 for name in COLUMNS if name.endswith("_us")}
_DEFAULT_DIGITS = 3


def make_row(
    identity: Mapping[str, str],
    exported: Mapping[str, Any],
    compiled: Mapping[str, Any] | None,
    performance: Mapping[str, Any],
    accuracy: Mapping[str, Any],
    reference: tuple[float | None, float | None, str],
) -> Row:
    """One row from what each stage knows. ``compiled`` is None where an engine says nothing of its files' sizes."""
    latency = performance.get("latency_us", {})
    files = compiled["files"] if compiled else None
    names = ("top1", "top1_low", "top1_high", "top5")
    against_fp32 = ("top1_drop", "top1_drop_low", "top1_drop_high", "mcnemar_p", "agreement", "sqnr_db")
    known: dict[str, Any] = {name: accuracy[name] for name in names}
    known |= {name: accuracy.get(name) for name in against_fp32}
    known |= {f"latency_{name}_us": latency.get(name) for name in ("avg", "p50", "p90", "p95", "p99")}
    return Row(
        **known,
        model=identity["model"],
        precision=identity["precision"],
        # The embedded engine has two runtimes; a reader of the numbers must know which one made them.
        engine="openvino" if performance.get("runtime", {}).get("name") == "openvino" else identity["engine"],
        dataset=identity["dataset"],
        images=accuracy["images"],
        throughput_qps=performance.get("throughput_qps"),
        verdict=performance.get("verdict", {}).get("status", ""),
        model_bytes=sum(value for key, value in files.items() if key.endswith("_bytes")) if files else None,
        params=exported["params"],
        macs=exported["macs"],
        reference_top1=reference[0],
        reference_top5=reference[1],
        reference_source=reference[2],
    )


def _cell(name: str, value: object) -> str:
    if value is None:
        return ""
    return f"{value:.{_DIGITS.get(name, _DEFAULT_DIGITS)}f}" if isinstance(value, float) else str(value)


def to_csv(rows: Sequence[Row]) -> str:
    """The summary as CSV with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_cell(name, getattr(row, name)) for name in COLUMNS] for row in rows)
    return text.getvalue()


def read_csv(text: str) -> list[dict[str, str]]:
    """The rows of a summary as written, by column."""
    return list(csv.DictReader(io.StringIO(text)))


_HEADERS = ("model", "precision", "top-1 (95 %)", "top-5", "drop", "agree", "images/s", "p50 ms", "p99 ms", "MB", "run")


def _short(row: Mapping[str, str]) -> list[str]:
    def scaled(name: str, factor: float, digits: int) -> str:
        return f"{float(row[name]) * factor:.{digits}f}" if row[name] else "-"

    interval = f"{scaled('top1', 1, 2)} ({scaled('top1_low', 1, 1)}-{scaled('top1_high', 1, 1)})"
    return [
        row["model"],
        row["precision"],
        interval,
        scaled("top5", 1, 2),
        scaled("top1_drop", 1, 2),
        scaled("agreement", 1, 1),
        scaled("throughput_qps", 1, 0),
        scaled("latency_p50_us", 1e-3, 2),
        scaled("latency_p99_us", 1e-3, 2),
        scaled("model_bytes", 1e-6, 1),
        row["verdict"] or "-",
    ]


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """The summary's main columns as a table of GitHub's Markdown."""
    numbers = ("left", "left", *["right"] * (len(_HEADERS) - 3), "left")
    return tabulate([_short(row) for row in rows], _HEADERS, tablefmt="github", colalign=numbers, disable_numparse=True)


# ----------------------------------------------------------------------------------------------------- on a terminal
TERMINAL_WIDTH = 100
# Engines as people call them.
ENGINES = {"ort": "ONNX Runtime", "openvino": "OpenVINO", "vacc": "The card"}
_MARK = "*"
# What a terminal that is too narrow for long names goes without, the first first; summary.csv has it all.
_DISPENSABLE = ("MB", "p50 ms", "agree")


def terminal_table(rows: Sequence[Mapping[str, str]]) -> str:
    """The summary's main columns in at most TERMINAL_WIDTH characters; a star at a speed whose run was not VALID."""
    columns = dict(zip(_HEADERS, zip(*(_short(row) for row in rows), strict=True), strict=True))
    verdicts = columns.pop("run")
    marks = (_MARK if verdict not in {"VALID", "-"} else " " for verdict in verdicts)
    columns["images/s"] = tuple(f"{rate}{mark}" for rate, mark in zip(columns["images/s"], marks, strict=True))
    for name in (None, *_DISPENSABLE):
        columns.pop(name or "", None)
        shown = _plain(columns)
        surplus = max(map(len, shown.splitlines())) - TERMINAL_WIDTH
        if surplus <= 0:
            return shown
    most = max(8, max(map(len, columns["model"])) - surplus)
    columns["model"] = tuple(name if len(name) <= most else f"{name[: most - 3]}..." for name in columns["model"])
    return _plain(columns)


def _plain(columns: Mapping[str, Sequence[str]]) -> str:
    widths = {name: max(len(name), *map(len, cells)) for name, cells in columns.items()}
    lines = [list(columns), ["-" * width for width in widths.values()], *zip(*columns.values(), strict=True)]
    # tabulate would make every column at least two characters wider than its heading.
    return "\n".join(
        "  ".join(
            cell.ljust(width) if name in {"model", "precision"} else cell.rjust(width)
            for cell, (name, width) in zip(line, widths.items(), strict=True)
        ).rstrip()
        for line in lines
    )


def exclusion_notes(accuracy: Mapping[str, Any]) -> list[str]:
    """One line on the images that could not be read and so count nowhere; none where there is no such image.

    ``accuracy``: the content of a row's accuracy JSON; the images are the same for every row.
    """
    excluded = accuracy.get("excluded")
    if not excluded:
        return []
    images = int(accuracy["images"]) + len(excluded)
    return [f"excluded, as faulty: {len(excluded)} of {images} images ({named(excluded)}); the manifest says why"]


def terminal_notes(
    rows: Sequence[Mapping[str, str]],
    reasons: Mapping[tuple[str, str], str],
    exclusions: Sequence[str] = (),
) -> list[str]:
    """What must be known to read ``terminal_table``: which runs are not VALID, and what accuracies compare with.

    ``reasons``: why a run is not VALID, by model and precision, where that is known; ``exclusions``: what
    ``exclusion_notes`` says.
    """
    notes = [f"{_MARK} {note}" for note in exclusions]
    for row in rows:
        if row["verdict"] not in {"", "VALID"}:
            why = reasons.get((row["model"], row["precision"]))
            told = f" ({why})" if why else ""
            notes.append(f"{_MARK} {row['model']} {row['precision']}: {row['verdict']}{told}; its speed is in doubt")
    published = {row["model"]: row for row in rows if row["reference_top1"]}
    for model, row in published.items():
        five = f", top-5 {float(row['reference_top5']):.2f}" if row["reference_top5"] else ""
        told = f"published top-1 {float(row['reference_top1']):.2f}{five} ({row['reference_source']})"
        notes.append(f"{model}: {told}, comparable with the fp32 row")
    if not published:
        dataset = rows[0]["dataset"]
        notes.append(f"No published accuracy is comparable: they are of ImageNet, and these are of {dataset}.")
    fp32 = {row["model"] for row in rows if row["precision"] == "fp32"}
    alone = sorted({row["model"] for row in rows} - fp32)
    engines = {row["engine"] for row in rows if row["engine"]}
    if len(engines) > 1:
        for engine in sorted(engines):
            ran = dict.fromkeys(row["precision"] for row in rows if row["engine"] == engine)
            notes.append(f"{ENGINES.get(engine, engine)} ran {', '.join(ran)}.")
    notes.append("Drop (points) and agreement (%) are against the model's own fp32 row, on the same images.")
    if alone:
        notes.append(f"Without an fp32 row, and so without a drop: {', '.join(alone)}.")
    return notes


def to_markdown(rows: Sequence[Mapping[str, str]], notes: Sequence[str]) -> str:
    """The summary as a page: the table, then one line for each note."""
    return "\n".join(["# Results", "", table(rows), "", *(f"- {note}" for note in notes)]) + "\n"
