"""A model is not run where its answers would be wrong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mnasbench.errors import ModelError
from mnasbench.preprocessing import Preprocessing
from mnasbench.run import session
from mnasbench.run.inputs import Preprocessor, synthetic_images
from mnasbench.run.session import ModelSession
from mnasbench.runtimes import RUNTIMES
from small_classifier import float_classifier, package, quantized


@pytest.mark.parametrize(("reduced", "exact"), [(False, True), (True, False), (True, True)])
def test_a_model_runs_where_its_sums_are_exact(compiled, monkeypatch, reduced: bool, exact: bool):
    monkeypatch.setattr(session, "sums_int8_exactly", lambda: exact)
    ModelSession(replace(compiled, info={**compiled.info, "quantization": {"reduce_range": reduced}}))


@pytest.mark.parametrize("model", ["compiled", "compiled_for_openvino"])
def test_a_model_of_a_cpu_with_vnni_is_refused_where_its_sums_saturate(model, monkeypatch, request):
    compiled = request.getfixturevalue(model)
    monkeypatch.setattr(session, "sums_int8_exactly", lambda: False)
    with pytest.raises(ModelError, match="saturate on this CPU"):
        ModelSession(replace(compiled, info={**compiled.info, "quantization": {"reduce_range": False}}))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_model_is_run_in_the_precision_it_was_built_in(runtime: str, tmp_path: Path):
    model = float_classifier()
    convs = [node.name for node in model.graph.node if node.op_type == "Conv"]
    session = ModelSession(package(tmp_path, quantized(model, tmp_path, convs[4:6]), runtime))
    counts = session.another().count_operators()
    assert (counts.int8_convolutions, counts.float_convolutions) == (len(convs) - 2, 2)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_input_that_is_not_square_is_run_as_it_stands(runtime: str, tmp_path: Path):
    """Bytes that a runtime takes as they are give the answers of the plain tensor."""
    compiled = package(tmp_path, quantized(float_classifier((16, 48)), tmp_path), runtime)
    params, images = Preprocessing(resize=(20, 60), crop=(16, 48)), synthetic_images((3, 16, 48), 3)
    plain, fast = ModelSession(compiled), ModelSession(compiled, pixels=params)
    scores = [one.infer(Preprocessor(params, one.format)(images)) for one in (plain, fast)]
    assert plain.format.size == (16, 48) and scores[0].shape == (3, 10)
    np.testing.assert_array_equal(*scores)
