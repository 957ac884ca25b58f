"""CSV files as tables of text: strict in their shape, and without a guess at what a cell means."""

import csv
import io
import math
from pathlib import Path

import numpy as np
import pandas as pd

from mnasbench.errors import InputError, one_line
from mnasbench.files import read_text


def read_text_table(path: Path) -> pd.DataFrame:
    """The cells of a CSV file with a header, all of them text: an empty cell is "", and "NA" is a name like any other.

    Raises InputError for a file that is no such table. pandas' own reader would fill a line that was cut short with
    empty cells, take the surplus of a long one for an index, and rename the second of two equal headings.
    """
    rows = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        header, *lines = [row for row in rows if row]
        if len(set(header)) < len(header) or any(len(line) != len(header) for line in lines):
            raise ValueError("lines of different lengths, or two columns of one name")
    except (ValueError, csv.Error) as error:
        raise InputError(f"{one_line(path)}: is not a table ({one_line(error)})") from error
    return pd.DataFrame(lines, columns=header, dtype=object)


def numbers(path: Path, cells: pd.Series, *, whole: bool = False) -> pd.Series:
    """A column of text as numbers, in full precision; an empty cell is missing.

    Raises InputError naming a cell that is no finite number: a NaN would pass every comparison unseen.
    """
    missing = (cells == "").to_numpy()
    texts = np.where(missing, "0", cells.to_numpy()).astype(str)
    try:
        values = texts.astype(np.int64 if whole else np.float64)
        if not np.isfinite(values).all():
            raise ValueError("not finite")
    except (ValueError, OverflowError) as error:
        wrong = next((text for text in texts.tolist() if not _is_number(text, whole)), cells.name)
        raise InputError(f"{one_line(path)}: {cells.name} is {one_line(str(wrong))!r}, not a number") from error
    if whole:
        return pd.Series(values, cells.index, "Int64", cells.name).mask(missing)
    return pd.Series(np.where(missing, np.nan, values), cells.index, name=cells.name)


def _is_number(text: str, whole: bool) -> bool:
    try:
        return math.isfinite(int(text) if whole else float(text))
    except (ValueError, OverflowError):
        return False
