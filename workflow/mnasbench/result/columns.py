"""The columns of the summary, one entry each, from which every table, page, gate and document of them follows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mnasbench.runtimes import RUNTIMES

# What a row's values are read from: the content of its JSON files, its identity and the published accuracies, by
# name (identity, exported, compiled, performance, accuracy, reference). A file that an engine does not leave is {}.
Sources = Mapping[str, Mapping[str, Any]]
Place = Literal["terminal", "markdown", "page"]
EVERYWHERE: frozenset[Place] = frozenset({"terminal", "markdown", "page"})
PAGE: frozenset[Place] = frozenset({"page"})


@dataclass(frozen=True)
class Display:
    """How a column stands in the tables that people read.

    ``digits`` after the point of ``value * scale``. ``form``: how the page draws it where that is not just a number
    or a text: ``row`` heads the row, ``verdict`` is a badge, ``p`` a probability. ``interval``: the columns of its
    bounds, or one key of the row's files (as in ``Column.value``) that holds both; where ``interval_everywhere`` is
    not set, only the page shows it. ``dispensable``: a terminal that is too narrow goes without the column; the lowest
    number goes first. ``imagenet_only``: the page shows it where published accuracies are comparable; ``overlap_only``:
    where calibration images are among the judged ones.
    """

    heading: str
    digits: int = 2
    scale: float = 1.0
    where: frozenset[Place] = EVERYWHERE
    page_heading: str = ""
    title: str = ""
    form: Literal["plain", "row", "precision", "verdict", "p"] = "plain"
    interval: tuple[str, str] | str = ""
    interval_everywhere: bool = False
    dispensable: int | None = None
    imagenet_only: bool = False
    overlap_only: bool = False


@dataclass(frozen=True)
class Compared:
    """How two runs are held against each other in a column.

    ``stem`` begins the names that gates know: ``<stem>_a``, ``<stem>_b``, and ``<stem>_drop`` (A minus B) or
    ``<stem>_ratio`` (B over A). ``change`` None: only shown side by side. ``page``: the page shows it; gates know it
    anyway. ``terminal``: heading of the change on a terminal, empty where that goes without it.
    """

    stem: str
    change: Literal["drop", "ratio"] | None
    page: bool = True
    terminal: str = ""


@dataclass(frozen=True)
class Column:
    """One column of summary.csv.

    ``kind``: the type of its values. ``meaning``: its definition, for docs/measurement.md. ``value``: where it comes
    from, a dotted key of the row's sources (``performance.latency_us.p50``) or a function of them; None is unknown.
    ``digits``: after the point, in summary.csv. ``required``: without it a row says nothing.
    ``better``: which of two values one wants; empty where neither is better.
    """

    name: str
    kind: type[str] | type[int] | type[float]
    unit: str
    meaning: str
    value: str | Callable[[Sources], Any]
    digits: int = 3
    required: bool = False
    better: Literal["higher", "lower", ""] = ""
    display: Display | None = None
    compared: Compared | None = None

    @property
    def is_number(self) -> bool:
        """Whether its values are numbers."""
        return self.kind is not str

    def of(self, sources: Sources) -> Any:
        """The value of a row, as its files have it; None where they do not say."""
        return lookup(sources, self.value) if isinstance(self.value, str) else self.value(sources)


def lookup(content: Any, key: str) -> Any:
    """The value at a dotted key of nested mappings; None where a part of it is missing."""
    for part in key.split("."):
        content = content.get(part) if isinstance(content, Mapping) else None
    return content


def _model_bytes(sources: Sources) -> int | None:
    files = lookup(sources, "compiled.files")
    return sum(value for key, value in files.items() if key.endswith("_bytes")) if files else None


def _latency(name: str, meaning: str, display: Display | None = None, compared: Compared | None = None) -> Column:
    return Column(
        f"latency_{name}_us",
        float,
        "µs",
        meaning,
        f"performance.latency_us.{name}",
        digits=1,
        better="lower",
        display=display,
        compared=compared,
    )


_HELD_OUT = "of the images that int8 ranges were not taken from"
# An accuracy's third digit is one image of 50,000; a latency's first is a tenth of a microsecond.
COLUMNS: tuple[Column, ...] = (
    Column(
        "model",
        str,
        "",
        "the variant, by its name in the configuration",
        "identity.model",
        required=True,
        display=Display("model", form="row"),
    ),
    Column(
        "precision",
        str,
        "",
        "the precision that it was built in",
        "identity.precision",
        required=True,
        display=Display("precision", form="precision"),
    ),
    Column(
        "engine",
        str,
        "",
        "who compiled and measured it: `ort`, the embedded tools, or `vacc`, the card's",
        "identity.engine",
    ),
    Column(
        "runtime",
        str,
        "",
        f"what loads and runs the graph of the embedded engine ({', '.join(RUNTIMES)}); empty for the card",
        "performance.runtime.name",
    ),
    Column("dataset", str, "", "the dataset, by its name in the configuration", "identity.dataset", required=True),
    Column(
        "images",
        int,
        "",
        "images that were evaluated; what was excluded as unreadable is named in the manifest and not among them",
        "accuracy.images",
        required=True,
    ),
    Column(
        "top1",
        float,
        "%",
        "the label is the highest score; of equal scores the lower index comes first",
        "accuracy.top1",
        required=True,
        better="higher",
        display=Display("top-1", page_heading="top-1 %", interval=("top1_low", "top1_high"), interval_everywhere=True),
        compared=Compared("top1", "drop", terminal="drop"),
    ),
    Column(
        "top1_low",
        float,
        "%",
        "lower bound of the 95 % interval of top-1: Wilson's score interval. It says how sure the accuracy is, not the "
        "drop",
        "accuracy.top1_low",
    ),
    Column("top1_high", float, "%", "upper bound of the same interval", "accuracy.top1_high"),
    Column(
        "top5",
        float,
        "%",
        "the label is among the five highest scores",
        "accuracy.top5",
        better="higher",
        display=Display("top-5", page_heading="top-5 %"),
        compared=Compared("top5", "drop", page=False),
    ),
    Column(
        "top1_drop",
        float,
        "points",
        "fp32's top-1 minus the row's: (lost - gained) / images. Lost: fp32 right, the row wrong",
        "accuracy.top1_drop",
        better="lower",
        display=Display(
            "drop", title="points of top-1 lost against fp32", interval=("top1_drop_low", "top1_drop_high")
        ),
    ),
    Column(
        "top1_drop_low",
        float,
        "points",
        "lower bound of the 95 % interval of the drop on the same images: the intervals of the shares lost and gained "
        "(of their arcsines), combined with their correlation (MOVER); where none was lost or gained, three images are "
        "the limit",
        "accuracy.top1_drop_low",
    ),
    Column("top1_drop_high", float, "points", "upper bound of the same interval", "accuracy.top1_drop_high"),
    Column(
        "mcnemar_p",
        float,
        "",
        "two-sided mid-p of McNemar's test: the probability of flips more uneven than these, and half that of flips as "
        "uneven, were losing and gaining equally likely",
        "accuracy.mcnemar_p",
        digits=6,
        display=Display("p", where=PAGE, title="McNemar's two-sided mid-p", form="p"),
    ),
    Column(
        "agreement",
        float,
        "%",
        "images with the same first class as fp32, right or wrong",
        "accuracy.agreement",
        better="higher",
        display=Display("agree", digits=1, page_heading="agree %", title="same first class as fp32", dispensable=3),
    ),
    Column(
        "sqnr_db",
        float,
        "dB",
        "10 log10 of the sum of squares of fp32's outputs over that of the differences, all images and classes",
        "accuracy.sqnr_db",
        digits=2,
        better="higher",
        display=Display("SQNR dB", digits=1, where=PAGE, title="of the logits against fp32's"),
    ),
    Column(
        "calibration_overlap",
        int,
        "",
        "evaluated images that are calibration images, too, by their content; 0 with `calibration.split`; empty where "
        "nothing is calibrated",
        "accuracy.calibration_overlap",
    ),
    Column(
        "held_out_top1",
        float,
        "%",
        "top-1 of the evaluated images that are no calibration images",
        "accuracy.held_out.top1",
        better="higher",
        display=Display("held-out top-1 %", where=PAGE, title=_HELD_OUT, overlap_only=True),
    ),
    Column(
        "held_out_top1_drop",
        float,
        "points",
        "the drop on the same images",
        "accuracy.held_out.top1_drop",
        better="lower",
        display=Display("held-out drop", where=PAGE, title=_HELD_OUT, overlap_only=True),
    ),
    Column(
        "held_out_agreement",
        float,
        "%",
        "the agreement on the same images",
        "accuracy.held_out.agreement",
        better="higher",
        display=Display("held-out agree %", digits=1, where=PAGE, title=_HELD_OUT, overlap_only=True),
    ),
    Column(
        "throughput_qps",
        float,
        "images/s",
        "images in a second at saturation; see below",
        "performance.throughput_qps",
        digits=2,
        better="higher",
        display=Display("images/s", digits=0, interval="performance.throughput_interval"),
        compared=Compared("throughput", "ratio", terminal="rate B/A"),
    ),
    _latency("avg", "mean latency of a request; see below"),
    _latency(
        "p50",
        "median latency of a request",
        Display("p50 ms", scale=1e-3, dispensable=2),
    ),
    _latency("p90", "latency that 90 % of the requests stay below; empty where too few requests support it"),
    _latency("p95", "the same of 95 %"),
    _latency(
        "p99",
        "the same of 99 %",
        Display("p99 ms", scale=1e-3),
        Compared("p99", "ratio"),
    ),
    Column(
        "verdict",
        str,
        "",
        "whether the measurement of speed may be believed; see below",
        "performance.verdict.status",
        display=Display("run", form="verdict"),
        compared=Compared("verdict", None),
    ),
    Column(
        "model_bytes",
        int,
        "bytes",
        "the compiled graph and its weights",
        _model_bytes,
        better="lower",
        display=Display("MB", digits=1, scale=1e-6, dispensable=1),
        compared=Compared("bytes", "ratio", page=False),
    ),
    Column(
        "params",
        int,
        "",
        "trainable values of the net as it is exported",
        "exported.params",
        display=Display("M params", scale=1e-6, where=PAGE),
    ),
    Column(
        "macs",
        int,
        "",
        "multiply-adds of convolutions and matrix products for one image, as torchvision counts",
        "exported.macs",
        display=Display("G MACs", digits=3, scale=1e-9, where=PAGE),
    ),
    Column(
        "reference_top1",
        float,
        "%",
        "published top-1 of all 50,000 images; only where the dataset is ImageNet",
        "reference.top1",
        display=Display("published top-1 %", where=PAGE, imagenet_only=True),
    ),
    Column("reference_top5", float, "%", "published top-5, likewise", "reference.top5"),
    Column("reference_source", str, "", "who published them", "reference.source"),
)


def names() -> tuple[str, ...]:
    """The names of all columns, in the order of summary.csv."""
    return tuple(column.name for column in COLUMNS)


def displayed(place: Place) -> list[Column]:
    """The columns that a place shows, in the order of summary.csv."""
    return [column for column in COLUMNS if column.display and place in column.display.where]


def documentation() -> str:
    """The table of docs/measurement.md, one column a line."""
    lines = [f"| `{column.name}` | {column.unit} | {column.meaning} |" for column in COLUMNS]
    return "\n".join(["| column | unit | is |", "| --- | --- | --- |", *lines]) + "\n"
