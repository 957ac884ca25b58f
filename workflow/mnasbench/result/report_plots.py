"""The report's plots, as SVG to be put inline: text stays text, and colours are the page's own, light or dark.

Matplotlib knows no CSS variables. Each role is drawn in a colour that stands for it and is then replaced by
``var(--role)``. Sizes are in CSS pixels at the width that a plot is drawn for.
"""

import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from mnasbench.precisions import PRECISIONS
from mnasbench.result.results_folder import RowResults
from mnasbench.result.summary import Row
from mnasbench.result.text_table import numbers

# A figure of one inch is 72 units of the SVG's viewBox.
_DPI = 72
_SERIES = 8
_ROLES = {
    "ink": "#0a0b01",
    "muted": "#0a0b02",
    "grid": "#0a0b03",
    "surface": "#0a0b04",
    "front": "#0a0b05",
    "published": "#0a0b06",
    **{f"series-{number}": f"#0a0b{number + 16:02x}" for number in range(_SERIES)},
}
_STYLE = matplotlib.RcParams(
    {
        "svg.fonttype": "none",
        "text.parse_math": False,
        "font.size": 12,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.edgecolor": _ROLES["muted"],
        "axes.labelcolor": _ROLES["ink"],
        "axes.titlecolor": _ROLES["ink"],
        "axes.titlesize": 12,
        "axes.titlelocation": "left",
        "grid.color": _ROLES["grid"],
        "grid.linewidth": 0.8,
        "legend.frameon": False,
        "legend.fontsize": 11,
        "text.color": _ROLES["ink"],
        "xtick.color": _ROLES["muted"],
        "xtick.labelcolor": _ROLES["muted"],
        "ytick.color": _ROLES["muted"],
        "ytick.labelcolor": _ROLES["muted"],
        "figure.facecolor": "none",
        "axes.facecolor": "none",
    }
)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Figure, name: str) -> str:
    """The figure as an ``<svg>`` element; ``name`` tells its identifiers from those of the page's other plots."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": f"mnasbench-{name}"}):
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    # Matplotlib numbers its groups alike in each figure; identifiers must be unique in a page.
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", svg)
    for role, colour in _ROLES.items():
        svg = svg.replace(colour, f"var(--{role})")
    return svg


def series_colour(number: int) -> str:
    """The colour of the ``number``-th series, which begin anew where there are more than the palette has."""
    return _ROLES[f"series-{number % _SERIES}"]


def _marker(precision: str) -> str:
    return PRECISIONS[precision].marker if precision in PRECISIONS else "X"


# ------------------------------------------------------------------------------------------------------- decision
def decision_plot(
    rows: Sequence[RowResults],
    front: Sequence[Row],
    chosen: Row | None,
    published: Sequence[Mapping[str, Any]],
    width: float,
) -> str:
    """Top-1 against throughput, bars of 95 % intervals; filled where the run was VALID, the front as a line.

    ``chosen``: the row that is recommended, named in the plot.
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(width, width * 0.55 if width > 500 else width * 1.05)
        _draw_front(axes, front)
        _draw_published(axes, published)
        variants = list(dict.fromkeys(row.row.model for row in rows))
        for result in rows:
            _draw_row(axes, result, series_colour(variants.index(result.row.model)))
        if chosen is not None:
            _name_chosen(axes, chosen)
        _use_plain_scale(axes, [r.row.throughput_qps for r in rows] + [p["throughput_qps"] for p in published])
        axes.set_xlabel("throughput (images/s)")
        axes.set_ylabel("top-1 (%)")
        _decision_legend(figure, variants, [r.row.precision for r in rows], bool(published), width)
        return _svg(figure, f"decision-{width:.0f}")


def _draw_front(axes: Axes, front: Sequence[Row]) -> None:
    points = [(row.throughput_qps or 0.0, row.top1) for row in front]
    axes.plot(*zip(*points, strict=True), color=_ROLES["front"], linewidth=6, alpha=0.35, zorder=1, marker="o", ms=16)


def _draw_published(axes: Axes, published: Sequence[Mapping[str, Any]]) -> None:
    for point in published:
        if point["throughput_qps"] is None:
            # An accuracy without a rate is a mark at the axis.
            axes.plot([0, 0.02], [point["top1"]] * 2, color=_ROLES["published"], transform=axes.get_yaxis_transform())
        else:
            axes.plot(point["throughput_qps"], point["top1"], "x", color=_ROLES["published"], zorder=2)


def _draw_row(axes: Axes, result: RowResults, colour: str) -> None:
    row = result.row
    if row.throughput_qps is None:
        return
    low, high = result.performance.get("throughput_interval") or (row.throughput_qps, row.throughput_qps)
    axes.errorbar(
        row.throughput_qps,
        row.top1,
        xerr=[[max(0.0, row.throughput_qps - low)], [max(0.0, high - row.throughput_qps)]],
        yerr=[[_length(row.top1_low, row.top1)], [_length(row.top1, row.top1_high)]],
        fmt=_marker(row.precision),
        color=colour,
        markerfacecolor=colour if row.verdict == "VALID" else _ROLES["surface"],
        markersize=9,
        markeredgewidth=1.8,
        elinewidth=1.2,
        capsize=3,
        zorder=3,
    )


def _length(low: float | None, high: float | None) -> float:
    """The length of an error bar; 0 where a bound is unknown."""
    return 0.0 if low is None or high is None else max(0.0, high - low)


def _name_chosen(axes: Axes, chosen: Row) -> None:
    axes.annotate(
        f"{chosen.model}\n{chosen.precision}",
        (chosen.throughput_qps or 0.0, chosen.top1),
        # Up and right of the mark, where the front leaves room: it falls to the right.
        xytext=(14, 10),
        textcoords="offset points",
        weight="bold",
        zorder=4,
    )


def _use_plain_scale(axes: Axes, throughputs: Sequence[float | None]) -> None:
    rates = [value for value in throughputs if value]
    # Beyond a factor of ten, a linear axis would press the slower rows together.
    if rates and max(rates) > 10 * min(rates):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
    elif rates:
        axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _decision_legend(figure: Figure, variants: list[str], precisions: list[str], published: bool, width: float) -> None:
    def line(label: str, **look: Any) -> Line2D:
        return Line2D([], [], label=label, linestyle="none", **look)

    handles = [
        line(name, marker="o", markersize=9, color=series_colour(number)) for number, name in enumerate(variants)
    ]
    for precision in dict.fromkeys(precisions):
        handles.append(line(precision, marker=_marker(precision), markersize=8, color=_ROLES["muted"]))
    hollow = {"markerfacecolor": _ROLES["surface"], "markeredgecolor": _ROLES["muted"]}
    handles.append(line("hollow: run not VALID", marker="o", markersize=8, **hollow))
    handles.append(Line2D([], [], color=_ROLES["front"], linewidth=6, alpha=0.35, label="Pareto front"))
    if published:
        handles.append(line("published, other machines", marker="x", color=_ROLES["published"]))
    figure.legend(handles=handles, loc="outside lower center", ncols=4 if width > 500 else 2)


# -------------------------------------------------------------------------------------------------------- latency
_POINTS = {"min": "min", "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99", "p999": "p99.9", "max": "max"}


def latency_plot(rows: Sequence[RowResults], width: float) -> str:
    """Latency in ms at each percentile, one line a precision, with 95 % intervals; a withheld percentile is a gap."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(width, width * 0.7)
        for number, result in enumerate(rows):
            _draw_latency(axes, result, number, len(rows))
        axes.set_xticks(range(len(_POINTS)), list(_POINTS.values()))
        axes.set_ylim(bottom=0)
        axes.set_ylabel("latency (ms)")
        figure.legend(loc="outside lower center", ncols=2)
        return _svg(figure, f"latency-{rows[0].row.model}")


def _draw_latency(axes: Axes, result: RowResults, number: int, count: int) -> None:
    latency = result.performance.get("latency_us") or {}
    intervals = latency.get("intervals") or {}
    # An unknown percentile is NaN, which breaks the line.
    values = np.array([latency.get(name, math.nan) for name in _POINTS], dtype=float) / 1e3
    bounds = [intervals.get(name) or (math.nan, math.nan) for name in _POINTS]
    low, high = np.array(bounds, dtype=float).T / 1e3
    errors = np.nan_to_num(np.maximum([values - low, high - values], 0.0))
    # Side by side, so that intervals of precisions with like latencies can be told apart.
    places = np.arange(len(_POINTS)) + 0.12 * (number - (count - 1) / 2)
    axes.errorbar(
        places,
        values,
        yerr=errors,
        fmt=_marker(result.row.precision) + "-",
        color=series_colour(number),
        label=result.row.precision,
        markersize=6,
        linewidth=1.2,
        capsize=3,
    )


def peak_plot(result: RowResults, width: float) -> str:
    """p99 against the rate of arrivals (open loop), with the bound that was asked for."""
    peak = result.peak or {}
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(width, width * 0.7)
        points = [point for point in peak["curve"] if point["p99_us"] is not None]
        rates, latencies = [point["rate"] for point in points], [point["p99_us"] / 1e3 for point in points]
        counted: dict[float, float] = {}  # a rate that missed the bound was run twice
        for rate, latency in zip(rates, latencies, strict=True):
            counted[rate] = min(latency, counted.get(rate, latency))
        axes.plot(rates, latencies, "o", color=series_colour(0))
        axes.plot(list(counted), list(counted.values()), "-", color=series_colour(0))
        axes.axhline(peak["latency_bound_us"] / 1e3, color=_ROLES["muted"], linestyle="--", label="bound")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("arrivals (requests/s)")
        axes.set_ylabel("p99 latency (ms)")
        axes.legend()
        return _svg(figure, f"peak-{result.name}")


# ------------------------------------------------------------------------------------------------- layers, classes
def layer_plot(name: str, quantization: pd.DataFrame, width: float) -> str:
    """SQNR of each layer's weights and output in dB, in the order of the graph; a layer kept in float is a gap."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(width, width * 0.6)
        for number, (column, label) in enumerate(
            (("weight_sqnr_db", "weights"), ("activation_sqnr_db", "activations"))
        ):
            values = numbers(Path("quantization.csv"), quantization[column])
            axes.plot(range(1, len(values) + 1), values, "o-", ms=3.5, lw=1.2, color=series_colour(number), label=label)
        axes.set_xlabel("layer, from the image to the logits")
        axes.set_ylabel("SQNR (dB)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside lower center", ncols=2)
        return _svg(figure, f"layers-{name}")


def coverage_plot(images_by_class: Mapping[int, int], width: float) -> str:
    """How many classes have how many calibration images."""
    counts = sorted(images_by_class.values())
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(width, width * 0.5)
        heights = {count: counts.count(count) for count in range(min(counts), max(counts) + 1)}
        axes.bar(list(heights), list(heights.values()), color=series_colour(0), width=0.8)
        axes.set_xlim(min(counts) - 0.9, max(counts) + 0.9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("calibration images of a class")
        axes.set_ylabel("classes")
        return _svg(figure, "coverage")


def bars_plot(name: str, by_rule: Mapping[str, float], unit: str, digits: int, label: str, width: float) -> str:
    """A bar for each rule with its number, in the order of the chain; ``name`` tells the plot from the others."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(width, 60 + 24 * len(by_rule))
        names = list(by_rule)[::-1]
        bars = axes.barh(names, [by_rule[rule] for rule in names], color=series_colour(0), height=0.7)
        axes.bar_label(bars, fmt=lambda value: f"{value:,.{digits}f} {unit}", padding=5, color=_ROLES["ink"])
        axes.margins(x=0.25)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(label)
        return _svg(figure, name)
