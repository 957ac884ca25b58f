import collections

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from mnasbench.build.graph import attribute
from mnasbench.build.half import to_half_weights
from mnasbench.runtimes import RUNTIMES
from mnasbench.runtimes import onnxruntime_layout as layout
from mnasbench.runtimes.base import InputFormat
from mnasbench.runtimes.onnxruntime import open_session, optimized
from mnasbench.runtimes.openvino_layout import interleaved_input
from small_classifier import float_classifier, quantized


def scores(model, images):
    return open_session(model).run(None, {model.graph.input[0].name: images})[0]


def noise(size, count=3, seed=5):
    return np.random.default_rng(seed).normal(size=(count, 3, size, size)).astype(np.float32)


def weights(model):
    return [tuple(t.dims) for t in model.graph.initializer if len(t.dims) == 4]


SIZES = {
    "size": st.sampled_from([16, 24, 32, 44, 64]),
    "stem": st.integers(2, 20),
    "narrow": st.integers(2, 26),
    "wide": st.integers(2, 40),
    "seed": st.integers(0, 1000),
}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=st.fixed_dictionaries(SIZES))
def test_a_quantized_graph_keeps_its_answers_to_the_bit(shape, tmp_path):
    before = quantized(float_classifier(**shape), tmp_path)
    images = noise(shape["size"])
    changed, blocks = layout.fast_input(before)
    after = layout.pad_channels(changed)
    onnx.checker.check_model(after)
    assert blocks is not None
    assert np.array_equal(scores(before, images), scores(after, blocks.quantize(images)))


def test_every_convolution_of_the_changed_graph_runs_in_int8(tmp_path):
    laid_out = RUNTIMES["onnxruntime"].prepare(quantized(float_classifier(), tmp_path))
    after = laid_out.model
    assert laid_out.blocks is not None and laid_out.blocks.parts == 2 and not laid_out.notes
    kinds = collections.Counter(n.op_type for n in optimized(after).graph.node)
    assert kinds["QLinearConv"] == 10
    assert not kinds["Conv"] and not kinds["QuantizeLinear"]


def test_depthwise_channels_become_multiples_of_sixteen():
    padded = layout.pad_channels(float_classifier(stem=8, narrow=6, wide=20))
    depthwise = [shape for shape in weights(padded) if shape[1] == 1]
    assert depthwise == [(16, 1, 3, 3), (32, 1, 3, 3), (32, 1, 5, 5)]
    assert min(shape[0] for shape in weights(padded)) == 16


@pytest.mark.parametrize("narrow", [3, 8, 18])
def test_a_float_graph_keeps_its_answers(narrow):
    before = float_classifier(narrow=narrow)
    after = layout.pad_channels(before)
    assert weights(after) != weights(before)
    np.testing.assert_allclose(scores(before, noise(32)), scores(after, noise(32)), rtol=0, atol=1e-5)


def test_half_weights_are_padded_behind_their_cast():
    before = to_half_weights(float_classifier())
    after = layout.pad_channels(before)
    assert weights(after) != weights(before)
    np.testing.assert_allclose(scores(before, noise(32)), scores(after, noise(32)), rtol=0, atol=1e-5)


def test_channels_that_something_unknown_reads_stay():
    model = float_classifier(wide=20, head=31)
    relu = model.graph.node[-4]  # between the last convolution and pooling
    assert relu.op_type == "Relu"
    relu.CopyFrom(onnx.helper.make_node("Softmax", [relu.input[0]], [relu.output[0]], axis=1))
    after = layout.pad_channels(model)
    assert weights(after)[-1][0] == 31
    np.testing.assert_allclose(scores(model, noise(32)), scores(after, noise(32)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [15, 18])
def test_an_image_that_has_no_even_halves_still_works(size, tmp_path):
    before = quantized(float_classifier(size=size), tmp_path)
    laid_out = RUNTIMES["onnxruntime"].prepare(before)
    after, blocks = laid_out.model, laid_out.blocks
    if size % 2:
        assert blocks is None
    else:
        assert (blocks.parts, blocks.rows) == (1, size // 2)
    images = noise(size)
    given_input = images if blocks is None else blocks.quantize(images)
    assert np.array_equal(scores(before, images), scores(after, given_input))


def test_a_float_graph_keeps_its_input():
    model = float_classifier()
    assert layout.fast_input(model) == (model, None)


def test_a_layout_that_changes_an_answer_is_left_out(monkeypatch, tmp_path):
    def broken(model):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        tensor = next(t for t in copy.graph.initializer if t.name == copy.graph.node[-1].input[0] or t.dims)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 2, tensor.name))
        return copy

    model = float_classifier()
    monkeypatch.setattr(layout, "pad_channels", broken)
    laid_out = RUNTIMES["onnxruntime"].prepare(model)
    assert laid_out.model == model and laid_out.blocks is None
    assert len(laid_out.notes) == 2 and "left out, it moved a score" in laid_out.notes[0]


def test_grouped_convolutions_stay_as_they_are():
    model = float_classifier(wide=20)
    grouped = next(n for n in model.graph.node if n.op_type == "Conv" and attribute(n, "group") == 20)
    weight = next(t for t in model.graph.initializer if t.name == grouped.input[1])
    weight.CopyFrom(numpy_helper.from_array(np.ones((20, 5, 3, 3), dtype=np.float32), weight.name))
    next(item for item in grouped.attribute if item.name == "group").i = 4
    after = layout.pad_channels(model)
    assert (20, 5, 3, 3) in weights(after)
    np.testing.assert_allclose(scores(model, noise(32)), scores(after, noise(32)), rtol=0, atol=1e-5)


def test_a_weight_that_two_layers_share_stays():
    model = float_classifier(stem=8, narrow=8)
    first, second = [n for n in model.graph.node if n.op_type == "Conv" and attribute(n, "kernel_shape") == [1, 1]][
        1::2
    ][:2]
    shapes = [next(t.dims for t in model.graph.initializer if t.name == n.input[1]) for n in (first, second)]
    assert shapes[0] == shapes[1]
    second.input[1] = first.input[1]
    after = layout.pad_channels(model)
    assert tuple(shapes[0]) in weights(after)
    np.testing.assert_allclose(scores(model, noise(32)), scores(after, noise(32)), rtol=0, atol=1e-5)


def test_layers_kept_in_float_keep_their_shape(tmp_path):
    model = float_classifier()
    kept = [n.name for n in model.graph.node if n.op_type == "Conv"][3:5]
    before = quantized(model, tmp_path, kept)
    laid_out = RUNTIMES["onnxruntime"].prepare(before)
    assert not laid_out.notes
    images = noise(32)
    assert np.array_equal(scores(before, images), scores(laid_out.model, laid_out.blocks.quantize(images)))


def test_a_model_without_an_image_stem_is_left_alone(tmp_path):
    model = float_classifier()
    stem = model.graph.node[0]
    assert stem.op_type == "Conv"
    for item in stem.attribute:
        if item.name == "pads":
            item.ints[:] = [0, 0, 1, 1]
    before = quantized(model, tmp_path)
    assert layout.fast_input(before)[1] is None


def test_interleaved_bytes_give_the_same_answers_in_openvino(tmp_path):
    before = quantized(float_classifier(), tmp_path)
    changed, target = interleaved_input(before)
    images = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32)
    steps = np.clip(np.rint(images / np.float32(target.scale)) + target.zero_point, 0, 255).astype(np.uint8)
    loaded, expected = (
        RUNTIMES["openvino"].open(g, InputFormat("input", (32, 32), None), 1, 4) for g in (changed, before)
    )
    np.testing.assert_array_equal(loaded.infer(steps.transpose(0, 2, 3, 1)), expected.infer(images))
    assert loaded.count_operators() == expected.count_operators()


def test_a_float_graph_takes_no_bytes():
    assert interleaved_input(float_classifier()) is None
