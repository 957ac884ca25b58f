"""From a model's scores to classes and probabilities."""

import numpy as np
import numpy.typing as npt


def softmax(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Softmax over the last axis, float32 (n, classes)."""
    exponents = np.exp(scores - scores.max(axis=-1, keepdims=True))
    probabilities: npt.NDArray[np.float32] = exponents / exponents.sum(axis=-1, keepdims=True)
    return probabilities


def best_classes(scores: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.intp]:
    """Indices of the ``count`` highest of each row of finite ``scores`` (n, classes), best first: (n, count).

    The lower index wins a tie. A model of fewer classes gives all it has.
    """
    left = scores.copy()
    rows = np.arange(len(scores))
    best = np.empty((len(scores), min(count, scores.shape[1])), np.intp)
    for place in range(best.shape[1]):  # five searches for a maximum take less than one sort
        best[:, place] = left.argmax(axis=1)  # the first of equals
        left[rows, best[:, place]] = -np.inf
    return best
