import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mnasbench.build.rounding import round_by_descent, round_by_gptq, round_to_nearest


def problem(seed: int, groups: int, outputs: int, inputs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    weights = random.normal(size=(groups, outputs, inputs))
    mixing = random.normal(size=(groups, inputs, inputs))
    values = mixing @ random.normal(size=(groups, inputs, 500))  # correlated, as a layer's inputs are
    return weights, np.abs(weights).max(axis=2) / 7, values @ values.transpose(0, 2, 1) / 500


def output_error(rounded: np.ndarray, weights: np.ndarray, moments: np.ndarray) -> float:
    change = rounded - weights
    return float(np.einsum("goi,gij,goj->", change, moments, change))


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 4), st.integers(1, 150))
def test_weights_land_on_the_grid_and_within_its_ends(seed: int, groups: int, outputs: int, inputs: int) -> None:
    weights, scales, moments = problem(seed, groups, outputs, inputs)
    steps = round_by_gptq(weights, scales, 7, moments) / scales[..., None]
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-9)
    assert np.abs(steps).max() <= 7 + 1e-9


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 2), st.integers(1, 4), st.integers(1, 80))
def test_descent_stays_on_the_grid_and_never_loses(seed: int, groups: int, outputs: int, inputs: int) -> None:
    weights, scales, moments = problem(seed, groups, outputs, inputs)
    damped = moments + 0.01 * np.einsum("gii->g", moments)[:, None, None] / inputs * np.eye(inputs)
    first = round_by_gptq(weights, scales, 7, moments)
    second = round_by_descent(first, weights, scales, 7, moments)
    steps = second / scales[..., None]
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-9)
    assert np.abs(steps).max() <= 7 + 1e-9
    assert output_error(second, weights, damped) <= output_error(first, weights, damped) * (1 + 1e-12)


def test_descent_ends_where_no_single_step_gains() -> None:
    weights, scales, moments = problem(3, 1, 2, 6)
    damped = moments + 0.01 * np.einsum("gii->g", moments)[:, None, None] / 6 * np.eye(6)
    best = round_by_descent(round_to_nearest(weights, scales, 7), weights, scales, 7, moments)
    least = output_error(best, weights, damped)
    for output, column, step in itertools.product(range(2), range(6), (-1, 1)):
        moved = best.copy()
        moved[0, output, column] += step * scales[0, output]
        if abs(moved[0, output, column]) <= 7 * scales[0, output] * (1 + 1e-9):
            assert output_error(moved, weights, damped) >= least


def test_the_output_error_is_far_below_that_of_rounding_to_the_nearest() -> None:
    weights, scales, moments = problem(0, 2, 8, 100)
    ours = output_error(round_by_gptq(weights, scales, 7, moments), weights, moments)
    nearest = output_error(round_to_nearest(weights, scales, 7), weights, moments)
    assert ours < 0.5 * nearest


def test_near_the_best_of_all_roundings_of_a_small_layer() -> None:
    for seed in range(5):
        weights, scales, moments = problem(seed, 1, 1, 8)
        down = np.floor(weights / scales[..., None])
        errors = [
            output_error((down + np.array(up)) * scales[..., None], weights, moments)
            for up in itertools.product((0, 1), repeat=8)
        ]
        ours = output_error(round_by_gptq(weights, scales, 7, moments), weights, moments)
        assert np.mean(ours <= np.array(errors)) > 0.9


def test_uncorrelated_inputs_are_rounded_to_the_nearest() -> None:
    weights, scales, _ = problem(0, 2, 3, 70)
    moments = np.tile(np.eye(70), (2, 1, 1))
    np.testing.assert_array_equal(round_by_gptq(weights, scales, 7, moments), round_to_nearest(weights, scales, 7))


def test_inputs_that_are_always_zero_are_bearable() -> None:
    weights, scales, moments = problem(0, 2, 3, 10)
    moments[0] = 0
    moments[1, 4], moments[1, :, 4] = 0, 0
    assert np.isfinite(round_by_gptq(weights, scales, 7, moments)).all()
