from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, ValueInfoProto, helper

from mnasbench.build.calibration import observe
from mnasbench.build.channels import FIXED, channels_of
from mnasbench.build.equalize import Equalized, equalize, with_scales
from mnasbench.build.gate import logits_of
from mnasbench.build.graph import constants, prepare, tensor_shapes, with_constants
from mnasbench.build.observer import Moments
from mnasbench.build.plain_layers import with_plain_layers
from mnasbench.build.quantize import quantized_tensors
from unit.build.nets import SIZE, Net, random_images, small_mnasnet

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
    model = prepare(small_mnasnet())
    assert not equalized(model).left
    scales = channels_of(model).of
    for name in ("conv_06", "add_01", "conv_09", "add_02"):
        np.testing.assert_array_equal(scales[name], scales["conv_03"])


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


def split_and_shuffled(net: Net) -> str:
    """Half the channels go through layers, the halves are joined and shuffled, as in ShuffleNet."""
    x = net.add("Relu", net.conv("input", 3, 8, 3))
    for _ in range(2):
        net.nodes.append(helper.make_node("Split", [x], [f"{x}a", f"{x}b"], axis=1, num_outputs=2))
        branch = net.add("Relu", net.conv(net.conv(f"{x}b", 4, 4, 3, group=4), 4, 4, 1))
        joined = net.add("Concat", f"{x}a", branch, axis=1)
        shape = [net.constant(np.array(sizes, np.int64)) for sizes in ((-1, 2, 4, SIZE, SIZE), (-1, 8, SIZE, SIZE))]
        turned = net.add("Transpose", net.add("Reshape", joined, shape[0]), perm=[0, 2, 1, 3, 4])
        x = net.add("Reshape", turned, shape[1])
    return net.conv(x, 8, 8, 1)


def joined_behind_a_norm(net: Net) -> str:
    """Joined channels are normalized for each reader apart, as in DenseNet; no factor passes that."""
    x = net.conv("input", 3, 6, 3)
    for channels in (6, 8):
        statistics = [net.random.uniform(0.5, 2, channels).astype(np.float32) for _ in range(4)]
        normed = net.add("BatchNormalization", x, *(net.constant(one) for one in statistics))
        x = net.add("Concat", x, net.conv(net.add("Relu", normed), channels, 2, 3), axis=1)
    return net.conv(x, 10, 8, 1)


def excited(net: Net) -> str:
    """A branch gives each channel a factor between 0 and 1, as squeeze-and-excite."""
    x = net.add("Relu", net.conv("input", 3, 8, 3))
    squeezed = net.add("Relu", net.conv(net.add("GlobalAveragePool", x), 8, 4, 1))
    x = net.add("Mul", x, net.add("Sigmoid", net.conv(squeezed, 4, 8, 1)))
    x = net.add("Div", x, net.constant(net.random.uniform(0.5, 2, (8, 1, 1)).astype(np.float32)))
    padded = net.add("Pad", x, net.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)))
    return net.conv(net.add("MaxPool", padded, kernel_shape=[3, 3], strides=[2, 2]), 8, 8, 1)


def tokens(net: Net) -> str:
    """Patches and a token of the class, attention, a sum and a matrix behind a LayerNormalization, as transformers."""
    patches = net.conv("input", 3, 8, 3, stride=2)
    flat = net.add("Reshape", patches, net.constant(np.array([-1, 8, SIZE**2 // 4], np.int64)))
    x = net.add("Transpose", flat, perm=[0, 2, 1])
    x = net.add("Add", x, net.constant(net.random.normal(size=(1, SIZE**2 // 4, 8)).astype(np.float32)))
    names = [net.constant(net.random.uniform(0.5, 2, 8).astype(np.float32)) for _ in range(2)]
    normed = net.add("LayerNormalization", x, *names, axis=-1)
    queries, keys, given = (net.add("MatMul", normed, net.constant(_matrix(net, 8, 8))) for _ in range(3))
    scores = net.add("MatMul", queries, net.add("Transpose", keys, perm=[0, 2, 1]))
    attended = net.add("MatMul", net.add("Softmax", scores, axis=-1), given)
    x = net.add("Add", x, net.add("MatMul", attended, net.constant(_matrix(net, 8, 8))))
    normed = net.add("LayerNormalization", x, *names, axis=-1)
    x = net.add("MatMul", net.add("Erf", net.add("MatMul", normed, net.constant(_matrix(net, 8, 8)))),
                net.constant(_matrix(net, 8, 8)))  # fmt: skip
    turned = net.add("Transpose", x, perm=[0, 2, 1])
    return net.add("Reshape", turned, net.constant(np.array([-1, 8, SIZE // 2, SIZE // 2], np.int64)))


def _matrix(net: Net, rows: int, columns: int) -> np.ndarray:
    return net.random.normal(0, rows**-0.5, (rows, columns)).astype(np.float32)


BODIES = (split_and_shuffled, joined_behind_a_norm, excited, tokens)


@pytest.mark.parametrize("body", BODIES)
@settings(max_examples=4)
@given(seed=st.integers(0, 1000))
def test_logits_stay_whatever_each_free_scale_is(body: Callable[[Net], str], seed: int) -> None:
    # Any factors, not only those that are chosen: what is tied, fixed and made up for is right or it shows.
    net = Net(seed)
    model = with_plain_layers(prepare(net.model(body(net), 8)))
    channels = channels_of(model)
    scale = 2 ** np.random.default_rng(seed).uniform(-3, 3, channels.count)
    scale[FIXED] = 1
    after = with_scales(model, channels.edits, scale, constants(model))
    before = logits_of(model, IMAGES)
    np.testing.assert_allclose(logits_of(after, IMAGES), before, atol=1e-4 * np.abs(before).max())
    assert any(not np.array_equal(value, constants(model).get(name)) for name, value in constants(after).items())


@pytest.mark.parametrize("body", BODIES)
def test_what_is_computed_is_what_the_scales_say(body: Callable[[Net], str]) -> None:
    net = Net(3)
    model = with_plain_layers(prepare(net.model(body(net), 8)))
    channels = channels_of(model)
    scale = 2 ** np.random.default_rng(0).uniform(-3, 3, channels.count)
    scale[FIXED] = 1
    after = with_scales(model, channels.edits, scale, constants(model))
    names = [name for name in channels.of if name != "input"]
    image = IMAGES[:1]
    for name in names:
        before, changed = (logits_of(_ending_at(graph, name), image) for graph in (model, after))
        expected = before * scale[channels.of[name]]
        np.testing.assert_allclose(changed, expected, atol=1e-4 * np.abs(expected).max(), err_msg=name)


def _ending_at(model: ModelProto, name: str) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    copy.graph.output[0].CopyFrom(ValueInfoProto(name=name))
    return copy


@pytest.mark.parametrize("body", (split_and_shuffled, tokens))
def test_channels_come_nearer_to_each_other(body: Callable[[Net], str]) -> None:
    net = Net(1)
    model = with_plain_layers(prepare(net.model(body(net), 8)))

    def spread(net: ModelProto) -> float:
        largest = [np.maximum(-one.low, one.high) for name, one in moments_of(net).items() if name != "input"]
        return float(np.mean([np.log(one.max() / one[one > 0].min()) for one in largest]))

    assert spread(equalized(model, 0.0).model) < 0.8 * spread(model)
