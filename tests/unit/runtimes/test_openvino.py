import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto

from mnasbench.build.compiler import Recipe, compile_model
from mnasbench.build.gate import check_answers, check_as_run, logits_of, sqnr_db
from mnasbench.build.graph import prepare
from mnasbench.data.preprocess import normalise
from mnasbench.errors import BuildError, ModelError, ToolError
from mnasbench.preprocessing import Preprocessing
from mnasbench.runtimes import RUNTIMES
from mnasbench.runtimes.base import InputFormat, OperatorCounts, Session
from unit.build.nets import SIZE, random_images, small_mnasnet

IMAGES = random_images(24, seed=3)
FORMAT = InputFormat("input", (SIZE, SIZE), None)


@pytest.fixture(scope="module")
def graph() -> ModelProto:
    """An int8 graph as the compiler leaves it."""
    return compile_model(small_mnasnet(), "int8-max", lambda: iter([IMAGES]), Recipe()).model


def loaded(graph: ModelProto | Path, threads: int = 1, batch: int = 8) -> Session:
    return RUNTIMES["openvino"].open(graph, FORMAT, threads, batch)


def test_a_model_for_a_missing_openvino_says_what_to_do(graph: ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "openvino.preprocess", raising=False)
    with pytest.raises(ToolError, match="install it, or build the model with runtime onnxruntime"):
        loaded(graph)


def test_a_second_session_that_is_refused_is_one_line(graph: ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded(graph)

    class Refusing:
        def import_model(self, *_: object) -> None:
            raise RuntimeError("no room\nat all")

    monkeypatch.setattr(model, "_core", Refusing())
    with pytest.raises(ModelError, match="cannot load the graph a second time"):
        model.another()


def test_answers_are_as_near_to_fp32_as_onnx_runtimes(graph: ModelProto) -> None:
    reference = logits_of(prepare(small_mnasnet()), IMAGES)
    answers = np.concatenate([loaded(graph).infer(IMAGES[i : i + 8]) for i in range(0, len(IMAGES), 8)])
    assert sqnr_db(reference, answers) > sqnr_db(reference, logits_of(graph, IMAGES)) - 1


@pytest.mark.parametrize(("threads", "batch"), [(2, 8), (1, 1), (1, 5), (1, 24)])
def test_neither_threads_nor_batches_change_a_score(graph: ModelProto, threads: int, batch: int) -> None:
    expected = loaded(graph, batch=3).infer(IMAGES[:3])
    np.testing.assert_array_equal(loaded(graph, threads, batch).infer(IMAGES[:batch])[:3], expected[:batch])
    np.testing.assert_array_equal(loaded(graph, threads, batch).infer(IMAGES[:2]), expected[:2])


@pytest.mark.parametrize("batch", [8, 24])
def test_another_of_a_model_gives_the_same_scores_beside_it(graph: ModelProto, batch: int) -> None:
    first = loaded(graph)
    twin = first.another()
    one, other = IMAGES[:batch], IMAGES[::-1][:batch]
    with ThreadPoolExecutor(2) as pool:
        found = pool.submit(first.infer, one), pool.submit(twin.infer, other)
    np.testing.assert_array_equal(found[0].result(), loaded(graph).infer(one))
    np.testing.assert_array_equal(found[1].result(), loaded(graph).infer(other))


def test_pixels_are_normalised_as_the_preprocessing_says(graph: ModelProto) -> None:
    preprocessing = Preprocessing(resize=SIZE, crop=SIZE, mean=(0.4, 0.5, 0.6), std=(0.3, 0.2, 0.1))
    pixels = np.random.default_rng(0).integers(0, 256, (8, 3, SIZE, SIZE), dtype=np.uint8)
    model = prepare(small_mnasnet())
    session = RUNTIMES["openvino"].open(model, FORMAT, 1, 8, preprocessing)
    assert session.format.pixels and session.format.dtype == "uint8"
    assert sqnr_db(loaded(model).infer(normalise(pixels, preprocessing)), session.infer(pixels)) > 80
    of_int8 = RUNTIMES["openvino"].open(graph, FORMAT, 1, 8, preprocessing)
    assert of_int8.format.interleaved and of_int8.format.shape == (SIZE, SIZE, 3)


def test_the_gate_takes_what_openvino_runs_well(graph: ModelProto) -> None:
    model = prepare(small_mnasnet())
    convs = sum(node.op_type == "Conv" for node in model.graph.node)
    for made, int8_convs in ((graph, convs), (model, 0)):
        session = loaded(made)
        check_answers(model, made, session, IMAGES, "OpenVINO")
        assert (
            check_as_run(session, int8_convs, convs - int8_convs, "OpenVINO").float_convolutions == convs - int8_convs
        )


@pytest.mark.parametrize(("int8", "floats", "passes"), [(9, 1, True), (8, 1, True), (8, 2, False), (10, 0, False)])
def test_a_layer_may_vanish_and_not_change_its_precision(
    graph: ModelProto, int8: int, floats: int, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = loaded(graph)
    monkeypatch.setattr(session, "count_operators", lambda: OperatorCounts(int8, floats, int8, floats))
    with nullcontext() if passes else pytest.raises(BuildError, match=r"expected 9; .* expected 1"):
        check_as_run(session, 9, 1, "OpenVINO")


def test_the_gate_refuses_wrong_answers_and_layers_in_fp32(graph: ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    model = prepare(small_mnasnet())
    with pytest.raises(BuildError, match="runs 0 convolutions in int8, expected 9"):
        check_as_run(loaded(model), 9, 1, "OpenVINO")
    session = loaded(graph)
    monkeypatch.setattr(session, "infer", lambda tensor: np.zeros((len(tensor), 10), np.float32))
    with pytest.raises(BuildError, match="dB from fp32, expected at least"):
        check_answers(model, graph, session, IMAGES, "OpenVINO")


def test_a_file_that_is_no_graph_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(b"\x08\x07 nothing")
    with pytest.raises(ModelError, match="OpenVINO cannot load it"):
        loaded(tmp_path / "cut.onnx")
