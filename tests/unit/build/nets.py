"""Small nets with the parts that matter: ReLU between Convs, depthwise Convs, residual sums, a mean, a Gemm."""

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

SIZE = 16
CLASSES = 10
# What Clip lets through at most; many values meet it.
CEILING = 1.5


class Net:
    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[object] = []
        self.weights: list[TensorProto] = []

    def add(self, operator: str, *inputs: str, **attributes: object) -> str:
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, values: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(values, f"w{len(self.weights)}"))
        return self.weights[-1].name

    def conv(self, x: str, ins: int, outs: int, kernel: int, group: int = 1, stride: int = 1) -> str:
        fan = ins // group * kernel**2
        weight = self.random.normal(0, np.sqrt(2 / fan), (outs, ins // group, kernel, kernel)).astype(np.float32)
        bias = self.random.normal(0, 0.2, outs).astype(np.float32)
        pads = [kernel // 2] * 4
        names = (self.constant(weight), self.constant(bias))
        return self.add("Conv", x, *names, pads=pads, kernel_shape=[kernel] * 2, strides=[stride] * 2, group=group)

    def model(self, x: str, channels: int) -> ModelProto:
        """What is there so far, with the mean of ``x`` and a Gemm behind it."""
        x = self.add("ReduceMean", x, self.constant(np.array([2, 3], np.int64)), keepdims=0)
        weight = self.random.normal(0, 0.3, (CLASSES, channels)).astype(np.float32)
        bias = self.random.normal(0, 0.1, CLASSES).astype(np.float32)
        self.nodes.append(
            helper.make_node("Gemm", [x, self.constant(weight), self.constant(bias)], ["output"], transB=1)
        )
        image = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])
        logits = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", CLASSES])
        graph = helper.make_graph(self.nodes, "net", [image], [logits], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def small_mnasnet(seed: int = 0, activation: str = "Relu") -> ModelProto:
    """A stem, two inverted residuals with a sum, a head; input (batch, 3, 16, 16), 10 logits."""
    net = Net(seed)

    def act(x: str) -> str:
        if activation == "Clip":
            return net.add("Clip", x, *(net.constant(np.array(bound, np.float32)) for bound in (0, CEILING)))
        return net.add("Mul", x, net.add("Sigmoid", x)) if activation == "SiLU" else net.add(activation, x)

    x = act(net.conv("input", 3, 8, 3, stride=2))
    x = net.conv(act(net.conv(x, 8, 8, 3, group=8)), 8, 8, 1)
    for _ in range(2):
        hidden = act(net.conv(act(net.conv(x, 8, 24, 1)), 24, 24, 3, group=24))
        x = net.add("Add", net.conv(hidden, 24, 8, 1), x)
    return net.model(act(net.conv(x, 8, 32, 1)), 32)


def random_images(count: int, seed: int = 1) -> np.ndarray:
    """Normalised noise with some structure, float32 (count, 3, 16, 16)."""
    random = np.random.default_rng(seed)
    coarse = random.normal(size=(count, 3, 4, 4)).repeat(4, axis=2).repeat(4, axis=3)
    return (coarse + 0.3 * random.normal(size=(count, 3, SIZE, SIZE))).astype(np.float32)
