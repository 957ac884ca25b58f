"""Two results folders against each other, row by row: another CPU, a card, last month.

``a`` is what is compared with (the older, the reference), ``b`` what is judged; a drop is a minus b, as everywhere.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from operator import ge, gt, le, lt
from typing import Any, get_args

from scipy import stats
from tabulate import tabulate

from mnasbench.errors import InputError, did_you_mean, one_line
from mnasbench.result.evaluation import Answer
from mnasbench.result.page import number, p_value, render, signed
from mnasbench.result.results_folder import Results, RowResults
from mnasbench.result.statistics import CONFIDENCE, PairedComparison, wilson_interval


@dataclass(frozen=True)
class RowComparison:
    """One row of both folders. Accuracies in percent, drops in points, ratios b / a; None is unknown.

    Where both answered the same images (``paired``), ``top1_p`` is McNemar's mid-p and the interval is that of
    paired proportions; otherwise Fisher's exact p and Newcombe's interval of two independent ones. ``agreement`` is
    the share of images with the same first class. ``throughput_p`` is Welch's t test between the windows of the two
    runs: it knows the scatter within a run, not what differs from one run to the next.
    """

    model: str
    precision: str
    paired: bool
    top1_a: float
    top1_b: float
    top1_drop: float
    top1_drop_low: float
    top1_drop_high: float
    top1_p: float
    top5_drop: float
    agreement: float | None
    lost: int | None
    gained: int | None
    throughput_a: float | None
    throughput_b: float | None
    throughput_ratio: float | None
    throughput_p: float | None
    p99_a_us: float | None
    p99_b_us: float | None
    p99_ratio: float | None
    bytes_ratio: float | None
    verdict_a: str
    verdict_b: str


def compare(a: Results, b: Results) -> list[RowComparison]:
    """Every row that both folders have, in the order of ``b``. InputError where they share none."""
    known = {result.name: result for result in a.rows}
    shared = [(known[result.name], result) for result in b.rows if result.name in known]
    if not shared:
        raise InputError(
            f"{one_line(a.folder)} and {one_line(b.folder)}: have no row in common ({', '.join(known)} against "
            f"{', '.join(result.name for result in b.rows)}); compare runs of the same variants and precisions"
        )
    return [_compare_row(one, other) for one, other in shared]


def only_in(a: Results, b: Results) -> list[str]:
    """Names of the rows that ``a`` has and ``b`` has not."""
    return [result.name for result in a.rows if result.name not in {other.name for other in b.rows}]


def _compare_row(a: RowResults, b: RowResults) -> RowComparison:
    answers_a, answers_b = a.answers(), b.answers()
    names_a, names_b = ([(answer.name, answer.label) for answer in answers] for answers in (answers_a, answers_b))
    accuracy = _paired(answers_a, answers_b) if names_a == names_b else _independent(a, b)
    return RowComparison(
        **accuracy,
        model=b.row.model,
        precision=b.row.precision,
        top1_a=a.row.top1,
        top1_b=b.row.top1,
        top5_drop=a.row.top5 - b.row.top5,
        throughput_a=a.row.throughput_qps,
        throughput_b=b.row.throughput_qps,
        throughput_ratio=_ratio(b.row.throughput_qps, a.row.throughput_qps),
        throughput_p=_throughput_p(a, b),
        p99_a_us=a.row.latency_p99_us,
        p99_b_us=b.row.latency_p99_us,
        p99_ratio=_ratio(b.row.latency_p99_us, a.row.latency_p99_us),
        bytes_ratio=_ratio(b.row.model_bytes, a.row.model_bytes),
        verdict_a=a.row.verdict,
        verdict_b=b.row.verdict,
    )


def _ratio(over: float | None, under: float | None) -> float | None:
    return over / under if over is not None and under else None


def _paired(a: Sequence[Answer], b: Sequence[Answer]) -> dict[str, Any]:
    """Fields of a RowComparison from answers to the same images."""
    pairs = list(zip(a, b, strict=True))
    lost = sum(one.is_top1 and not other.is_top1 for one, other in pairs)
    gained = sum(other.is_top1 and not one.is_top1 for one, other in pairs)
    found = PairedComparison(len(pairs), lost, gained)
    low, high = found.drop_interval()
    return {
        "paired": True,
        "top1_drop": 100 * found.drop,
        "top1_drop_low": 100 * low,
        "top1_drop_high": 100 * high,
        "top1_p": found.mcnemar_p,
        "agreement": 100 * sum(one.classes[0] == other.classes[0] for one, other in pairs) / len(pairs),
        "lost": lost,
        "gained": gained,
    }


def _independent(a: RowResults, b: RowResults) -> dict[str, Any]:
    """Fields of a RowComparison from two counts (Newcombe's hybrid score interval, Stat. Med. 17, 1998)."""
    counts = [(int(result.accuracy["correct_top1"]), int(result.accuracy["images"])) for result in (a, b)]
    share_a, share_b = (correct / images for correct, images in counts)
    (low_a, high_a), (low_b, high_b) = (wilson_interval(*count) for count in counts)
    drop = share_a - share_b
    return {
        "paired": False,
        "top1_drop": 100 * drop,
        "top1_drop_low": 100 * (drop - math.hypot(share_a - low_a, high_b - share_b)),
        "top1_drop_high": 100 * (drop + math.hypot(high_a - share_a, share_b - low_b)),
        "top1_p": float(stats.fisher_exact([[correct, images - correct] for correct, images in counts]).pvalue),
        "agreement": None,
        "lost": None,
        "gained": None,
    }


def _throughput_p(a: RowResults, b: RowResults) -> float | None:
    windows = [(result.performance.get("windows") or {}).get("throughput_qps") or [] for result in (a, b)]
    if min(map(len, windows)) < 2 or windows[0] == windows[1]:
        return None
    p = float(stats.ttest_ind(windows[0], windows[1], equal_var=False).pvalue)
    return p if math.isfinite(p) else None


# ------------------------------------------------------------------------------------------------------------- gates
_OPERATORS: dict[str, Callable[[float, float], bool]] = {"<=": le, ">=": ge, "<": lt, ">": gt}
_GATE = re.compile(r"\s*(\w+)\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")
GATE_COLUMNS = tuple(
    field.name
    for field in fields(RowComparison)
    if {int, float} & {field.type, *get_args(field.type)}  # what can be compared with a number
)


@dataclass(frozen=True)
class Gate:
    """``column operator number``: a comparison fails where it holds for a row."""

    column: str
    operator: str
    limit: float

    def __str__(self) -> str:
        return f"{self.column} {self.operator} {self.limit:g}"

    def fails(self, row: RowComparison) -> bool:
        """Whether the condition holds; an unknown value fails, because nobody can say that it does not."""
        value = getattr(row, self.column)
        return value is None or _OPERATORS[self.operator](value, self.limit)


def parse_gate(text: str) -> Gate:
    """A gate from its text; InputError says what is wrong with it, an unknown column with the nearest known one."""
    match = _GATE.fullmatch(text)
    if match is None:
        raise InputError(
            f"{one_line(text)!r}: is not a gate, expected 'column operator number' as in 'top1_drop > 0.5' "
            f"(operators {', '.join(sorted(_OPERATORS))})"
        )
    column, operator, limit = match.groups()
    if column not in GATE_COLUMNS:
        raise InputError(f"{one_line(text)!r}: unknown column '{column}'{did_you_mean(column, GATE_COLUMNS)}")
    return Gate(column, operator, float(limit))


def failures(rows: Sequence[RowComparison], gates: Sequence[Gate]) -> list[str]:
    """One line for each row and gate that fails."""
    return [
        f"{row.model}-{row.precision}: {gate} ({_told(getattr(row, gate.column))})"
        for gate in gates
        for row in rows
        if gate.fails(row)
    ]


def _told(value: float | None) -> str:
    return "its value is unknown" if value is None else f"it is {value:.6g}"


# ------------------------------------------------------------------------------------------------------------ showing
_HEADERS = ("model", "precision", "top-1 B", "drop (95 %)", "p", "rate B/A", "p", "VALID")


def comparison_table(rows: Sequence[RowComparison]) -> str:
    """The main columns as a table of at most 100 characters' width."""
    cells = [
        (
            row.model,
            row.precision,
            number(row.top1_b, 2),
            f"{signed(row.top1_drop)} ({signed(row.top1_drop_low, 1)} {signed(row.top1_drop_high, 1)})",
            p_value(row.top1_p) + ("" if row.paired else " *"),
            number(row.throughput_ratio, 3),
            p_value(row.throughput_p),
            "yes" if {row.verdict_a, row.verdict_b} == {"VALID"} else "no",
        )
        for row in rows
    ]
    numbers = ("left", "left", *["right"] * (len(_HEADERS) - 3), "left")
    text = tabulate(cells, _HEADERS, colalign=numbers, disable_numparse=True)
    return text if all(row.paired for row in rows) else f"{text}\n* not the same images: unpaired test"


def comparison_page(a: Results, b: Results, rows: Sequence[RowComparison], gates: Sequence[Gate]) -> str:
    """The comparison as a page that stands alone."""
    values = {
        "a": a,
        "b": b,
        "rows": rows,
        "only_a": only_in(a, b),
        "only_b": only_in(b, a),
        "gates": [(gate, [row for row in rows if gate.fails(row)]) for gate in gates],
        "confidence": CONFIDENCE,
        "machines": [_machine(results) for results in (a, b)],
    }
    return render("comparison.html.jinja", values)


def _machine(results: Results) -> str:
    machine = results.rows[0].performance.get("machine") or {}
    return f"{machine.get('cpu', 'unknown machine')}, {machine.get('cpus', 'unknown')} CPUs"
