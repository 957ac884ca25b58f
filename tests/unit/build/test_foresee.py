from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from mnasbench.build.foresee import (
    KINDS,
    THRESHOLDS,
    EvenHistogram,
    Foresight,
    _least_divergent,
    compiled_as,
    foresee,
    kind_named,
)
from mnasbench.build.gate import agreement, logits_of, sqnr_db
from mnasbench.build.graph import constants, layers, prepare, with_constants
from mnasbench.build.plain_layers import with_plain_layers
from mnasbench.errors import SettingsError
from unit.build.nets import random_images, small_mnasnet

CALIBRATION, JUDGED = random_images(32, seed=1), random_images(64, seed=2)


def calibration() -> Iterator[np.ndarray]:
    return iter(np.split(CALIBRATION, 4))


def judged() -> Iterator[np.ndarray]:
    return iter(np.split(JUDGED, 4))


def even(values: np.ndarray) -> EvenHistogram:
    histogram = EvenHistogram(float(np.abs(values).max()))
    for part in np.array_split(values.astype(np.float32), 3):
        histogram.add(part)
    return histogram


def one_layer(weight: np.ndarray, bias: np.ndarray) -> ModelProto:
    """A pointwise convolution and a classifier of all that it gives; input (n, 3, 3, 3), 4 logits."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["y"], kernel_shape=[1, 1]),
        helper.make_node("Relu", ["y"], ["z"]),
        helper.make_node("Flatten", ["z"], ["u"]),
        helper.make_node("Gemm", ["u", "v", "c"], ["logits"], transB=1),
    ]
    second = np.random.default_rng(5).normal(size=(4, 9 * len(weight)))
    held = {"w": weight, "b": bias, "v": second, "c": np.arange(4.0)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 3, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in held.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def uneven(model: ModelProto) -> ModelProto:
    """The same function, its hidden channels scaled apart: each layer before a ReLU, and back in the next."""
    prepared = prepare(model)
    first, second = layers(prepared)[:2]
    held = constants(prepared)
    factors = 10.0 ** np.linspace(-2, 2, len(held[first.input[2]]))
    changed = {
        first.input[1]: held[first.input[1]] * factors[:, None, None, None],
        first.input[2]: held[first.input[2]] * factors,
        second.input[1]: held[second.input[1]]
        / (factors[:, None, None, None] if held[second.input[1]].shape[1] == 1 else factors[:, None, None]),
    }
    return with_constants(prepared, changed)


def signed(values: np.ndarray, limit: np.ndarray | float) -> np.ndarray:
    """TVM's simulated quantization of 8 bits: a threshold is 128 steps, codes end at 127."""
    scale = np.asarray(limit) / 128
    return np.clip(np.rint(values / scale), -127, 127) * scale


@pytest.mark.parametrize(("name", "per_channel"), [("symmetric", True), ("per-tensor", False)])
def test_a_symmetric_kind_is_tvms_arithmetic(name: str, per_channel: bool) -> None:
    random = np.random.default_rng(0)
    weight, bias = random.normal(size=(5, 3, 1, 1)) * 2.0 ** np.arange(5)[:, None, None, None], random.normal(size=5)
    model, images = one_layer(weight, bias), random.normal(size=(8, 3, 3, 3)).astype(np.float32)
    graph = Foresight(model, lambda: iter([images])).compiled(kind_named(name), "max")
    held = constants(model)

    def by_channel(value: np.ndarray) -> np.ndarray:
        largest = np.abs(value).max(axis=tuple(range(1, value.ndim)), keepdims=True)
        return largest if per_channel else largest.max()

    def hidden(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        return np.maximum(np.einsum("nchw,oc->nohw", x, w[:, :, 0, 0]) + bias[:, None, None], 0)

    limit = hidden(images, held["w"]).max()
    x, w, v = signed(images, np.abs(images).max()), *(signed(held[n], by_channel(held[n])) for n in ("w", "v"))
    expected = signed(hidden(x, w), limit).reshape(8, -1) @ v.T + held["c"]
    # QuantizeLinear has a step -128, which TVM has not; a value of the images may lie there.
    assert sqnr_db(expected, logits_of(graph, images)) > 55
    assert sqnr_db(expected, logits_of(model, images)) < 45


def test_the_asymmetric_kind_answers_as_onnx_runtimes_own_quantizer(tmp_path: Path) -> None:
    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest = calibration()

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.rest, None)
            return None if batch is None else {"input": batch}

    prepared = with_plain_layers(prepare(small_mnasnet()))
    onnx.save(prepared, tmp_path / "float.onnx")
    types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(
        tmp_path / "float.onnx",
        tmp_path / "int8.onnx",
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]},  # logits stay float, as here
        **types,
    )
    theirs = logits_of(onnx.load(tmp_path / "int8.onnx"), JUDGED)
    own = logits_of(Foresight(small_mnasnet(), calibration).compiled(kind_named("asymmetric"), "max"), JUDGED)
    original = logits_of(prepared, JUDGED)
    assert sqnr_db(original, theirs) == pytest.approx(sqnr_db(original, own), abs=1.5)
    assert agreement(theirs, own) > 95


def test_percentile_is_tvms() -> None:
    values = np.random.default_rng(0).normal(size=200_000) ** 3
    exact = np.partition(np.abs(values), int(values.size * 0.99999))[int(values.size * 0.99999)]
    assert THRESHOLDS["percentile"](even(values)) == pytest.approx(exact, abs=even(values).width)


def test_max_is_the_largest_magnitude() -> None:
    assert THRESHOLDS["max"](even(np.array([-3.0, 1.0]))) == 3


def test_mse_is_the_best_of_all_candidates() -> None:
    values = np.random.default_rng(0).standard_t(2, size=20_000)
    limits = np.abs(values).max() * np.arange(1, 129) / 128
    best = min(limits, key=lambda limit: np.square(signed(values, limit) - values).sum())
    errors = [np.square(signed(values, limit) - values).sum() for limit in (THRESHOLDS["mse"](even(values)), best)]
    assert errors[0] <= 1.02 * errors[1]


def divergences(counts: np.ndarray, levels: int) -> list[float]:
    """KL of every candidate, written as MXNet's and TVM's function goes, bin by bin."""
    middle, results = len(counts) // 2, []

    def smooth(p: np.ndarray) -> np.ndarray | None:
        empty = p == 0
        if empty.all() or 1e-4 * empty.sum() / (~empty).sum() >= 1:
            return None
        return np.where(empty, 1e-4, p - 1e-4 * empty.sum() / (~empty).sum())

    for reach in range(levels // 2, middle + 1):
        first, stop = middle - reach, middle + reach + 1
        inside = counts[first:stop].astype(float)
        inside[0] = 0
        p = counts[first:stop].astype(float)
        p[0], p[-1] = counts[: first + 1].sum(), counts[stop - 1 :].sum()
        q, merged = np.zeros(len(p)), len(p) // levels
        for level in range(levels):
            part = slice(level * merged, len(p) if level == levels - 1 else (level + 1) * merged)
            if np.count_nonzero(inside[part]):
                q[part] = np.where(p[part] != 0, inside[part].sum() / np.count_nonzero(inside[part]), 0)
        p_smooth, q_smooth = smooth(p), smooth(q)
        if p_smooth is None or q_smooth is None:
            results.append(np.inf)
            continue
        p_smooth, q_smooth = p_smooth / p_smooth.sum(), q_smooth / q_smooth.sum()
        results.append(float(p_smooth @ np.log(p_smooth / q_smooth)))
    return results


@pytest.mark.parametrize("seed", range(4))
def test_kl_is_the_least_of_all_candidates(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.standard_t(3, size=3000) if seed % 2 else np.maximum(random.normal(size=3000), 0)
    counts = np.histogram(values, 301, (-np.abs(values).max(), np.abs(values).max()))[0]
    reach = _least_divergent(counts, 31) - 0.5
    every = divergences(counts, 31)
    assert every[int(reach) - 15] == pytest.approx(min(every), abs=1e-9)


def test_kl_keeps_what_is_even_and_clips_a_long_tail() -> None:
    random = np.random.default_rng(0)
    flat = random.uniform(-1, 1, 100_000)
    assert THRESHOLDS["kl_divergence"](even(flat)) > 0.9
    assert THRESHOLDS["kl_divergence"](even(np.append(random.normal(size=100_000), 40.0))) < 20


def test_a_tensor_of_zeros_has_a_threshold() -> None:
    for mode, threshold in THRESHOLDS.items():
        assert threshold(even(np.zeros(9))) == 0, mode


def test_every_kind_and_mode_is_foreseen_and_a_hard_net_is_foreseen_to_fail() -> None:
    rows = foresee(small_mnasnet(), calibration, judged, labels=[0] * 64)
    assert [(row.kind, row.mode) for row in rows] == [(k.name, mode) for k in KINDS.values() for mode in k.modes]
    assert all(np.isfinite(row.sqnr_db) and 0 <= (row.top1 or 0) <= 100 for row in rows)
    easy = {(row.kind, row.mode): row.sqnr_db for row in rows}
    for row in foresee(uneven(small_mnasnet()), calibration, judged, kinds=["asymmetric", "power-of-two"]):
        assert row.sqnr_db < easy[row.kind, row.mode] - 3, row


def test_a_layers_own_loss_is_its_alone() -> None:
    foresight, kind = Foresight(small_mnasnet(), calibration), kind_named("per-tensor")
    losses = foresight.losses(kind, "max", JUDGED[:8])
    assert list(losses.values()) == sorted(losses.values())
    names = [node.name for node in layers(foresight.model)]
    assert sorted(losses) == sorted(names)
    # The first layer by itself: rounded weights on the rounded image.
    first = layers(foresight.model)[0]
    worse = with_constants(foresight.model, {first.input[1]: constants(foresight.model)[first.input[1]] + 0.5})
    changed = Foresight(worse, calibration).losses(kind, "max", JUDGED[:8])
    assert changed[first.name] != losses[first.name]


def test_layers_left_in_float_lose_nothing() -> None:
    foresight, kind = Foresight(small_mnasnet(), calibration), kind_named("symmetric")
    every = [node.name for node in layers(foresight.model)]
    original = logits_of(foresight.model, JUDGED)
    assert sqnr_db(original, logits_of(foresight.compiled(kind, "max", every), JUDGED)) > 100
    whole, partly = (
        sqnr_db(original, logits_of(foresight.compiled(kind, "max", kept), JUDGED)) for kept in ((), every[:3])
    )
    assert partly > whole


def test_an_unknown_kind_or_mode_is_named() -> None:
    with pytest.raises(SettingsError, match="did you mean 'symmetric'"):
        kind_named("symetric")
    with pytest.raises(SettingsError, match="power-of-two has no mode 'mse'"):
        Foresight(small_mnasnet(), calibration).compiled(kind_named("power-of-two"), "mse")


def test_as_a_card_would_run_it_per_channel_is_what_is_asked() -> None:
    both = [
        logits_of(compiled_as(small_mnasnet(), calibration, "percentile", per_channel=p), JUDGED) for p in (True, False)
    ]
    assert not np.array_equal(*both)
