"""The settings and arguments of each step, and that steps, rules and names say the same."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from mnasbench.errors import ModelError, SettingsError
from mnasbench.plan import names
from mnasbench.plan.inputs import Inputs
from mnasbench.plan.shards import split
from mnasbench.plan.steps import STEPS, accuracy_sessions
from mnasbench.settings import Settings, load_settings
from readers import tiny_onnx

RULE = re.compile(r"^rule (\w+):\n(.*?)(?=^(?:rule|for|localrules)\b|\Z)", re.MULTILINE | re.DOTALL)


def _settings(**changed: Any) -> Settings:
    values: dict[str, Any] = {"models": {"m": {"name": "mnasnet0_5"}}, "precisions": ["fp32", "int8-max"]}
    return split(load_settings(values | changed), 1000)


CARD = {"engine": "vacc", "vamp": {"instances": 8}, "vacc": {"hwconfig": "hw.json"}}


def _rules(repository: Path) -> dict[str, str]:
    files = set((repository / "workflow/rules").glob("*.smk")) - {repository / "workflow/rules/common.smk"}
    texts = "\n".join(path.read_text() for path in sorted(files))
    return dict(RULE.findall(texts))


def test_every_rule_has_its_step_and_asks_whether_it_is_current(repository: Path) -> None:
    rules = _rules(repository)
    assert set(rules) == set(STEPS)
    for name, text in rules.items():
        assert f'current=get_current("{name}"),' in text and f'**get_step("{name}"),' in text, name
        assert "lambda" not in text, name
        assert re.search(r'receipt=f?"results/|receipt=f"{DATA}/', text), name


def test_every_script_is_there() -> None:
    settings = _settings()
    words = {"variant": "m", "precision": "fp32", "shard": "0", "geometry": "original", "name": "x", "size": "224"}
    for name, step in STEPS.items():
        wildcards = {key: words[key] for key in step.__code__.co_varnames[1 : step.__code__.co_argcount]}
        described = step(settings, **wildcards)
        assert described.script_file.is_file(), name
        assert json.loads(described.settings_text) == json.loads(json.dumps(described.settings))
        assert all(isinstance(word, str) for word in (*described.arguments, *described.command)), name


def test_names_are_those_that_the_rules_declare(repository: Path) -> None:
    settings = _settings()
    outputs = "\n".join(_rules(repository).values()).replace("{{", "{").replace("}}", "}")
    data = names.data_folder(settings)
    patterns = [pattern.replace("{DATA}", data) for pattern in re.findall(r'"((?:results|\{DATA\})/[^"]*)"', outputs)]
    values = {"variant": "m", "precision": "fp32", "shard": "0", "name": "mnasnet0_5", "size": "224"}
    geometry, whole = names.geometry(settings, "m"), _settings(npz="original")
    declared = {pattern.format(**values, geometry=geometry) for pattern in patterns}
    named = {
        *(names.SUMMARY, names.REPORT, names.DEMO_RECEIPT, names.manifest(settings), names.shard_manifest(settings, 0)),
        *(names.calibration_list(settings), names.calibration_digests(settings), names.calibration_receipt(settings)),
        *(names.datalist(settings, "m", 0), names.datalist_receipt(settings, "m", 0), names.weights(settings, "m")),
        *(names.scores("m", "fp32", 0), names.vdsp_params("m", "fp32"), names.calibration_images(settings)),
        *(names.input_shard(settings, geometry, 0), names.image_npz(settings, geometry, 0)),
        *(names.datalist(whole, "m", 0).replace("original", geometry), names.image_npz(settings, geometry, 0)),
        *names.row_results(settings, "m", "fp32"),
    }
    assert named <= declared | {None}, named - declared


def test_a_setting_changes_the_steps_that_use_it_and_no_other() -> None:
    def texts(settings: Settings) -> dict[str, str]:
        words = {"variant": "m", "precision": "int8-max", "shard": "0", "name": "mnasnet0_5", "size": "224"}
        words["geometry"] = names.geometry(settings, "m")
        steps = {}
        for name, step in STEPS.items():
            wildcards = {key: words[key] for key in step.__code__.co_varnames[1 : step.__code__.co_argcount]}
            steps[name] = step(settings, **wildcards).settings_text
        return steps

    before = texts(_settings())
    for changed, expected in (
        ({"vamp": {"iterations": 9}}, {"measure_performance"}),
        ({"calibration": {"images": 100}}, {"sample_calibration", "write_build_config", "condition_model"}),
        ({"calibration": {"split": True}}, {"evaluate_outputs"}),
        ({"quantize": {"equalize": False}}, {"write_build_config"}),
        ({"condition": True}, {"summarize"}),
        ({"shards": 3}, {"index_shard", "write_npz", "write_image_npz", "summarize"}),
        ({"parity": {"images": 7}}, {"check_parity"}),
        ({"precisions": ["int8-max"]}, {"summarize"}),
    ):
        after = texts(_settings(**changed))
        assert {name for name in after if after[name] != before[name]} == expected, changed


def test_the_card_and_the_embedded_engine_are_called_in_two_ways() -> None:
    embedded, card = _settings(), _settings(**CARD)
    assert STEPS["compile_model"](embedded, variant="m", precision="int8-max").command == ["ort-vamc", "build"]
    built = STEPS["compile_model"](card, variant="m", precision="int8-max")
    assert built.command[:2] == ["call_vamc.py", "--vamc"] and built.command[-2:] == ["--hwconfig", "hw.json"]
    assert [Path(file).suffix for file in built.files] == [".so", ".json", ".params"]
    # The card has no fp32: beside its rows the CPU makes the baseline.
    assert STEPS["compile_model"](card, variant="m", precision="fp32").command == ["ort-vamc", "build"]
    fp32 = STEPS["measure_performance"](card, variant="m", precision="fp32").arguments
    assert fp32[2:4] == ["-i", "auto"] and "--retries" in fp32
    int8 = STEPS["measure_performance"](card, variant="m", precision="int8-max").arguments
    assert int8[2:4] == ["-i", "8"] and "--retries" not in int8
    assert accuracy_sessions(embedded, "int8-max", 5) == ["-i", "5", "-p", "1"]
    assert accuracy_sessions(card, "int8-max", 5)[:2] == ["-i", "8"]


def test_int8_of_the_card_is_given_the_conditioned_graph_and_nothing_else_is() -> None:
    plain, made = "results/model/m/mnasnet0_5_224", "results/condition/m/mnasnet0_5_224"
    for settings, precision, expected in (
        (_settings(), "int8-max", plain),
        (_settings(condition=True), "int8-max", made),
        (_settings(condition=True), "fp32", plain),
        (_settings(**CARD), "int8-max", made),
        (_settings(**CARD), "fp16", plain),
        (_settings(**CARD, condition=False), "int8-max", plain),
    ):
        assert names.graph(settings, "m", precision) == expected
        is_made = expected == made
        assert (f"{made}.condition.json" in names.row_results(settings, "m", precision)) == is_made
    arguments = STEPS["condition_model"](_settings(**CARD), variant="m", name="mnasnet0_5", size="224").arguments
    assert arguments[-2:] == ["--target", "vamc"]


def test_the_cards_own_options_reach_its_build_file_and_make_stale_what_they_decide() -> None:
    def steps(precision: str, **options: Any) -> tuple[str, ...]:
        settings = _settings(**{**CARD, "precisions": ["fp32", "fp16", "int8-max"], "vacc": options})
        asked = [
            STEPS[name](settings, variant="m", precision=precision) for name in ("write_build_config", "compile_model")
        ]
        asked.append(STEPS["evaluate_outputs"](settings, variant="m", precision=precision))
        return tuple(step.settings_text for step in asked)

    for options, changed in (
        ({"compile": {"data_transport_mode": 1}}, {"fp16": [0], "int8-max": [0]}),
        ({"quantize": {"calibrate_chunk_by": -1}}, {"int8-max": [0]}),
        ({"extra_ops": "softmax"}, {"fp16": [0, 2], "int8-max": [0, 2]}),
        ({"extra_ops": {"type": "softmax"}}, {"fp16": [0, 2], "int8-max": [0, 2]}),
    ):
        for precision in ("fp32", "fp16", "int8-max"):
            before, after = steps(precision), steps(precision, **options)
            different = [number for number in range(3) if before[number] != after[number]]
            assert different == changed.get(precision, []), (options, precision)


def test_inputs_follow_the_settings() -> None:
    class Row:
        variant, precision, shard = "m", "int8-max", "1"

    inputs = Inputs(_settings(shards=2))
    assert inputs.get_baseline_scores(Row) == [f"results/run/m/fp32/scores-{shard}.npz" for shard in (0, 1)]
    assert Inputs(_settings(precisions=["int8-max"])).get_baseline_scores(Row) == []
    assert inputs.get_calibration_list(Row) == ["results/data/demo/calibration.txt"]
    assert inputs.get_shard_manifests(Row) == [f"results/data/demo/manifests/{shard}.csv" for shard in (0, 1)]
    Row.precision = "fp32"
    assert inputs.get_calibration_list(Row) == [] and inputs.get_baseline_scores(Row) == []


def test_code_of_ones_own_is_an_input_of_what_it_prepares() -> None:
    class Row:
        variant, precision, geometry = "m", "int8-max", ""

    settings = _settings(models={"m": {"name": "mnasnet0_5", "preprocess": "own/lines.py:prepare"}, "mnasnet0_5": {}})
    inputs, Row.geometry = Inputs(settings), names.geometry(settings, "m")
    assert inputs.get_own_code(Row) == inputs.get_own_code_of_geometry(Row) == ["own/lines.py"]
    step = STEPS["write_npz"](settings, geometry=Row.geometry, shard="0")
    assert json.loads(step.arguments[-1])["code"] == "own/lines.py:prepare"
    Row.precision = "fp32"  # calibrates on nothing
    assert inputs.get_own_code(Row) == []
    Row.variant, Row.precision, Row.geometry = "mnasnet0_5", "int8-max", names.geometry(settings, "mnasnet0_5")
    assert inputs.get_own_code(Row) == inputs.get_own_code_of_geometry(Row) == []
    Row.geometry = "original"
    assert inputs.get_own_code_of_geometry(Row) == []


@pytest.mark.parametrize("generation", [1, 2])
def test_the_compiler_names_its_folder(generation: int) -> None:
    settings = _settings(**{**CARD, "vacc": {"generation": generation}})
    prefix = names.compiled_prefix(settings, "m", "int8-max")
    assert prefix == f"results/build/m/int8-max/{('m-int8-max-3_224_224-vacc/m', 'm/mod')[generation - 1]}"
    assert names.compiled_prefix(settings, "m", "fp32") == "results/build/m/fp32/m-fp32-none-3_224_224-ort/m"


def test_an_own_onnx_is_imported_and_has_no_publisher(tmp_path: Path) -> None:
    file = tmp_path / "net.v2.onnx"
    onnx.save_model(tiny_onnx(), file, save_as_external_data=True, location="net.data", size_threshold=0)
    own = {"onnx": str(file), "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    settings = load_settings({"models": {"mine": own}})
    step = STEPS["export_model"](settings, variant="mine", name="mine", size="8")
    assert step.command == ["import_onnx.py"] and step.arguments[:6] == [
        "--model",
        str(file),
        "--name",
        "mine",
        "--size",
        "8",
    ]
    assert names.graph(settings, "mine", "fp32") == "results/model/mine/mine_8"
    assert names.parity("mine") not in names.row_results(settings, "mine", "fp32")
    inputs = Inputs(settings).get_weights(SimpleNamespace(variant="mine"))
    assert inputs == [str(file), str(tmp_path / "net.data")]
    assert (
        "an ONNX file does not say its own), but with your own mean, std" in settings.models["mine"].preprocessing_text
    )
    for key, value in (("name", "mnasnet0_5"), ("weights", "w.pth")):
        with pytest.raises(SettingsError, match=f"models.mine: onnx stands in place of {key}; leave one"):
            load_settings({"models": {"mine": own | {key: value}}})
    with pytest.raises(ModelError, match=r"models.mine.onnx: .* takes 8 x 8 pixels, but size is 224 x 224"):
        load_settings({"models": {"mine": own | {"size": 224}}})
    with pytest.raises(SettingsError, match=r"models.mnasnet0_5.output: belongs to an onnx file"):
        load_settings({"models": {"mnasnet0_5": {"output": "scores"}}})
