"""Foreign graphs of one function: each becomes the graph that the exporter would have written, or one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mnasbench.build.graph import tensor_shapes
from mnasbench.errors import InputError, ModelError, SettingsError
from mnasbench.model.onnx_import import Imported, import_onnx, is_exported, multiply_adds, parameter_count
from mnasbench.onnx_file import files_of_onnx, own_size
from mnasbench.preprocessing import Preprocessing
from mnasbench.runtimes.onnxruntime import open_session

HEIGHT, WIDTH, CLASSES, WIDE = 12, 20, 5, 8
_random = np.random.default_rng(5)
CONV = _random.normal(0, 0.3, (WIDE, 3, 3, 3)).astype(np.float32)
HEAD = _random.normal(0, 0.5, (CLASSES, WIDE)).astype(np.float32)
IMAGES = _random.normal(size=(4, 3, HEIGHT, WIDTH)).astype(np.float32)
ONES, ZEROS = np.ones(WIDE, np.float32), np.zeros(WIDE, np.float32)


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


class Graph:
    """A graph under construction: Conv, then what a test puts there."""

    def __init__(
        self, opset: int = 13, image: str = "x:0", batch: int | str = 1, kind: int = TensorProto.FLOAT
    ) -> None:
        self.opset, self.kind = opset, kind
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.inputs = [(image, kind, [batch, 3, HEIGHT, WIDTH])]
        self.last = image

    def add(self, operator: str, *constants: np.ndarray, read: list[str] | None = None, **attributes: Any) -> "Graph":
        names = []
        for constant in constants:
            names.append(f"constant/{len(self.constants)}")
            self.constants[names[-1]] = constant
        inputs = [self.last] if read is None else read
        self.last = f"{operator}_{len(self.nodes)}.tmp_0"
        self.nodes.append(
            helper.make_node(operator, [*inputs, *names], [self.last], f"n{len(self.nodes)}", **attributes)
        )
        return self

    def stem(self) -> "Graph":
        return self.add("Conv", CONV, pads=[1, 1, 1, 1], kernel_shape=[3, 3]).add("Relu").add("GlobalAveragePool")

    def head(self) -> "Graph":
        return self.add("Gemm", HEAD, np.zeros(CLASSES, np.float32), transB=1)

    def model(self, shape: list[int | str] | None = None, ir_version: int = 7, **outputs: list[int]) -> ModelProto:
        values = [helper.make_tensor_value_info(*one) for one in self.inputs]
        if ir_version < 4:
            values += [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
                for name, array in self.constants.items()
            ]
        ends = {self.last: shape or [1, CLASSES], **outputs}
        graph = helper.make_graph(
            self.nodes,
            "foreign",
            values,
            [
                helper.make_tensor_value_info(name, self.kind if self.kind in FLOATS else 1, end)
                for name, end in ends.items()
            ],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=ir_version)


FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


def logits(images: np.ndarray = IMAGES) -> np.ndarray:
    """What every graph here computes."""
    padded = np.pad(images.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    pooled = np.maximum(np.einsum("nchwij,ocij->nohw", patches, CONV), 0).mean(axis=(2, 3))
    scores: np.ndarray = pooled @ HEAD.T
    return scores


def imported(model: ModelProto, folder: Path, **arguments: Any) -> Imported:
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return import_onnx(path, **arguments)


def plain(opset: int = 13, **arguments: Any) -> Graph:
    return Graph(opset, **arguments).stem().add("Flatten", axis=1).head()


def _old() -> ModelProto:
    """Opset 7: attributes that later became inputs, or nothing."""
    graph = Graph(7).add("Pad", pads=[0, 0, 1, 1, 0, 0, 1, 1]).add("Conv", CONV, kernel_shape=[3, 3])
    graph.add("BatchNormalization", ONES, ZEROS, ZEROS, ONES, epsilon=0.0, spatial=1).add("Clip", min=0.0, max=1e9)
    graph.add("Upsample", scales=[1.0, 1.0, 2.0, 2.0], mode="nearest").add("GlobalAveragePool")
    return graph.add("Dropout", ratio=0.4).add("Flatten").head().model(ir_version=3)


def _channels_last() -> ModelProto:
    graph = Graph(batch="unk__1")
    graph.inputs = [("x:0", TensorProto.FLOAT, ["unk__1", HEIGHT, WIDTH, 3])]
    return graph.add("Transpose", perm=[0, 3, 1, 2]).stem().add("Flatten", axis=1).head().model(["unk__1", CLASSES])


def _class_token() -> ModelProto:
    """A constant of one image beside the image's tensor, and a target that names the batch."""
    graph = Graph().stem().add("Reshape", integers(1, 1, WIDE))
    image = graph.last
    graph.add("Expand", np.zeros((1, 1, WIDE), np.float32), integers(1, 1, WIDE), read=[])
    graph.add("Concat", read=[graph.last, image], axis=1).add("Reshape", integers(1, -1))
    graph.add("Slice", integers(WIDE), integers(2 * WIDE), integers(1))
    return graph.head().model()


def _pixels_first() -> ModelProto:
    """As attention is written: the batch stands behind the pixels, and is one with them before a product."""
    graph = Graph().add("Conv", CONV, pads=[1, 1, 1, 1]).add("Relu").add("Reshape", integers(1, WIDE, -1))
    graph.add("Transpose", perm=[2, 0, 1]).add("Reshape", integers(HEIGHT * WIDTH, WIDE)).add("MatMul", HEAD.T.copy())
    return graph.add("Reshape", integers(-1, 1, CLASSES)).add("ReduceMean", axes=[0], keepdims=0).model()


def _computed_shape() -> ModelProto:
    """A target that is computed from the shape of the tensor, as older exporters of other frameworks write it."""
    graph = Graph(11, batch="b").stem()
    pooled = graph.last
    graph.add("Shape").add("Slice", integers(0), integers(1)).add("Concat", integers(WIDE), axis=0)
    return graph.add("Reshape", read=[pooled, graph.last]).head().model(["b", CLASSES])


def _free_size() -> ModelProto:
    model = plain(batch="b").model(["b", CLASSES])
    for axis, name in ((2, "h"), (3, "w")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    return model


def _half() -> ModelProto:
    graph = plain(kind=TensorProto.FLOAT16)
    graph.constants = {name: array.astype(np.float16) for name, array in graph.constants.items()}
    return onnx.shape_inference.infer_shapes(graph.model())


def _dangling() -> ModelProto:
    graph = plain()
    graph.inputs.append(("scale_factor", TensorProto.FLOAT, [1, 2]))
    return graph.model()


def _names_taken() -> ModelProto:
    model = plain().model()
    for node in model.graph.node:
        node.output[:] = [
            {"Relu_1.tmp_0": "input", "Flatten_3.tmp_0": "output"}.get(name, name) for name in node.output
        ]
        node.input[:] = [{"Relu_1.tmp_0": "input", "Flatten_3.tmp_0": "output"}.get(name, name) for name in node.input]
    return model


def _four_at_a_time() -> ModelProto:
    return Graph(batch=4).stem().add("Reshape", integers(4, WIDE)).head().model([4, CLASSES])


def _newest() -> ModelProto:
    return plain(onnx.defs.onnx_opset_version(), batch="N").model(["N", CLASSES], ir_version=11)


# What is said of each, and what it must be told.
TAKEN: dict[str, tuple[Callable[[], ModelProto], str, dict[str, Any]]] = {
    "the exporter's form": (lambda: plain(18, batch="b").model(["b", CLASSES]), "", {}),
    "opset 7": (_old, "converted from opset 7 to 18", {}),
    "the newest opset": (_newest, "converted from opset", {}),
    "a fixed batch": (lambda: plain(11).model(), "its batch, fixed to 1, is freed", {}),
    "a batch of four": (_four_at_a_time, "its batch, fixed to 4, is freed", {}),
    "a batch in a target": (lambda: Graph().stem().add("Reshape", integers(1, -1)).head().model(), "is freed", {}),
    "whole targets": (lambda: Graph().stem().add("Reshape", integers(1, WIDE)).head().model(), "is freed", {}),
    "a class token": (_class_token, "is freed", {}),
    "pixels before the batch": (_pixels_first, "is freed", {}),
    "a computed target": (_computed_shape, "converted from opset 11", {}),
    "free height and width": (_free_size, "", {"size": (HEIGHT, WIDTH)}),
    "colours last": (_channels_last, "[batch, height, width, 3]", {}),
    "weights as inputs": (lambda: plain(9).model(ir_version=3), "converted from opset 9", {}),
    "an input that nobody reads": (_dangling, "'scale_factor', which no node reads, is left out", {}),
    "scores in a column": (
        lambda: Graph().stem().add("Conv", HEAD[:, :, None, None]).model([1, CLASSES, 1, 1]),
        "is freed",
        {},
    ),
    "softmax": (lambda: plain(11).add("Softmax", axis=1).model(), "(Softmax), is left out", {}),
    "softmax of opset 13": (lambda: plain().add("Softmax").model(), "(Softmax), is left out", {}),
    "softmax and what passes on": (
        lambda: plain().add("LogSoftmax").add("Identity").add("Reshape", integers(1, CLASSES)).model(),
        "(LogSoftmax), is left out",
        {},
    ),
    "fp16": (_half, "its fp16 values are computed with as fp32", {}),
    "our names inside": (_names_taken, "is freed", {}),
    "one of two outputs": (
        lambda: plain().model(**{"GlobalAveragePool_2.tmp_0": [1, WIDE, 1, 1]}),
        "of its 2 outputs 'Gemm_4.tmp_0' is taken",
        {"output": "Gemm_4.tmp_0"},
    ),
}


@pytest.mark.parametrize("case", TAKEN)
def test_a_foreign_graph_answers_as_it_did(case: str, tmp_path: Path) -> None:
    make, note, arguments = TAKEN[case]
    done = imported(make(), tmp_path, **arguments)
    assert (done.size, done.classes) == ((HEIGHT, WIDTH), CLASSES)
    assert note in "; ".join(done.notes)
    assert is_exported(done.model, (HEIGHT, WIDTH))
    session = open_session(done.model)
    for count in (1, 4):
        scores = session.run(["output"], {"input": IMAGES[:count]})[0]
        np.testing.assert_allclose(scores, logits()[:count], atol=2e-2 if case == "fp16" else 1e-5)
    shapes = tensor_shapes(done.model)
    assert all(name in shapes for node in done.model.graph.node if node.op_type == "Conv" for name in node.output)


def test_pixels_are_taken_as_they_are(tmp_path: Path) -> None:
    graph = Graph(kind=TensorProto.UINT8)
    model = graph.add("Cast", to=TensorProto.FLOAT).stem().add("Flatten", axis=1).head().model()
    raw = Preprocessing(HEIGHT, (HEIGHT, HEIGHT), mean=(0.0,) * 3, std=(1 / 255,) * 3)
    done = imported(model, tmp_path, preprocessing=raw)
    assert "its input is uint8" in done.notes[-1]
    pixels = np.random.default_rng(0).integers(0, 256, IMAGES.shape).astype(np.float32)
    scores = open_session(done.model).run(["output"], {"input": pixels - 1e-4})[0]
    np.testing.assert_allclose(scores, logits(pixels), rtol=1e-4, atol=1e-2)
    with pytest.raises(SettingsError, match=r"normalises them; write mean: \[0, 0, 0\], std: \[1, 1, 1\], scale"):
        imported(model, tmp_path, preprocessing=Preprocessing())


@pytest.mark.parametrize(
    ("mean", "std", "advice"),
    [
        ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "std: [1, 1, 1], scale: [0, 255]"),
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "mean: [0, 0, 0], std: [1, 1, 1]"),
    ],
)
def test_what_the_graph_does_to_values_is_said(tmp_path: Path, mean: Any, std: Any, advice: str) -> None:
    graph = Graph()
    for operator, values in (("Sub", mean), ("Div", std)):
        graph.add(operator, np.array(values, np.float32).reshape(1, 3, 1, 1))
    model = graph.stem().add("Flatten", axis=1).head().model()
    done = imported(model, tmp_path)
    if mean[0] > 1:  # normalised twice, every image is black
        with pytest.raises(SettingsError, match=r"but the preprocessing gives 2\.64 at most; write mean: \[0, 0, 0\]"):
            imported(model, tmp_path, preprocessing=Preprocessing())
    assert done.notes[-1].startswith("its first nodes (Sub, Div) normalise the image themselves, as mean ")
    assert f"{mean[0]:g}, {mean[1]:g}" in done.notes[-1] and done.notes[-1].endswith(advice)


def _node(operator: str, **attributes: Any) -> Callable[[], ModelProto]:
    return lambda: plain().add(operator, **attributes).model()


def _domain() -> ModelProto:
    model = plain().model()
    model.graph.node[1].domain = "com.microsoft"
    return model


def _two_images() -> ModelProto:
    graph = plain()
    graph.inputs.append(("im_info", TensorProto.FLOAT, [1, CLASSES]))
    return graph.add("Add", read=[graph.last, "im_info"]).model()


def _grey() -> ModelProto:
    graph = Graph()
    graph.inputs = [("x", TensorProto.FLOAT, [1, 1, HEIGHT, WIDTH])]
    graph.last = "x"
    return graph.add("Conv", CONV[:, :1]).add("GlobalAveragePool").add("Flatten").head().model()


def _mixing() -> ModelProto:
    """Subtracts the mean over the batch: an image's answer depends on the others."""
    graph = plain(batch="b")
    scores = graph.last
    graph.add("ReduceMean", axes=[0], keepdims=1)
    return (
        graph.add("Sub", read=[scores, graph.last])
        .add("Add", np.arange(CLASSES, dtype=np.float32))
        .model(["b", CLASSES])
    )


REFUSED: dict[str, tuple[Callable[[], ModelProto], str]] = {
    "opset 6": (lambda: plain(6).model(), "is of opset 6, expected 7 to"),
    "another domain": (_domain, r"node 'n1' \(Relu\) is of the domain 'com.microsoft'.*ONNX Runtime wrote it"),
    "an unknown operator": (_node("Cnov"), "Cnov"),
    "classes, no scores": (_node("ArgMax", axis=1), r"node 'n5' \(ArgMax\): it gives classes, not their scores"),
    "quantized": (_node("DynamicQuantizeLinear"), "it is quantized already: give the float graph"),
    "two inputs": (_two_images, r"read 2 inputs \(x:0, im_info\).*extract_model"),
    "grey images": (_grey, r"its input 'x' is \[1, 1, 12, 20\].*three channels here"),
    "no size": (_free_size, "height and width of its input 'x:0' are free; .* size, such as 224"),
    "a detector": (
        lambda: Graph().add("Conv", CONV, pads=[1] * 4).add("Reshape", integers(1, -1, 8)).model([1, 240, 8]),
        r"is \[240, 8\] for an image, expected a score for each class.*a detector's",
    ),
    "one score": (
        lambda: Graph().stem().add("Flatten").add("Gemm", HEAD[:1], transB=1).model([1, 1]),
        "one score; give it one for each",
    ),
    "two outputs": (
        lambda: plain().model(**{"Flatten_3.tmp_0": [1, WIDE]}),
        r"gives 2 outputs \(Gemm_4.tmp_0, Flatten_3.tmp_0\); say which has the scores, by output",
    ),
    "answers that depend on other images": (_mixing, "3 at a time it answers otherwise than alone"),
    "no batch": (
        lambda: plain().add("Squeeze").model([CLASSES]),
        r"is \[5\] for a batch of 1, expected \[1, classes\]",
    ),
    "in training": (
        lambda: (
            Graph(14).add("Conv", CONV).add("BatchNormalization", ONES, ZEROS, ZEROS, ONES, training_mode=1).model()
        ),
        "is in training mode",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_run_is_one_line(case: str, tmp_path: Path) -> None:
    make, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as error:
        imported(make(), tmp_path)
    assert "\n" not in str(error.value) and str(error.value).startswith(str(tmp_path / "net.onnx"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no graph .it is empty."),
        (b"hello", "is not an ONNX file, or is damaged; export it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "pointer of Git LFS"),
        (b"\x18\x00\x00\x00ORTM\x00\x00", "ONNX Runtime's own format"),
        (b"PK\x03\x04aaaa", "zip file, as torch.save writes"),
        (b"<!DOCTYPE html><html>", "a web page"),
    ],
)
def test_what_is_no_onnx_file_is_told_what_it_is(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        import_onnx(tmp_path / "net.onnx")


def test_a_size_that_the_graph_contradicts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="takes 12 x 20 pixels, but size is 20 x 12; leave size out"):
        imported(plain().model(), tmp_path, size=(WIDTH, HEIGHT))


def test_external_data_belong_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save_model(plain().model(), path, save_as_external_data=True, location="net.bin", size_threshold=0)
    assert files_of_onnx(path) == [path, tmp_path / "net.bin"]
    assert own_size(path, None) == (HEIGHT, WIDTH)
    scores = open_session(import_onnx(path).model).run(None, {"input": IMAGES})[0]
    np.testing.assert_allclose(scores, logits(), atol=1e-5)
    (tmp_path / "net.bin").unlink()
    with pytest.raises(ModelError, match=r"its external data cannot be taken.*belong beside the file"):
        import_onnx(path)
    with pytest.raises(ModelError, match=r"its weights stand in net\.bin, which is not beside it; copy it there"):
        own_size(path, None)


def test_work_and_weights_are_counted(tmp_path: Path) -> None:
    model = imported(plain().model(), tmp_path).model
    assert multiply_adds(model) == HEIGHT * WIDTH * CONV.size + HEAD.size
    assert parameter_count(model) == CONV.size + HEAD.size + CLASSES
    assert multiply_adds(imported(_pixels_first(), tmp_path).model) == HEIGHT * WIDTH * (CONV.size + HEAD.size)


@pytest.mark.parametrize(("name", "params"), [("squeezenet", 1235496), ("shufflenet", None)])
def test_old_graphs_of_the_onnx_package_are_taken(name: str, params: int | None) -> None:
    """Caffe2's of 2017: opset 9, format 3, batch 1, weights as inputs, softmax at the end."""
    path = Path(onnx.__file__).parent / f"backend/test/data/light/light_{name}.onnx"
    done = import_onnx(path)
    assert (done.size, done.classes) == ((224, 224), 1000)
    assert params is None or parameter_count(done.model) == params
