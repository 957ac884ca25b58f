"""The statistics against published values, brute force and simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import beta, binom, binomtest, multinomial, norm

from mnasbench.result.statistics import PairedComparison, _share_interval, sqnr_db, wilson_interval


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(counts: tuple[int, int]) -> None:
    correct, images = counts
    expected = binomtest(correct, images).proportion_ci(method="wilson")
    assert wilson_interval(correct, images) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("images", [300, 1000, 50_000])
@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
def test_wilson_covers(share: float, images: int) -> None:
    # Exact coverage: the probability, over every possible count, that the interval holds the truth.
    counts = np.arange(*binom.interval(1 - 1e-9, images, share))
    holds = [low <= share <= high for low, high in (wilson_interval(int(count), images) for count in counts)]
    assert 0.94 <= binom.pmf(counts, images, share)[holds].sum() <= 0.96


def _drop_coverage(images: int, lost: float, gained: float) -> float:
    """Exact coverage: the probability, over every possible count of both, that the interval holds the truth."""
    counts = [np.arange(*binom.interval(1 - 1e-7, images, share) + np.array([0, 1])) for share in (lost, gained)]
    pairs = np.stack(np.meshgrid(*counts), axis=-1).reshape(-1, 2).astype(int)
    pairs = pairs[pairs.sum(axis=1) <= images]
    weights = multinomial.pmf(
        np.column_stack([pairs, images - pairs.sum(axis=1)]), images, [lost, gained, 1 - lost - gained]
    )
    intervals = np.array([PairedComparison(images, int(a), int(b)).drop_interval() for a, b in pairs])
    holds = (intervals[:, 0] <= lost - gained) & (lost - gained <= intervals[:, 1])
    return float(weights[holds].sum())


# How many images are lost, and gained, on average.
EXPECTED = (0.001, 0.3, 1, 2, 2.7, 3.1, 4, 5, 6, 8, 10, 12, 15, 18, 20, 25, 40, 60)
HIGHEST = ((30, 0.96), (10, 0.97), (5, 0.98), (0, 1))


@pytest.mark.parametrize("images", [100, 300, 1000, 50_000])
def test_drop_interval_covers(images: int) -> None:
    for lost, gained in itertools.combinations_with_replacement(reversed(EXPECTED), 2):
        if lost + gained > 0.6 * images:
            continue
        covered = _drop_coverage(images, lost / images, gained / images)
        # No interval is as narrow as 95 % asks where hardly anything happens: with one flip expected, a third of all
        # runs have none, and to be sure of a difference McNemar's test needs five.
        highest = next(bound for flips, bound in HIGHEST if lost + gained >= flips)
        assert 0.94 <= covered <= highest, (lost, gained)


@pytest.mark.parametrize(("lost", "gained"), [(0.05, 0.05), (0.05, 0.001), (0.02, 0.01), (0.005, 0.005)])
def test_drop_interval_covers_all_of_imagenet(lost: float, gained: float) -> None:
    assert _drop_coverage(50_000, lost, gained) == pytest.approx(0.95, abs=5e-4)


@pytest.mark.parametrize("count", [1, 2, 5, 20, 100, 500])
def test_limits_of_a_share_are_those_of_jeffreys_prior(count: int) -> None:
    low, high = _share_interval(count, 5000, 0.95)
    expected = beta.ppf([0.025, 0.975], count + 0.5, 5000 - count + 0.5)
    assert 5000 * np.array([low, high]) == pytest.approx(5000 * expected, abs=0.12)


@pytest.mark.parametrize("total", [1, 10, 1000])
def test_limit_of_a_share_without_any_is_the_mid_p(total: int) -> None:
    low, high = _share_interval(0, total, 0.95)
    assert low == 0 and binom.pmf(0, total, high) / 2 == pytest.approx(0.025)
    assert _share_interval(total, total, 0.95) == pytest.approx((1 - high, 1))


def _score_limit(images: int, lost: int, gained: int, side: int) -> float:
    """A limit of Tango's interval (Stat. Med. 17, 1998): where the score test is at its bound."""

    def surplus(drop: float) -> float:
        # Of the shares with this drop, the most likely ones.
        likelihood = minimize_scalar(
            lambda least: (
                -(lost * np.log(least + max(drop, 0)) + gained * np.log(least + max(-drop, 0)))
                - (images - lost - gained) * np.log(1 - 2 * least - abs(drop))
            ),
            bounds=(1e-12, (1 - abs(drop)) / 2 - 1e-12),
            options={"xatol": 1e-13},
        )
        variance = 2 * likelihood.x + abs(drop) - drop**2
        return (lost - gained - images * drop) / math.sqrt(images * variance) + side * norm.ppf(0.975)

    return brentq(surplus, -0.5, 0.5)


@pytest.mark.parametrize("counts", [(1000, 40, 30), (300, 30, 12), (50_000, 700, 400), (50_000, 25, 100)])
def test_drop_interval_is_near_the_inverted_score_test(counts: tuple[int, int, int]) -> None:
    low, high = PairedComparison(*counts).drop_interval()
    expected = _score_limit(*counts, side=-1), _score_limit(*counts, side=1)
    assert (low, high) == pytest.approx(expected, abs=0.02 * (high - low))


@given(st.data(), st.integers(1, 3000))
def test_drop_interval_follows_the_counts(data: st.DataObject, images: int) -> None:
    lost = data.draw(st.integers(0, images))
    gained = data.draw(st.integers(0, images - lost))
    comparison = PairedComparison(images, lost, gained)
    low, high = comparison.drop_interval()
    assert -1 <= low <= comparison.drop <= high <= 1 and high - low > 0.01 / images
    assert PairedComparison(images, gained, lost).drop_interval() == pytest.approx((-high, -low), abs=1e-12)
    for more_lost, less_gained in ((1, 0), (0, 1), (1, 1)):
        if lost + more_lost + gained - less_gained <= images and gained >= less_gained:
            further = PairedComparison(images, lost + more_lost, gained - less_gained).drop_interval()
            assert further[0] >= low - 1e-12 and further[1] >= high - 1e-12


def test_drop_interval_without_flips_holds_three_images_each_way() -> None:
    low, high = PairedComparison(1000, 0, 0).drop_interval()
    assert -low == high == pytest.approx(0.003, rel=0.01)
    assert PairedComparison(0, 0, 0).drop_interval() == (-1, 1)


def test_drop_interval_and_mcnemar_agree_but_at_the_edge() -> None:
    # Which of them calls a difference significant differs only where p is 0.05 to 0.06.
    for lost, gained in itertools.product(range(40), repeat=2):
        comparison = PairedComparison(1000, lost, gained)
        low, high = comparison.drop_interval()
        if not 0.05 <= comparison.mcnemar_p <= 0.06:
            assert (low > 0 or high < 0) == (comparison.mcnemar_p < 0.05)


@pytest.mark.parametrize(("images", "flipped"), [(1000, 0.02), (1000, 0.05), (50_000, 0.002)])
def test_mcnemar_is_uniform_under_no_difference(images: int, flipped: float) -> None:
    # Over every number of flips and every split of them, with their probabilities.
    flips = np.arange(*binom.interval(1 - 1e-9, images, flipped))
    splits = [(int(n), k) for n in flips for k in range(int(n) + 1)]
    ps = np.array([PairedComparison(images, k, n - k).mcnemar_p for n, k in splits])
    numbers, lost = np.array(splits).T
    weights = binom.pmf(numbers, images, flipped) * binom.pmf(lost, numbers, 0.5)
    for level in (0.01, 0.05, 0.1, 0.2, 0.5):
        assert weights[ps <= level].sum() == pytest.approx(level, abs=0.02)
    assert 0.04 <= weights[ps <= 0.05].sum() <= 0.055
    assert np.average(ps, weights=weights) == pytest.approx(0.5, abs=1e-3)


def test_mcnemar_is_the_mid_p_of_the_tails() -> None:
    for lost, gained in ((8, 7), (3, 11), (5, 5), (0, 4)):
        more = [k for k in range(lost + gained + 1) if abs(2 * k - lost - gained) > abs(lost - gained)]
        same = [k for k in range(lost + gained + 1) if abs(2 * k - lost - gained) == abs(lost - gained)]
        ways = sum(math.comb(lost + gained, k) for k in more) + sum(math.comb(lost + gained, k) for k in same) / 2
        assert PairedComparison(100, lost, gained).mcnemar_p == pytest.approx(ways / 2 ** (lost + gained))


@given(st.integers(0, 3000), st.integers(1, 3000))
def test_mcnemar_is_scipys_exact_p_less_half_of_the_outcome(lost: int, gained: int) -> None:
    flips = lost + gained
    outcome = binom.pmf(lost, flips, 0.5) * (1 if lost == gained else 2)
    expected = binomtest(lost, flips, 0.5).pvalue - outcome / 2
    assert PairedComparison(10_000, lost, gained).mcnemar_p == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_mcnemar_without_flips_is_one() -> None:
    assert PairedComparison(100, 0, 0).mcnemar_p == 1.0


@given(st.integers(0, 50), st.integers(0, 50))
def test_comparison_is_antisymmetric(lost: int, gained: int) -> None:
    one, other = PairedComparison(100, lost, gained), PairedComparison(100, gained, lost)
    assert one.drop == -other.drop
    assert one.mcnemar_p == pytest.approx(other.mcnemar_p)
    low, high = one.drop_interval()
    assert other.drop_interval() == pytest.approx((-high, -low))
    assert low <= one.drop <= high


def test_sqnr() -> None:
    assert sqnr_db(100.0, 1.0) == pytest.approx(20.0)
    assert sqnr_db(1.0, 0.0) is None
