"""Rounding a layer's weights: to the nearest, or by GPTQ, so that the errors of one output cancel.

GPTQ (Frantar et al. 2022, after Optimal Brain Surgeon, Hassibi & Stork 1992): the weights of an output are rounded
one after another, and what each rounding changes in the layer's output is made good by those that follow,
as far as the inputs vary together. It costs nothing at run time.
"""

import numpy as np

from mnasbench.jit import jit

# Added to the covariance's diagonal, in shares of its mean, as GPTQ's authors do: with few images the covariance of
# a wide layer's inputs is singular.
_DAMPING = 0.01
# Columns that are rounded before their errors are passed on to the rest in one product.
_BLOCK = 64
# Rounds of descent; hardly a weight moves after the third.
_SWEEPS = 6


def round_to_nearest(weights: np.ndarray, scales: np.ndarray, steps: int) -> np.ndarray:
    """``weights`` (groups, outputs, inputs) on the grid of ``scales`` (groups, outputs), each to its nearest step."""
    grid = scales[..., None]
    return np.asarray(np.clip(np.rint(weights / grid), -steps, steps) * grid)


def round_by_gptq(weights: np.ndarray, scales: np.ndarray, steps: int, covariance: np.ndarray) -> np.ndarray:
    """``weights`` on the same grid with the smallest output error that a greedy pass finds.

    ``weights`` (groups, outputs, inputs); ``scales`` (groups, outputs) step sizes; ``steps`` on each side of zero;
    ``covariance`` (groups, inputs, inputs) of the inputs. Returns float64.
    """
    groups, _, inputs = weights.shape
    rest = weights.astype(np.float64)
    rounded = np.empty_like(rest)
    # The upper triangle U with U'U the inverse of the covariance, by way of the reversed matrix: unlike the inverse
    # itself, the covariance is certainly positive definite. Row j holds how the inputs after j make good its error.
    reversed_factor = np.linalg.cholesky(_damped(covariance)[:, ::-1, ::-1])
    factor = _inverse_of_upper(reversed_factor[:, ::-1, ::-1])
    for start in range(0, inputs, _BLOCK):
        stop = min(start + _BLOCK, inputs)
        errors = np.empty((groups, rest.shape[1], stop - start))
        for column in range(start, stop):
            nearest = round_to_nearest(rest[:, :, column : column + 1], scales, steps)[:, :, 0]
            error = (rest[:, :, column] - nearest) / factor[:, column, column, None]
            rounded[:, :, column] = nearest
            errors[:, :, column - start] = error
            rest[:, :, column + 1 : stop] -= error[:, :, None] * factor[:, None, column, column + 1 : stop]
        rest[:, :, stop:] -= errors @ factor[:, start:stop, stop:]
    return rounded


def _inverse_of_upper(matrices: np.ndarray) -> np.ndarray:
    """The inverses of upper triangular ``matrices`` (groups, n, n), by halves: a sixth of the general one's work."""
    size = matrices.shape[1]
    if size <= _BLOCK:
        return np.asarray(np.linalg.inv(matrices))
    half = size // 2
    inverse = np.zeros_like(matrices)
    first, last = _inverse_of_upper(matrices[:, :half, :half]), _inverse_of_upper(matrices[:, half:, half:])
    inverse[:, :half, :half], inverse[:, half:, half:] = first, last
    inverse[:, :half, half:] = -(first @ matrices[:, :half, half:]) @ last
    return inverse


def _damped(covariance: np.ndarray) -> np.ndarray:
    damped = covariance.astype(np.float64)
    diagonal = np.einsum("gii->gi", damped)  # a view: what is added here is added to the matrices
    mean = diagonal.mean(axis=1, keepdims=True)
    # Inputs that are always zero have no covariance at all; any positive number serves.
    diagonal += np.where(mean > 0, _DAMPING * mean, 1.0)
    return damped


def round_by_descent(
    rounded: np.ndarray, weights: np.ndarray, scales: np.ndarray, steps: int, covariance: np.ndarray
) -> np.ndarray:
    """``rounded`` (as :func:`round_by_gptq` gives it) with weights moved by steps as long as the output error falls.

    Cyclic coordinate descent (QuantEase, Behdin et al. 2023): unlike GPTQ, each weight is looked at again after those
    behind it are rounded. The error never rises.
    """
    result = np.array(rounded, np.float64)
    damped = _damped(covariance)
    for group in range(len(result)):
        _descend(result[group], np.asarray(weights[group], np.float64), scales[group], steps, damped[group])
    return result


@jit()
def _descend(rounded: np.ndarray, weights: np.ndarray, scales: np.ndarray, steps: int, covariance: np.ndarray) -> None:
    outputs, inputs = rounded.shape
    for output in range(outputs):
        scale = scales[output]
        slope = np.zeros(inputs)
        for column in range(inputs):
            error = rounded[output, column] - weights[output, column]
            for other in range(inputs):
                slope[other] += error * covariance[column, other]
        for _ in range(_SWEEPS):
            moved = False
            for column in range(inputs):
                now = round(rounded[output, column] / scale)
                best = round(rounded[output, column] / scale - slope[column] / (covariance[column, column] * scale))
                best = min(max(best, -steps), steps)
                if best != now:
                    change = (best - now) * scale
                    # Half a step beyond the optimum is no gain.
                    if change * (2 * slope[column] + change * covariance[column, column]) < 0:
                        moved = True
                        rounded[output, column] = best * scale
                        for other in range(inputs):
                            slope[other] += change * covariance[column, other]
            if not moved:
                break
