"""A finished results folder, read back: its rows with the files behind them, and the receipts of their jobs."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from mnasbench.errors import InputError, one_line
from mnasbench.files import read_json
from mnasbench.precisions import BASELINE
from mnasbench.result.answers import read_answers
from mnasbench.result.chain import jobs_behind
from mnasbench.result.row_files import NAME, read_row_files
from mnasbench.result.summary import Row, read_summary, rows_of
from mnasbench.result.text_table import read_text_table
from mnasbench.result.times import find_receipts


@dataclass(frozen=True)
class RowResults:
    """One row of the summary and what its jobs left.

    ``description``: of the exported graph; empty where that is not there. ``quantization``: the error of each layer as
    written; None where the row's compiler leaves no such table. ``peak``: what ``ort-vamp --find-peak --json`` wrote to
    peak.json, where somebody did for this build. ``condition``: the certificate of the conditioned graph, where the
    row's compiler was given one.
    """

    row: Row
    description: Mapping[str, Any]
    accuracy: Mapping[str, Any]
    performance: Mapping[str, Any]
    model_info: Mapping[str, Any]
    quantization: pd.DataFrame | None
    peak: Mapping[str, Any] | None
    parity: Mapping[str, Any] | None
    condition: Mapping[str, Any] | None
    answer_files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """Variant and precision, as the workflow's targets are named."""
        return self.row.name

    @property
    def architecture(self) -> str:
        """The model's name in its library."""
        return str(self.description.get("name", self.row.model))

    @property
    def classes(self) -> int | None:
        """How many classes its model has; None where what was compiled does not say."""
        outputs = self.model_info.get("outputs") or [{}]
        shape = outputs[0].get("shape") or [None]
        return shape[-1] if isinstance(shape[-1], int) else None

    @property
    def layers(self) -> tuple[dict[Hashable, str], ...]:
        """The rows of ``quantization``; none where there is no such table."""
        return () if self.quantization is None else tuple(self.quantization.to_dict("records"))

    def answers(self) -> pd.DataFrame:
        """Its table of answers."""
        return read_answers(self.answer_files)


@dataclass(frozen=True)
class Receipt:
    """The receipt of one job; ``variant`` and ``precision`` are empty for a job that serves several rows."""

    path: Path
    content: Mapping[str, Any]
    variant: str = ""
    precision: str = ""

    @property
    def rule(self) -> str:
        """Name of the job's rule."""
        return str(self.content["rule"])

    @property
    def identity(self) -> tuple[str, str]:
        """Variant and precision."""
        return self.variant, self.precision


@dataclass(frozen=True)
class Results:
    """A results folder: its rows in the summary's order, and the receipts of their jobs in the order of their start.

    ``table``: the summary. ``manifest``: of the rows' dataset. ``calibration``: the list of calibration images, None
    where no row has any. A copied folder may lack either file.
    """

    folder: Path
    table: pd.DataFrame
    rows: tuple[RowResults, ...]
    receipts: tuple[Receipt, ...]
    manifest: Path
    calibration: Path | None

    @cached_property
    def variants(self) -> dict[str, list[RowResults]]:
        """Rows by variant."""
        variants: dict[str, list[RowResults]] = {}
        for row in self.rows:
            variants.setdefault(row.row.model, []).append(row)
        return variants

    def reference_of(self, row: RowResults) -> RowResults | None:
        """The fp32 row that a quantized row is held against, or None."""
        rows = self.variants[row.row.model]
        return next((other for other in rows if other.row.precision == BASELINE and other is not row), None)


def read_results(folder: Path) -> Results:
    """Read ``folder``, as the workflow leaves it. Raises InputError naming the file that is missing or damaged.

    Every file is one that summary.json names: what else lies in the folder may be of a former build.
    """
    table = read_summary(folder / "summary.csv")
    files = read_row_files(folder)
    by_name = {(row["model"], row["precision"]): row for row in files["rows"]}
    rows = []
    for row in rows_of(table):
        own = by_name.get((row.model, row.precision))
        if own is None:
            raise InputError(f"{one_line(folder / NAME)}: does not name the files of {one_line(row.name)}")
        rows.append(_row_results(folder, row, own["files"], own["answers"]))
    calibration = files["data"].get("calibration")
    return Results(
        folder,
        table,
        tuple(rows),
        tuple(_receipts(folder, [by_name[row.row.model, row.row.precision] for row in rows], files["data"])),
        folder / files["data"]["manifest"],
        folder / calibration if calibration else None,
    )


def _row_results(folder: Path, row: Row, files: Mapping[str, str], answers: list[str]) -> RowResults:
    def read(kind: str) -> Any:
        path = folder / files[kind] if kind in files else None
        return read_json(path) if path is not None and path.is_file() else None

    performance = read_json(folder / files["performance"])
    peak, layers = read("peak"), folder / files.get("layers", "")
    return RowResults(
        row,
        read("exported") or {},
        read_json(folder / files["accuracy"]),
        performance,
        read("compiled") or {},
        read_text_table(layers) if layers.is_file() else None,
        # Made by hand, and so perhaps of a former build.
        peak if peak and peak.get("digests") == performance.get("digests") else None,
        read("parity"),
        read("condition"),
        tuple(folder / name for name in answers),
    )


def _receipts(folder: Path, rows: Sequence[Mapping[str, Any]], data: Mapping[str, str]) -> list[Receipt]:
    """Those of the jobs that these rows of summary.json and its data rest on, in the order of their start."""
    contents = {}
    for path in find_receipts(folder):
        content = read_json(path)
        named = {
            kind: [_in_folder(name, folder) for name in content.get(kind, ())]
            for kind in ("inputs", "outputs", "folders")
        }
        contents[path.relative_to(folder).as_posix()] = content | named
    read = [name for row in rows for name in (*row["files"].values(), *row["answers"])]
    identities = {(row["model"], row["precision"]) for row in rows}
    models = {model for model, _ in identities}
    receipts = []
    own = [name for name in ("summary.receipt.json",) if name in contents]
    for name in [*jobs_behind([*data.values(), *read], contents), *own]:
        stage, *below = Path(name).parent.parts or ("",)
        variant = below[0] if stage != "data" and below and below[0] in models else ""
        # What lies deeper below a variant and is no precision's serves all of them.
        precision = below[1] if (variant, *below[1:2]) in identities else ""
        receipts.append(Receipt(folder / name, read_json(folder / name), variant, precision))
    return receipts


def _in_folder(name: str, folder: Path) -> str:
    """A name as a receipt has it, relative to the results folder that it was in, whatever that is called now."""
    path = Path(name)
    inside = path.relative_to(folder) if path.is_relative_to(folder) else Path(*path.parts[1:])
    return inside.as_posix()
