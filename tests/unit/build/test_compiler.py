from collections.abc import Iterator

import numpy as np
import pytest
from onnx import ModelProto

from mnasbench.build import compiler, gate
from mnasbench.build.bounds import FREE, bounds
from mnasbench.build.compiler import Built, Recipe, compile_model
from mnasbench.build.gate import check_answers, check_exact, check_levels, check_operators, logits_of, sqnr_db
from mnasbench.build.graph import constants, layers, macs_by_layer, prepare, with_constants
from mnasbench.build.mixed import Int8, Mixed, _steps
from mnasbench.build.quantize import FULL_STEPS, REDUCED_STEPS, quantized_tensors, weight_scales, write_qdq
from mnasbench.build.ranges import Range
from mnasbench.build.sensitivity import sensitivities
from mnasbench.build.sequential import Corrected
from mnasbench.errors import BuildError, DatasetError, ModelError, SettingsError
from mnasbench.precisions import PRECISIONS
from mnasbench.progress import SILENT
from mnasbench.runtimes import RUNTIMES
from mnasbench.runtimes.base import InputFormat
from mnasbench.runtimes.onnxruntime import Level, optimized
from unit.build.nets import CEILING, SIZE, Net, random_images, small_mnasnet

CALIBRATION, UNSEEN = random_images(64, seed=1), random_images(200, seed=2)


def batches() -> Iterator[np.ndarray]:
    return iter(np.split(CALIBRATION, 8))


def compiled(precision: str = "int8-max", model: ModelProto | None = None, **recipe: object) -> Built:
    return compile_model(model or small_mnasnet(), precision, batches, Recipe(**recipe))  # type: ignore[arg-type]


def quality(made: Built, model: ModelProto | None = None) -> float:
    return sqnr_db(logits_of(model or small_mnasnet(), UNSEEN), logits_of(made.model, UNSEEN))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_each_precision_gives_the_same_bytes_twice(precision: str) -> None:
    first, second = compiled(precision), compiled(precision)
    assert first.model.SerializeToString(deterministic=True) == second.model.SerializeToString(deterministic=True)
    assert (first.quantization, first.layers) == (second.quantization, second.layers)


@pytest.mark.parametrize("precision", ("int8-percentile", "int8-max", "int8-mse"))
def test_int8_stays_near_fp32(precision: str) -> None:
    assert quality(compiled(precision)) > 30


@pytest.mark.parametrize("step", ("equalize", "gptq", "correct_bias"))
def test_each_step_brings_something_back(step: str) -> None:
    without = np.mean([quality(compiled(model=small_mnasnet(s), **{step: False}), small_mnasnet(s)) for s in range(3)])
    complete = np.mean([quality(compiled(model=small_mnasnet(s)), small_mnasnet(s)) for s in range(3)])
    assert complete > without


def test_per_channel_weights_are_better_than_one_scale_a_tensor() -> None:
    made = compiled(per_channel=False)
    scales = {n: v for n, v in constants(made.model).items() if n.endswith("conv_04.weight_scale")}
    assert all(np.unique(value).size == 1 for value in scales.values()) and scales
    assert quality(compiled()) > quality(made)


def test_every_convolution_runs_in_int8() -> None:
    made = compiled()
    operators = made.quantization["operators"]
    assert operators["QLinearConv"] == 10
    assert not {"Conv", "FusedConv", "DequantizeLinear"} & set(operators)


@pytest.mark.parametrize("layers", (("conv_05",), (4,)))
def test_a_float_layer_is_float_to_the_last_bit_of_its_weights(layers: tuple[str | int, ...]) -> None:
    made = compiled(float_layers=layers, equalize=False)
    assert made.quantization["float_layers"] == ["conv_05"]
    assert made.quantization["operators"]["QLinearConv"] == 9
    final = optimized(made.model, "extended")
    original = constants(prepare(small_mnasnet()))["conv_05.weight"]
    assert any(value.shape == original.shape and np.array_equal(value, original) for value in constants(final).values())
    rows = {row["layer"]: row for row in made.layers}
    assert rows["conv_05"]["precision"] == "fp32" and rows["conv_05"]["weight_sqnr_db"] is None


@pytest.mark.parametrize("layers", (("conv_5",), (10,), (-1,)))
def test_an_unknown_float_layer_is_an_error(layers: tuple[str | int, ...]) -> None:
    with pytest.raises(SettingsError, match="conv"):
        compiled(float_layers=layers)


def test_reduced_range_leaves_seven_bits_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "sums_int8_exactly", lambda: False)
    made = compiled()
    largest = max(
        np.abs(v.astype(int)).max() for n, v in constants(made.model).items() if n.endswith("weight_quantized")
    )
    assert largest == REDUCED_STEPS
    assert "VNNI" in made.quantization["notes"][0]
    monkeypatch.setattr(compiler, "sums_int8_exactly", lambda: True)
    full = compiled()
    largest = max(
        np.abs(v.astype(int)).max() for n, v in constants(full.model).items() if n.endswith("weight_quantized")
    )
    assert largest == FULL_STEPS and not full.quantization["notes"]


def test_a_budget_puts_layers_back_until_it_holds() -> None:
    crude = {"equalize": False, "gptq": False, "correct_bias": False, "per_channel": False, "headroom": 400.0}
    assert compiled(max_drop=100.0, **crude).quantization["budget"]["put_back"] == []
    made = compiled(max_drop=0.0, **crude)
    budget = made.quantization["budget"]
    assert budget["drop"] == 0 and budget["images"] == 12
    assert budget["put_back"] and set(budget["put_back"]) <= set(made.quantization["float_layers"])
    assert made.quantization["float_macs_share"] > 0
    assert set(budget["put_back"]) <= {n for n, why in made.quantization["float_reasons"].items() if why == "budget"}
    front = made.quantization["front"]
    kept = next(point for point in front if point["kept"])
    assert kept["layers"] == len(budget["put_back"]) and kept["agreement"] == 100
    assert all(point["agreement"] < 100 for point in front if point["layers"] < kept["layers"])


def test_of_layers_that_cost_as_much_those_go_back_first_that_are_as_fast_in_float(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = prepare(small_mnasnet())
    names = [node.name for node in layers(model)]
    monkeypatch.setattr("mnasbench.build.mixed.sensitivities", lambda *given: dict.fromkeys(names, 20.0))
    made = Int8(ModelProto(), Corrected({}, {}, []), {}, frozenset({"conv_02"}))

    def seconds(graph: ModelProto, images: np.ndarray) -> dict[str, float]:
        return {name: 1.0 + number if graph is model else 1.0 for number, name in enumerate(names)}

    for of, expected in ((seconds, names), (None, sorted(names, key=macs_by_layer(model).__getitem__))):
        mixed = Mixed(model, frozenset(), lambda floats: made, CALIBRATION, SILENT, of)
        ranked, shares = mixed._ranked(made)
        assert ranked == [name for name in expected if name != "conv_02"] and np.allclose(shares, 1 / len(ranked))


def test_the_best_model_is_kept_where_no_choice_of_layers_keeps_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnasbench.build.mixed.agreement", lambda reference, logits: 90.0)
    quantization = compiled(max_drop=1.0).quantization
    assert quantization["budget"]["drop"] == 10 and quantization["budget"]["put_back"] == []
    assert any(note.startswith("the budget is not kept: 10.00 points") for note in quantization["notes"])


def test_each_step_takes_half_of_the_error_that_is_left_and_the_last_takes_all() -> None:
    assert _steps([0.6, 0.2, 0.1, 0.05, 0.05]) == [1, 2, 3, 4, 5]
    assert _steps([0.25] * 4) == [2, 3, 4] and _steps([1.0, 0.0]) == [1, 2] and _steps([]) == []


def test_with_every_layer_in_float_everything_is() -> None:
    made = compiled(float_layers=(*(f"conv_{i:02d}" for i in range(1, 11)), "gemm_01"))
    assert quality(made) > 100
    assert not {"QLinearConv", "QLinearAdd", "QuantizeLinear"} & set(made.quantization["operators"])


@pytest.mark.parametrize("activation", ("Relu", "BatchNormalization"))
def test_behind_a_concat_one_pair_of_quantizations_stands_alone(activation: str) -> None:
    net = Net(0)
    x = net.add("Concat", *(net.conv("input", 3, 8, 3) for _ in range(2)), axis=1)
    ones = [] if activation == "Relu" else [net.constant(np.full(16, value, np.float32)) for value in (2, 1, 0, 1)]
    model = net.model(net.add("Relu", net.conv(net.add(activation, x, *ones), 16, 16, 3)), 16)
    made = compiled(model=model, gates_are_fused=True)
    assert quality(made, model) > 30
    counts = made.quantization["operators"]
    assert "Relu" not in counts and ("QLinearConcat" in counts) == (activation == "Relu")
    session = RUNTIMES["openvino"].open(made.model, InputFormat("input", (SIZE, SIZE), None), batch=8)
    check_answers(prepare(model), made.model, session, CALIBRATION[:8], "OpenVINO")


def test_rows_name_every_layer_with_its_error() -> None:
    rows = compiled(headroom=-32.0).layers
    assert [row["layer"] for row in rows] == [*(f"conv_{i:02d}" for i in range(1, 11)), "gemm_01"]
    assert all(row["weight_sqnr_db"] > 30 for row in rows)
    for row in rows[:-1]:
        assert row["range_low"] <= 0 < row["range_high"]
        assert row["saturated_channels"] > 0 and 0 < row["clipped_share"] < 0.5
    assert rows[-1]["range_high"] is None
    assert all(row["clipped_share"] == 0 for row in compiled().layers[:-1])


def test_the_most_damaged_layer_is_the_most_sensitive() -> None:
    model = prepare(small_mnasnet())
    weights = {name: value for name, value in constants(model).items() if name.endswith(".weight")}
    weights["conv_06.weight"] = weights["conv_06.weight"] + 0.3
    found = sensitivities(model, weights, {"conv_03": Range(-8.0, 8.0)}, UNSEEN[:16])
    assert next(iter(found)) == "conv_06"
    assert found["conv_05"] == float("inf") > found["conv_03"]


@pytest.mark.parametrize("activation", ("SiLU", "Clip", "Sigmoid", "HardSwish", "LeakyRelu"))
def test_other_activations_build(activation: str) -> None:
    model = small_mnasnet(activation=activation)
    assert quality(compiled("int8-percentile", model), model) > 20


def test_a_channel_of_tiny_weights_keeps_its_constant() -> None:
    model = small_mnasnet()
    values = constants(model)
    names = next(node.input[1:3] for node in model.graph.node if node.op_type == "Conv" and len(node.input) == 3)
    weight, bias = (values[name].copy() for name in names)
    weight[:3], bias[:3] = 1e-9, 1.0
    tiny = with_constants(model, dict(zip(names, (weight, bias), strict=True)))
    for recipe in ({}, {"equalize": False}, {"equalize": False, "per_channel": False}):
        assert quality(compiled(model=tiny, **recipe), tiny) > quality(compiled(model=model, **recipe), model) - 4


@pytest.mark.parametrize("place", [0, 1, 2])  # a full, a depthwise and a pointwise Conv
def test_a_channel_without_weights_keeps_its_constant(place: int) -> None:
    model = small_mnasnet()
    values = constants(model)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    weight, bias = (values[name].copy() for name in convolutions[place].input[1:3])
    weight[:3], bias[:3] = 0, 1.0
    pruned = with_constants(model, dict(zip(convolutions[place].input[1:3], (weight, bias), strict=True)))
    assert quality(compiled(model=pruned, equalize=False), pruned) > 40


def test_headroom_ends_at_the_ceiling_of_a_clip() -> None:
    net = small_mnasnet(activation="Clip")
    made = compiled("int8-max", net, headroom=64.0)
    rows = {row["layer"]: row for row in made.layers}
    assert rows["conv_05"]["range_high"] == CEILING  # behind it stands a Clip


def test_an_int8_model_of_no_use_goes_back_to_float_and_says_so() -> None:
    crude = {"equalize": False, "gptq": False, "correct_bias": False, "per_channel": False, "headroom": 1e5}
    made = compiled(**crude)
    assert quality(made) > 10 and made.quantization["float_layers"]
    assert any("put back to float" in note for note in made.quantization["notes"])
    assert made.quantization["kept"]["agreement"] > 80


def test_no_images_and_unknown_precisions_are_errors() -> None:
    with pytest.raises(DatasetError, match="no image"):
        compile_model(small_mnasnet(), "int8-max", lambda: iter(()))
    with pytest.raises(SettingsError, match="int8-max needs"):
        compile_model(small_mnasnet(), "int8-max", None)
    with pytest.raises(SettingsError, match="did you mean 'int8-percentile'"):
        compile_model(small_mnasnet(), "int8-percentil", batches)
    with pytest.raises(SettingsError, match="held out"):
        compile_model(small_mnasnet(), "int8-max", lambda: iter([CALIBRATION[:4]]), Recipe(max_drop=1.0))


def test_weights_that_are_no_numbers_are_an_error() -> None:
    model = small_mnasnet()
    name = model.graph.initializer[0].name
    broken = with_constants(model, {name: np.full_like(constants(model)[name], np.nan)})
    with pytest.raises(ModelError, match="finite"):
        compiled(model=broken)


def _plain_int8(model: ModelProto) -> ModelProto:
    limits = bounds(model)
    ranges = {name: Range(max(-8.0, limits.get(name, FREE)[0]), 8.0) for name in quantized_tensors(model)}
    values = constants(model)
    scales = {
        node.input[1]: weight_scales(node, values[node.input[1]], FULL_STEPS, per_channel=True)
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm")
    }
    return write_qdq(model, ranges, scales)


def test_the_gate_refuses_a_step_that_was_not_exact() -> None:
    logits = logits_of(small_mnasnet(), UNSEEN[:8])
    assert check_exact(logits, logits * (1 + 1e-6), "a step") < gate.EXACT
    for changed in (logits * 1.001, np.full_like(logits, np.nan)):
        with pytest.raises(BuildError, match="a step"):
            check_exact(logits, changed, "a step")


def test_the_gate_refuses_a_convolution_that_runs_in_another_precision() -> None:
    model = prepare(small_mnasnet())
    assert check_operators(model, _plain_int8(model), ())["QLinearConv"] == 10
    for graph, floats in ((model, ()), (_plain_int8(model), ("conv_02",))):
        with pytest.raises(BuildError, match="expected"):
            check_operators(model, graph, floats)


def test_the_gate_refuses_kernels_that_saturate(monkeypatch: pytest.MonkeyPatch) -> None:
    quantized, images = compiled().model, UNSEEN[:16]
    reference = logits_of(small_mnasnet(), images)
    assert check_levels(quantized, images, reference) > 25

    def saturating(graph: ModelProto, given: np.ndarray, level: Level = "all") -> np.ndarray:
        logits = logits_of(graph, given, level)
        return logits.clip(logits.min() / 2, logits.max() / 2) if level == "all" else logits

    monkeypatch.setattr(gate, "logits_of", saturating)
    with pytest.raises(BuildError, match="saturate"):
        check_levels(quantized, images, reference)
