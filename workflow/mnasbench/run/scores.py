"""From a model's scores to classes and probabilities."""

import numpy as np
import numpy.typing as npt


def softmax(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Softmax over the last axis, float32 (n, classes)."""
    exponents = np.exp(scores - scores.max(axis=-1, keepdims=True))
    probabilities: npt.NDArray[np.float32] = exponents / exponents.sum(axis=-1, keepdims=True)
    return probabilities


def best_classes(scores: npt.NDArray[np.float32], count: int) -> tuple[int, ...]:
    """Indices of the ``count`` highest of ``scores`` (shape (classes,)), best first; the lower index wins a tie."""
    if count < scores.size:
        # All that reach the last place, in the order of their indices; to sort a thousand takes five times as long.
        likely = np.flatnonzero(scores >= np.partition(scores, scores.size - count)[scores.size - count])
    else:
        likely = np.arange(scores.size)
    return tuple(likely[np.argsort(-scores[likely], kind="stable")[:count]].tolist())
