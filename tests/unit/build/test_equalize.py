import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from mnasbench.build.calibration import observe
from mnasbench.build.equalize import Equalized, equalize
from mnasbench.build.gate import logits_of
from mnasbench.build.graph import constants, prepare, tensor_shapes, with_constants
from mnasbench.build.observer import Moments
from mnasbench.build.quantize import quantized_tensors
from unit.build.nets import random_images, small_mnasnet

IMAGES = random_images(16)
# In the small net: expand, depthwise, project of the first inverted residual.
HIDDEN = (("conv_04", "conv_05"), ("conv_05", "conv_06"))


def moments_of(model: ModelProto) -> dict[str, Moments]:
    shapes = tensor_shapes(model)
    moments = {name: Moments(shapes[name][1]) for name in quantized_tensors(model)}
    observe(model, {name: [moment] for name, moment in moments.items()}, lambda: iter([IMAGES]))
    return moments


def equalized(model: ModelProto, balance: float = 0.5) -> Equalized:
    return equalize(model, moments_of(model), balance, balance)


def rescaled(model: ModelProto, reach: float, seed: int) -> ModelProto:
    """The same function with each hidden channel times 2^U(-reach, reach)."""
    random = np.random.default_rng(seed)
    values = dict(constants(model))
    for maker, reader in HIDDEN:
        scale = 2 ** random.uniform(-reach, reach, 24).astype(np.float32)
        values[f"{maker}.weight"] = values[f"{maker}.weight"] * scale[:, None, None, None]
        values[f"{maker}.bias"] = values[f"{maker}.bias"] * scale
        weight = values[f"{reader}.weight"]
        values[f"{reader}.weight"] = weight / (
            scale[:, None, None, None] if weight.shape[1] == 1 else scale[:, None, None]
        )
    return with_constants(model, values)


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), balance=st.floats(0, 1))
def test_logits_stay(seed: int, balance: float) -> None:
    model = prepare(small_mnasnet(seed))
    before, after = logits_of(model, IMAGES), logits_of(equalized(model, balance).model, IMAGES)
    np.testing.assert_allclose(after, before, atol=1e-4 * np.abs(before).max())


def test_every_hidden_tensor_is_scaled_and_a_residual_group_as_one() -> None:
    found = equalized(prepare(small_mnasnet()))
    assert not found.left
    assert ["conv_03", "conv_06", "add_01", "conv_09", "add_02"] in [sorted(g, key=_order) for g in found.scaled]


def _order(name: str) -> int:
    return ["conv_03", "conv_06", "add_01", "conv_09", "add_02"].index(name) if name in (
        "conv_03", "conv_06", "add_01", "conv_09", "add_02"
    ) else 99  # fmt: skip


def test_with_balance_zero_every_channel_of_a_hidden_tensor_fills_its_range() -> None:
    moments = moments_of(equalized(prepare(small_mnasnet()), balance=0.0).model)
    for name in ("relu_03", "relu_04"):
        high = moments[name].high[moments[name].high > 0]
        np.testing.assert_allclose(high, 1, rtol=1e-4)


def test_linear_channels_lie_about_zero() -> None:
    model = prepare(small_mnasnet())

    def centres(net: ModelProto) -> np.ndarray:
        seen = moments_of(net)["add_02"]
        return np.asarray(((seen.low + seen.high) / 2 + seen.mean) / 2)

    assert np.abs(centres(model)).max() > 0.1
    assert np.abs(centres(equalized(model).model)).max() < 1e-4


def test_the_moments_of_a_sum_stay_the_sum_of_its_terms() -> None:
    # Its terms' shifts must add up to its own, or the sum would be another one.
    after = equalized(prepare(small_mnasnet()))
    terms = after.moments["conv_06"].mean + after.moments["conv_03"].mean
    np.testing.assert_allclose(after.moments["add_01"].mean, terms, atol=1e-5)
    terms = after.moments["add_01"].mean + after.moments["conv_09"].mean
    np.testing.assert_allclose(after.moments["add_02"].mean, terms, atol=1e-5)


def test_moments_are_carried_over_the_change() -> None:
    found = equalized(prepare(small_mnasnet()))
    for name, measured in moments_of(found.model).items():
        for field in ("low", "high", "mean"):
            carried, seen = getattr(found.moments[name], field), getattr(measured, field)
            np.testing.assert_allclose(carried, seen, atol=1e-4 * np.abs(seen).max() + 1e-5, err_msg=name)


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), reach=st.floats(0, 6))
def test_a_rescaled_net_comes_out_the_same(seed: int, reach: float) -> None:
    model = prepare(small_mnasnet())
    plain, hard = constants(equalized(model).model), constants(equalized(rescaled(model, reach, seed)).model)
    for name, value in plain.items():
        np.testing.assert_allclose(hard[name], value, rtol=1e-3, atol=1e-4 * np.abs(value).max(), err_msg=name)


@pytest.mark.parametrize("activation", ("SiLU", "Clip", "Sigmoid"))
def test_an_activation_that_no_factor_passes_is_left_alone(activation: str) -> None:
    model = prepare(small_mnasnet(activation=activation))
    found = equalized(model)
    before, after = logits_of(model, IMAGES), logits_of(found.model, IMAGES)
    np.testing.assert_allclose(after, before, atol=1e-4 * np.abs(before).max())
    assert found.left


def test_dead_and_padded_channels_do_no_harm() -> None:
    model = prepare(small_mnasnet())
    values = {name: value.copy() for name, value in constants(model).items()}
    for name in ("conv_04.weight", "conv_04.bias", "conv_05.weight", "conv_05.bias"):
        values[name][-4:] = 0
    values["conv_06.weight"][:, -4:] = 0
    model = with_constants(model, values)
    after = equalized(model).model
    assert all(np.isfinite(value).all() for value in constants(after).values())
    np.testing.assert_allclose(logits_of(after, IMAGES), logits_of(model, IMAGES), atol=1e-4)
