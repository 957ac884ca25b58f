"""Two results folders against each other, row by row: another CPU, a card, last month.

``a`` is what is compared with (the older, the reference), ``b`` what is judged; a drop is a minus b, as everywhere.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any, Literal

import pandas as pd
from scipy import stats
from tabulate import tabulate

from mnasbench.data.image_keys import by_key
from mnasbench.data.manifest_file import read_manifest
from mnasbench.errors import InputError, did_you_mean, one_line
from mnasbench.result import columns
from mnasbench.result.answers import is_top1
from mnasbench.result.columns import Column, Compared
from mnasbench.result.page import number, p_value, render, signed
from mnasbench.result.results_folder import Results, RowResults
from mnasbench.result.statistics import CONFIDENCE, PairedComparison, wilson_interval

_KEY = ["model", "precision"]
_VALID = "VALID"


@dataclass(frozen=True)
class Figure:
    """One column of a comparison: its name for gates, and how tables show it.

    ``interval``: the columns of its bounds. ``terminal`` is its heading there, empty where a terminal goes without it;
    ``page`` likewise.
    """

    name: str
    terminal: str = ""
    page: str = ""
    digits: int = 2
    scale: float = 1.0
    form: Literal["number", "signed", "p", "text", "verdict"] = "number"
    interval: tuple[str, str] | None = None

    def shown(self, row: Any) -> str:
        """Its cell in a table of text."""
        value = getattr(row, self.name)
        if self.form == "p":
            return p_value(value)
        if self.form == "signed":
            bounds = [signed(getattr(row, name), 1) for name in self.interval or ()]
            return signed(value, self.digits) + (f" ({' '.join(bounds)})" if bounds else "")
        return number(value, self.digits, self.scale)


# ---------------------------------------------------------------------------------------------- tests of a difference
@dataclass(frozen=True)
class Test:
    """How sure a difference is: the figures that belong to the column of a stem, and what computes them of two rows.

    ``interval``: the figures that are the bounds of its drop.
    """

    run: Callable[["Pair"], dict[str, Any]]
    figures: tuple[Figure, ...]
    interval: tuple[str, str] | None = None


@dataclass(frozen=True)
class Pair:
    """One row of both folders; ``same_images`` where the files of the images are known to be equal or not known."""

    a: RowResults
    b: RowResults
    same_images: bool


def _top1(pair: Pair) -> dict[str, Any]:
    a, b = pair.a.answers(), pair.b.answers()
    paired = pair.same_images and a[["name", "label"]].equals(b[["name", "label"]])
    return _paired(a, b) if paired else _independent(pair.a, pair.b)


def _paired(a: pd.DataFrame, b: pd.DataFrame) -> dict[str, Any]:
    """McNemar's mid-p, the interval of paired proportions, and the images whose first class is the same."""
    right_a, right_b = is_top1(a), is_top1(b)
    lost, gained = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    test = PairedComparison(len(a), lost, gained)
    low, high = test.drop_interval()
    return {
        "paired": True,
        "top1_drop_low": 100 * low,
        "top1_drop_high": 100 * high,
        "top1_p": test.mcnemar_p,
        "agreement": 100 * int((a.top1 == b.top1).sum()) / len(a),
        "lost": lost,
        "gained": gained,
        "top1_drop": 100 * test.drop,
    }


def _independent(a: RowResults, b: RowResults) -> dict[str, Any]:
    """Fisher's exact p, and the interval of two counts (Newcombe's hybrid score interval, Stat. Med. 17, 1998)."""
    counts = [(int(result.accuracy["correct_top1"]), int(result.accuracy["images"])) for result in (a, b)]
    share_a, share_b = (correct / images for correct, images in counts)
    (low_a, high_a), (low_b, high_b) = (wilson_interval(*count) for count in counts)
    drop = share_a - share_b
    return {
        "paired": False,
        "top1_drop_low": 100 * (drop - math.hypot(share_a - low_a, high_b - share_b)),
        "top1_drop_high": 100 * (drop + math.hypot(high_a - share_a, share_b - low_b)),
        "top1_p": float(stats.fisher_exact([[correct, images - correct] for correct, images in counts]).pvalue),
        "agreement": math.nan,
        "lost": math.nan,
        "gained": math.nan,
        "top1_drop": 100 * drop,
    }


def _throughput(pair: Pair) -> dict[str, Any]:
    """Welch's t test between the windows of the two runs: of the scatter within a run, not from one to the next."""
    windows = [(result.performance.get("windows") or {}).get("throughput_qps") or [] for result in (pair.a, pair.b)]
    if min(map(len, windows)) < 2 or windows[0] == windows[1]:
        return {"throughput_p": math.nan}
    return {"throughput_p": float(stats.ttest_ind(windows[0], windows[1], equal_var=False).pvalue)}


# By the stem of the column that they are about.
TESTS = {
    "top1": Test(
        _top1,
        (
            Figure("top1_drop_low"),
            Figure("top1_drop_high"),
            Figure("top1_p", "p", "p", form="p"),
            Figure("lost", page="lost", digits=0),
            Figure("gained", page="gained", digits=0),
            Figure("agreement", page="agree %", digits=1),
        ),
        ("top1_drop_low", "top1_drop_high"),
    ),
    "throughput": Test(_throughput, (Figure("throughput_p", "p", "p", form="p"),)),
}


# ---------------------------------------------------------------------------------------------------------- comparing
def _compared() -> list[tuple[Column, Compared]]:
    return [(column, column.compared) for column in columns.COLUMNS if column.compared]


def figures() -> list[Figure]:
    """The columns of a comparison, besides model and precision, in the order in which tables show them."""
    listed = []
    for column, compared in _compared():
        display = column.display
        heading = (display.page_heading or display.heading) if display else column.name
        digits, scale = (display.digits, display.scale) if display else (column.digits, 1.0)
        test = TESTS.get(compared.stem)
        pages = [f"{heading} {run}" if compared.page else "" for run in "AB"]
        form: Literal["number", "text", "verdict"] = "number" if column.is_number else "text"
        if display and display.form == "verdict":
            form = "verdict"
        # Beside a difference stands what it is a difference to; a ratio speaks for itself.
        terminal = f"{heading.removesuffix(' %')} B" if compared.terminal and compared.change == "drop" else ""
        listed += [
            Figure(f"{compared.stem}_a", "", pages[0], digits, scale, form),
            Figure(f"{compared.stem}_b", terminal, pages[1], digits, scale, form),
        ]
        change = f"{compared.stem}_{compared.change}"
        page = compared.change or "" if compared.page else ""
        if compared.change == "drop":
            interval = test.interval if test else None
            with_interval = f"{compared.terminal} ({100 * CONFIDENCE:g} %)" if interval else compared.terminal
            listed.append(Figure(change, with_interval, page, form="signed", interval=interval))
        elif compared.change == "ratio":
            listed.append(Figure(change, compared.terminal, page, digits=3))
        listed += test.figures if test else ()
    return listed


def gate_columns() -> tuple[str, ...]:
    """The columns that a gate may name: those of numbers."""
    return tuple(figure.name for figure in figures() if figure.form not in {"text", "verdict"})


def compare(a: Results, b: Results) -> pd.DataFrame:
    """Every row that both folders have, in the order of ``b``: the columns of ``figures``, and ``paired``.

    Accuracies in percent, drops in points (a - b), ratios b / a; what is not known is missing (NaN). InputError where
    they share no row.
    """
    stems = {column.name: compared.stem for column, compared in _compared()}
    sides = [results.table[[*_KEY, *stems]].rename(columns=stems) for results in (b, a)]
    table = sides[0].merge(sides[1], on=_KEY, suffixes=("_b", "_a"), validate="one_to_one")
    if table.empty:
        names = [", ".join(row.name for row in results.rows) for results in (a, b)]
        raise InputError(
            f"{one_line(a.folder)} and {one_line(b.folder)}: have no row in common ({names[0]} against {names[1]}); "
            "compare runs of the same variants and precisions"
        )
    for _, compared in _compared():
        if compared.change is not None:
            one, other = (table[f"{compared.stem}_{run}"].astype("float64") for run in "ab")
            change = one - other if compared.change == "drop" else other / one.where(one != 0)
            table[f"{compared.stem}_{compared.change}"] = change
    rows_a, rows_b = ({(one.row.model, one.row.precision): one for one in results.rows} for results in (a, b))
    same_images = _same_images(a, b)
    pairs = [Pair(rows_a[key], rows_b[key], same_images) for key in zip(table.model, table.precision, strict=True)]
    for stem, test in TESTS.items():
        if stem in stems.values():
            tested = pd.DataFrame([test.run(pair) for pair in pairs])
            table[list(tested.columns)] = tested
    return table


def _same_images(a: Results, b: Results) -> bool:
    """False where the manifests show other content under equal names; True also where a manifest was not kept.

    Two datasets may have equal names and equal classes; image by image their answers say nothing of each other.
    """
    if not (a.manifest.is_file() and b.manifest.is_file()):
        return bool(a.rows[0].row.dataset == b.rows[0].row.dataset)
    return _digests(a) == _digests(b)


def _digests(results: Results) -> dict[str, str]:
    """SHA-256 of the images by their keys."""
    digests = {image.name: image.sha256 for image in read_manifest(results.manifest)}
    return {key: digests[name] for key, name in by_key(digests).items()}


def only_in(a: Results, b: Results) -> list[str]:
    """Names of the rows that ``a`` has and ``b`` has not."""
    return [result.name for result in a.rows if result.name not in {other.name for other in b.rows}]


# ------------------------------------------------------------------------------------------------------------- gates
_OPERATORS: dict[str, Callable[[float, float], bool]] = {"<=": le, ">=": ge, "<": lt, ">": gt}
_GATE = re.compile(r"\s*(\w+)\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")


@dataclass(frozen=True)
class Gate:
    """``column operator number``: a comparison fails where it holds for a row."""

    column: str
    operator: str
    limit: float

    def __str__(self) -> str:
        return f"{self.column} {self.operator} {self.limit:g}"

    def failing(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows that the condition holds for; an unknown value fails, because nobody can say that it does not."""
        holds = [pd.isna(value) or _OPERATORS[self.operator](value, self.limit) for value in rows[self.column]]
        return rows[holds]


def parse_gate(text: str) -> Gate:
    """A gate from its text; InputError says what is wrong with it, an unknown column with the nearest known one."""
    match = _GATE.fullmatch(text)
    if match is None:
        raise InputError(
            f"{one_line(text)!r}: is not a gate, expected 'column operator number' as in 'top1_drop > 0.5' "
            f"(operators {', '.join(sorted(_OPERATORS))})"
        )
    column, operator, limit = match.groups()
    if column not in gate_columns():
        raise InputError(f"{one_line(text)!r}: unknown column '{column}'{did_you_mean(column, gate_columns())}")
    return Gate(column, operator, float(limit))


def failures(rows: pd.DataFrame, gates: Sequence[Gate]) -> list[str]:
    """One line for each row and gate that fails."""
    return [
        f"{row['model']}-{row['precision']}: {gate} ({_reason(row[gate.column])})"
        for gate in gates
        for row in gate.failing(rows).to_dict("records")
    ]


def _reason(value: Any) -> str:
    return "its value is unknown" if pd.isna(value) else f"it is {value:.6g}"


# ------------------------------------------------------------------------------------------------------------ showing
def comparison_table(rows: pd.DataFrame) -> str:
    """The main columns as a table of at most 100 characters' width."""
    shown = [figure for figure in figures() if figure.terminal]
    cells = []
    for row in _records(rows):
        marks = {"top1_p": "" if row.paired else " *"}
        valid = "yes" if {row.verdict_a, row.verdict_b} == {_VALID} else "no"
        cells.append(
            [row.model, row.precision, *(figure.shown(row) + marks.get(figure.name, "") for figure in shown), valid]
        )
    headings = [*_KEY, *(figure.terminal for figure in shown), _VALID]
    aligned = ["left", "left", *["right"] * len(shown), "left"]
    text = tabulate(cells, headings, colalign=aligned, disable_numparse=True)
    return text if rows.paired.all() else f"{text}\n* not the same images: unpaired test"


def _records(rows: pd.DataFrame) -> list[Any]:
    """The rows with None for what is unknown."""
    plain = rows.astype(object).where(rows.notna(), None)
    return list(plain.itertuples(index=False, name="Comparison"))


def comparison_page(a: Results, b: Results, rows: pd.DataFrame, gates: Sequence[Gate]) -> str:
    """The comparison as a page that stands alone."""
    values = {
        "a": a,
        "b": b,
        "rows": _records(rows),
        "figures": [figure for figure in figures() if figure.page],
        "only_a": only_in(a, b),
        "only_b": only_in(b, a),
        "gates": [(gate, _records(gate.failing(rows))) for gate in gates],
        "confidence": CONFIDENCE,
        "machines": [_machine(results) for results in (a, b)],
    }
    return render("comparison.html.jinja", values)


def _machine(results: Results) -> str:
    machine = results.rows[0].performance.get("machine") or {}
    return f"{machine.get('cpu', 'unknown machine')}, {machine.get('cpus', 'unknown')} CPUs"
