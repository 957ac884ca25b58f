"""The statistics against published values, brute force and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from mnasbench.result.statistics import PairedComparison, sqnr_db, wilson_interval


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


@pytest.mark.parametrize(("lost", "gained"), [(0.03, 0.02), (0.01, 0.01), (0.10, 0.04)])
def test_drop_interval_covers(lost: float, gained: float) -> None:
    generator, images = np.random.default_rng(1), 1000
    draws = generator.multinomial(images, [lost, gained, 1 - lost - gained], size=20_000)
    distinct, times = np.unique(draws[:, :2], axis=0, return_counts=True)
    intervals = [PairedComparison(images, int(a), int(b)).drop_interval() for a, b in distinct]
    covered = np.average([low <= lost - gained <= high for low, high in intervals], weights=times)
    assert 0.94 <= covered <= 0.96


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
