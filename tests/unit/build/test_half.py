import numpy as np
import pytest
from onnx import numpy_helper

from mnasbench.build.gate import logits_of, sqnr_db
from mnasbench.build.graph import constants, prepare, with_constants
from mnasbench.build.half import to_half_weights
from mnasbench.errors import BuildError
from unit.build.nets import random_images, small_mnasnet


def test_halves_are_stored_and_the_arithmetic_is_that_of_the_rounded_weights() -> None:
    model = prepare(small_mnasnet())
    half = to_half_weights(model)
    assert {value.dtype for value in constants(half).values()} == {np.dtype(np.float16)}
    rounded = with_constants(model, {k: v.astype(np.float16) for k, v in constants(model).items()})
    images = random_images(8)
    np.testing.assert_allclose(logits_of(half, images), logits_of(rounded, images), atol=1e-5)
    assert sqnr_db(logits_of(model, images), logits_of(half, images)) > 50


@pytest.mark.parametrize("value", (1e5, np.nan, np.inf))
def test_a_weight_that_halves_cannot_hold_is_named(value: float) -> None:
    model = prepare(small_mnasnet())
    bias = constants(model)["conv_01.bias"].copy()
    bias[0] = value
    for tensor in model.graph.initializer:
        if tensor.name == "conv_01.bias":
            tensor.CopyFrom(numpy_helper.from_array(bias, tensor.name))
    with pytest.raises(BuildError, match=r"conv_01\.bias"):
        to_half_weights(model)
