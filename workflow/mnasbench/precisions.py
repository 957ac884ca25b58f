"""The precisions that a model is built in: one entry each, from which settings, build files, plots and notes follow."""

from dataclasses import dataclass

from mnasbench.errors import SettingsError, did_you_mean, one_line

# What every other precision of a variant is held against.
BASELINE = "fp32"


@dataclass(frozen=True)
class Precision:
    """One precision.

    ``dtype``: element type of the weights, as build files name it (``fp32``, ``fp16``, ``int8``). ``meaning``: what it
    is, for the table of config/README.md. ``marker``: matplotlib's, in the report's plots. ``calibrator``: which
    function of ``mnasbench.build.ranges`` chooses the range of an activation; None where nothing is quantized.
    ``is_chosen``: whether that is where a search begins (``mnasbench.build.choice``), and not what every range is by.
    ``card_generations``: generations of the card's compiler that build it; the embedded engine builds every precision,
    also beside a card that has none. ``cpu_note``: what has to be said of it where a CPU runs it.
    """

    name: str
    dtype: str
    meaning: str
    marker: str
    calibrator: str | None = None
    card_generations: tuple[int, ...] = (1, 2)
    cpu_note: str | None = None
    is_chosen: bool = False

    @property
    def is_quantized(self) -> bool:
        """Whether it needs calibration images."""
        return self.calibrator is not None

    @property
    def mode(self) -> str | None:
        """The calibration mode as the vendor's build files name it: what stands behind ``int8-``."""
        return self.name.removeprefix(f"{self.dtype}-") if self.is_quantized else None


_ALL = (
    Precision(
        "fp32",
        "fp32",
        "As exported. The baseline of every other precision; the card has none, so it is always built for the CPU.",
        marker="o",
        card_generations=(),
    ),
    Precision(
        "fp16",
        "fp16",
        "Weights in half precision. A CPU still computes in fp32: half the bytes, the speed of fp32.",
        marker="s",
        cpu_note="fp16 weights, fp32 arithmetic; half the bytes, the speed of fp32",
    ),
    Precision(
        "int8-percentile",
        "int8",
        "int8; an activation's range leaves out the largest millionth of its values.",
        marker="^",
        calibrator="percentile",
    ),
    Precision(
        "int8-max",
        "int8",
        "int8; an activation's range holds its largest value.",
        marker="v",
        calibrator="largest",
    ),
    Precision(
        "int8-kl_divergence",
        "int8",
        "int8; the range whose 8-bit distribution diverges least from the float one (TensorRT's method).",
        marker="D",
        calibrator="kl_divergence",
    ),
    Precision(
        "int8-mse",
        "int8",
        "int8; the range with the smallest squared error of rounding and clipping. Of the card generation 2 alone.",
        marker="P",
        calibrator="least_squares",
        card_generations=(2,),
    ),
    Precision(
        "int8-auto",
        "int8",
        "int8; ranges by tensor, and the steps of the recipe, are chosen on held-out calibration images. Of no card.",
        marker="h",
        calibrator="percentile",
        card_generations=(),
        is_chosen=True,
    ),
)
PRECISIONS = {precision.name: precision for precision in _ALL}


def precision_named(name: str) -> Precision:
    """The precision of that name; SettingsError, with the nearest one, where there is none."""
    if name not in PRECISIONS:
        raise SettingsError(f"precision: unknown precision '{one_line(name)}'{did_you_mean(name, PRECISIONS)}")
    return PRECISIONS[name]


def is_quantized(name: str) -> bool:
    """Whether the precision of that name needs calibration images; SettingsError where there is none."""
    return precision_named(name).is_quantized


def calibration_modes() -> dict[str, Precision]:
    """The quantized precisions by the mode that a build file names."""
    return {precision.mode: precision for precision in PRECISIONS.values() if precision.mode is not None}


def float_dtypes() -> tuple[str, ...]:
    """The element types of the precisions that are not quantized."""
    return tuple(precision.dtype for precision in PRECISIONS.values() if not precision.is_quantized)
