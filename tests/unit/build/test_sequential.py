"""What the sequential pass may do to a bias."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from mnasbench.build.ranges import Range
from mnasbench.build.sequential import correct


def test_no_bias_is_corrected_beyond_its_32_bits() -> None:
    weight = np.full((2, 3, 1, 1), 1e-6, np.float32)
    held = {"w": weight, "b": np.zeros(2, np.float32)}
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"], "conv", kernel_shape=[1, 1])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2, 4, 4])],
        [numpy_helper.from_array(value, name) for name, value in held.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    images = np.random.default_rng(0).uniform(0, 1, (8, 3, 4, 4)).astype(np.float32)
    ranges = {"x": Range(0.0, 1.0)}
    scale = 1e-6 / 127 / 255
    # The second channel's mean is 1,000 times what its bias can hold.
    means = {"y": np.array([1e-5, 1000 * 2.0**31 * scale])}
    corrected = correct(
        model, images, ranges, means, steps=127, per_channel=True, gptq=False, correct_bias=True
    ).values["b"]
    assert corrected[0] > 5e-6 and corrected[1] == 0
    assert np.abs(corrected / scale).max() < 2.0**31
