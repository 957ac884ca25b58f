"""Is the fp32 accuracy what its publisher measured? Where it is not, the other figures rest on a mistake upstream."""

from collections.abc import Iterable

from mnasbench.result.summary import Row

# Two readers of the same images differ in a few decoded pixels; 0.05 points are 25 images of all 50,000.
TOLERANCE = 0.05
# Published accuracies are those of the whole validation set.
IMAGES = 50_000

USUAL_CAUSES = (
    "another resize than the published one (torchvision's mnasnet0_75 and 1_3 want a short side of 232, not 256)",
    "images squeezed to a square, or resized by OpenCV instead of PIL (see the parity certificate)",
    "classes in another order: class folders or WordNet ids that were not sorted",
    "a label file of ILSVRC2012_ID numbers instead of class indices (valprep.py --devkit translates them)",
    "means and standard deviations of another training, or BGR instead of RGB",
    "weights of another version than the published ones",
)


def deviations(rows: Iterable[Row]) -> list[str]:
    """One line for each fp32 row of the whole set whose top-1 is off the published one; then the usual causes.

    Empty where nothing deviates or nothing can be compared.
    """
    messages = []
    for row in rows:
        if row.precision != "fp32" or row.reference_top1 is None or row.images != IMAGES:
            continue
        gap = row.top1 - row.reference_top1
        if abs(gap) > TOLERANCE:
            messages.append(
                f"{row.model}: fp32 top-1 is {row.top1:.3f}, {gap:+.3f} points off the published "
                f"{row.reference_top1:.3f} ({row.reference_source})"
            )
    return [*messages, f"what usually causes that: {'; '.join(USUAL_CAUSES)}"] if messages else []
