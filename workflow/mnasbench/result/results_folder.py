"""A finished results folder, read back: its rows with the files behind them, and the receipts of their jobs."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from mnasbench.errors import InputError, one_line
from mnasbench.files import read_json, read_text
from mnasbench.receipts import RECEIPT_SUFFIX
from mnasbench.result.evaluation import Answer, read_answers
from mnasbench.result.summary import COLUMNS, Row, read_csv
from mnasbench.result.times import find_receipts


@dataclass(frozen=True)
class RowResults:
    """One row of the summary and what its jobs left.

    ``architecture``: the model's name in its library. ``layers``: rows of quantization.csv as written; empty where
    the row is not int8. ``peak``: what ``ort-vamp --find-peak --json`` wrote to peak.json, where somebody did.
    """

    row: Row
    architecture: str
    accuracy: Mapping[str, Any]
    performance: Mapping[str, Any]
    model_info: Mapping[str, Any]
    layers: tuple[dict[str, str], ...]
    peak: Mapping[str, Any] | None
    answer_files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """Variant and precision, as the workflow's targets are named."""
        return f"{self.row.model}-{self.row.precision}"

    def answers(self) -> list[Answer]:
        """The answers of all shards, by name of their images."""
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
    """A results folder: its rows in the summary's order, and the receipts of their jobs in the order of their start."""

    folder: Path
    rows: tuple[RowResults, ...]
    receipts: tuple[Receipt, ...]

    @property
    def variants(self) -> dict[str, list[RowResults]]:
        """Rows by variant."""
        found: dict[str, list[RowResults]] = {}
        for row in self.rows:
            found.setdefault(row.row.model, []).append(row)
        return found

    def reference_of(self, row: RowResults) -> RowResults | None:
        """The fp32 row that a quantized row is held against, or None."""
        rows = self.variants[row.row.model]
        return next((other for other in rows if other.row.precision == "fp32" and other is not row), None)

    def data_folder(self) -> Path:
        """Where the manifest and the calibration list of the rows' dataset are."""
        return self.folder / "data" / self.rows[0].row.dataset


def read_results(folder: Path) -> Results:
    """Read ``folder``, as the workflow leaves it. Raises InputError naming the file that is missing or damaged."""
    path = folder / "summary.csv"
    try:
        written = read_csv(read_text(path))
    except csv.Error:
        written = []
    # DictReader gives None for what a short row lacks.
    if not written or any(set(COLUMNS) - {key for key, value in row.items() if value is not None} for row in written):
        raise InputError(f"{one_line(path)}: is not a summary; make one with `make run`, or name another folder")
    rows = tuple(_row_results(folder, _parse(path, row)) for row in written)
    return Results(folder, rows, tuple(_receipts(folder, rows)))


def _parse(path: Path, written: Mapping[str, str]) -> Row:
    values: dict[str, Any] = {}
    for field in fields(Row):
        kinds = get_args(field.type) or (field.type,)
        text = written[field.name]
        if str in kinds:
            values[field.name] = text
        elif not text and type(None) in kinds:
            values[field.name] = None
        else:
            try:
                values[field.name] = int(text) if int in kinds else float(text)
            except ValueError as error:
                raise InputError(f"{one_line(path)}: {field.name} is {one_line(text)!r}, not a number") from error
    return Row(**values)


def _row_results(folder: Path, row: Row) -> RowResults:
    built = folder / "build" / row.model / row.precision
    run, result = (folder / stage / row.model / row.precision for stage in ("run", "result"))
    exported = next((path for path in sorted((folder / "model" / row.model).glob("*.json")) if _is_data(path)), None)
    # The vendor's compiler leaves a JSON of its own; what was compiled then stands beside its folder.
    info = next(iter([*built.glob("compiled.json"), *sorted(built.glob(f"*/{row.model}.json"))]), None)
    layers = next(iter(sorted(built.glob("*/quantization.csv"))), None)
    peak = run / "peak.json"
    return RowResults(
        row,
        read_json(exported)["name"] if exported else row.model,
        read_json(result / "accuracy.json"),
        read_json(run / "performance.json"),
        read_json(info) if info else {},
        tuple(csv.DictReader(io.StringIO(read_text(layers)))) if layers else (),
        read_json(peak) if peak.is_file() else None,
        tuple(sorted(result.glob("answers-*.csv"))),
    )


def _is_data(path: Path) -> bool:
    return not path.name.endswith(RECEIPT_SUFFIX)


def _receipts(folder: Path, rows: tuple[RowResults, ...]) -> list[Receipt]:
    """Those of the summary's rows: a folder may hold what is left of variants that were since taken out."""
    wanted = {(row.row.model, row.row.precision) for row in rows}
    found = []
    for path in find_receipts(folder):
        stage, *below = path.relative_to(folder).parts
        variant = below[0] if stage in {"model", "build", "run", "result"} and len(below) > 1 else ""
        precision = below[1] if len(below) > 2 and variant else ""
        kept = not variant or any(variant == row[0] and precision in {"", row[1]} for row in wanted)
        # The report cannot hold the receipt of the job that writes it.
        if kept and path.name != f"report{RECEIPT_SUFFIX}":
            found.append(Receipt(path, read_json(path), variant, precision))
    return sorted(found, key=lambda receipt: (str(receipt.content["started"]), str(receipt.path)))
