"""The summary: one row for each variant and precision, written to summary.csv and read back."""

import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd

from mnasbench.errors import InputError, one_line
from mnasbench.result import columns
from mnasbench.result.columns import Column, Sources
from mnasbench.result.text_table import numbers, read_text_table


class Row(SimpleNamespace):
    """One row of the summary: an attribute for each column of the registry; None (for text "") is unknown."""

    @property
    def name(self) -> str:
        """Variant and precision, as the workflow's targets are named."""
        return f"{self.model}-{self.precision}"


def make_row(sources: Sources) -> Row:
    """One row from the files that its jobs left. InputError where they lack what no row can be without."""
    values = {column.name: _or_unknown(column, column.of(sources)) for column in columns.COLUMNS}
    for column in columns.COLUMNS:
        if column.required and values[column.name] in (None, ""):
            raise InputError(f"{values['model']}-{values['precision']}: its files do not say its {column.name}")
    return Row(**values)


def _or_unknown(column: Column, value: Any) -> Any:
    if column.kind is str:
        return "" if value is None else str(value)
    return value if value is not None and math.isfinite(value) else None


def to_csv(rows: Sequence[Row]) -> str:
    """The summary as CSV with a header."""
    cells = {column.name: [_cell(column, getattr(row, column.name)) for row in rows] for column in columns.COLUMNS}
    return pd.DataFrame(cells).to_csv(index=False, lineterminator="\n")


def _cell(column: Column, value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.{column.digits}f}" if isinstance(value, float) else str(value)


def read_summary(path: Path) -> pd.DataFrame:
    """A summary as written: whole numbers as Int64, others as float64, missing where they are unknown; text as it is.

    A column that an older summary lacks is unknown in every row; one that only a newer summary has is kept as text,
    behind the others. Raises InputError where the file is no summary, where a cell is no number, where two rows are
    of one variant and precision, or the rows are of two datasets.
    """
    what = f"{one_line(path)}: is not a summary; make one with `make run`, or name another folder"
    try:
        table = read_text_table(path)
    except InputError as error:
        raise InputError(f"{what} ({one_line(error)})" if path.is_file() else str(error)) from error
    required = [column.name for column in columns.COLUMNS if column.required]
    if table.empty or not set(required) <= set(table.columns):
        raise InputError(what)
    for column in columns.COLUMNS:
        cells = table.get(column.name, pd.Series("", table.index, name=column.name))
        if column.required and (cells == "").any():
            raise InputError(f"{one_line(path)}: a row has no {column.name}")
        table[column.name] = cells if column.kind is str else numbers(path, cells, whole=column.kind is int)
    twice = table[table.duplicated(["model", "precision"])]
    if not twice.empty:
        row = twice.iloc[0]
        raise InputError(f"{one_line(path)}: has two rows of {one_line(row.model)} in {one_line(row.precision)}")
    if table.dataset.nunique() > 1:
        raise InputError(f"{one_line(path)}: has rows of several datasets ({', '.join(table.dataset.unique())})")
    return table[[*columns.names(), *(name for name in table.columns if name not in columns.names())]]


def rows_of(table: pd.DataFrame) -> list[Row]:
    """The rows of a summary that was read; None where a number is missing."""
    values = table.astype(object).where(table.notna(), None)
    return [Row(**dict(zip(values.columns, cells, strict=True))) for cells in values.to_numpy()]
