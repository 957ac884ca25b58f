"""The statistics of accuracies: intervals for one, paired comparison of two.

All take counts of images and give proportions between 0 and 1; nothing here rounds.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

CONFIDENCE = 0.95


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def wilson_interval(correct: int, images: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval for ``correct`` of ``images`` (J. Am. Stat. Assoc. 22, 1927)."""
    if images == 0:
        return 0.0, 1.0
    z = _z(confidence)
    share = correct / images
    centre = (share + z * z / (2 * images)) / (1 + z * z / images)
    half = z * math.sqrt(share * (1 - share) / images + z * z / (4 * images**2)) / (1 + z * z / images)
    # At the ends the formula gives 0 or 1 but for rounding.
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == images else min(1.0, centre + half)
    return low, high


def _share_interval(count: int, total: int, confidence: float) -> tuple[float, float]:
    """Interval of a rare share: of its arcsine (Anscombe, Biometrika 35, 1948), but of a count of 0 or ``total`` exact.

    Exact is the mid-p limit there, the rule of three: the arcsine's would be a sixth lower.
    """
    never = (1 - confidence) ** (1 / total)
    centre = math.asin(math.sqrt((count + 3 / 8) / (total + 3 / 4)))
    half = _z(confidence) / math.sqrt(4 * total + 2)
    low = 0.0 if count == 0 else never if count == total else math.sin(max(0.0, centre - half)) ** 2
    high = 1.0 if count == total else 1 - never if count == 0 else math.sin(min(math.pi / 2, centre + half)) ** 2
    return low, high


def _length(one: float, other: float, correlation: float) -> float:
    """Standard error of a difference, of the standard errors of its parts and their correlation."""
    return math.sqrt(max(0.0, one * one + other * other - 2 * correlation * one * other))


@dataclass(frozen=True)
class PairedComparison:
    """A model against its reference on the same images; ``drop`` is reference minus model, as a proportion."""

    images: int
    lost: int
    gained: int

    @property
    def drop(self) -> float:
        """Reference's accuracy minus the model's."""
        return (self.lost - self.gained) / self.images if self.images else 0.0

    def drop_interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Interval of the drop: those of the two shares, lost and gained, combined (MOVER).

        A limit of a difference lies from it as far as the limits of its two parts from them, added as standard errors
        of correlated estimates are (Zou, Psychol. Methods 12, 2007; Newcombe's method 10, Stat. Med. 17, 1998, has
        that form); lost and gained are two cells of one trinomial. Intervals of Wald's form are far too wide or too
        narrow where few images flip; the test has this one's exact coverage.
        """
        if not self.images:
            return -1.0, 1.0
        (low_lost, high_lost), (low_gained, high_gained) = (
            _share_interval(count, self.images, confidence) for count in (self.lost, self.gained)
        )
        lost, gained = self.lost / self.images, self.gained / self.images
        odds = self.lost * self.gained / max(1, (self.images - self.lost) * (self.images - self.gained))
        correlation = -math.sqrt(odds)
        below = _length(lost - low_lost, high_gained - gained, correlation)
        above = _length(high_lost - lost, gained - low_gained, correlation)
        return max(-1.0, self.drop - below), min(1.0, self.drop + above)

    @property
    def mcnemar_p(self) -> float:
        """Two-sided mid-p that images lost and gained are equally likely (McNemar's test); 1 without flips.

        The exact p less half the probability of flips exactly as uneven as these (Fagerland et al., BMC Med. Res.
        Methodol. 13:91, 2013). With few flips the exact one is far from uniform where there is no difference, and
        so keeps silent about losses that are there.
        """
        flips, fewer = self.lost + self.gained, min(self.lost, self.gained)
        if not flips:
            return 1.0
        # Of the 2^flips ways to fall: those more uneven to one side, and those as uneven. In whole numbers, exactly;
        # what scipy has for it takes half a second to import, in each of hundreds of jobs.
        more_uneven, as_uneven = 0, 1
        for count in range(fewer):
            more_uneven += as_uneven
            as_uneven = as_uneven * (flips - count) // (count + 1)
        halves = 4 * more_uneven + as_uneven * (1 if self.lost == self.gained else 2)
        return halves / (1 << flips + 1)


def sqnr_db(signal: float, noise: float) -> float | None:
    """10 log10(signal / noise) of two sums of squares; None where one of them is zero."""
    # Of their logarithms: the quotient of the smallest number and another is zero.
    return 10 * (math.log10(signal) - math.log10(noise)) if signal > 0 and noise > 0 else None
