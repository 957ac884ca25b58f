"""The configuration: validated, completed, and consistent with its own documentation."""

import math
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from mnasbench.errors import SettingsError
from mnasbench.files import read_yaml
from mnasbench.plan import names
from mnasbench.settings import load_settings, schema
from write_settings_table import readme_with_table

DEMO = {"models": {"mnasnet0_5": {}}}
CARD = {**DEMO, "engine": "vacc", "vamp": {"instances": 8}}


def _merged(base: Any, over: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return base | {key: _merged(base.get(key), value) for key, value in over.items()}


@pytest.mark.parametrize("overlay", ["config.yaml", "imagenet.yaml", "vacc.yaml"])
def test_every_shipped_configuration_is_valid(repository: Path, overlay: str) -> None:
    base = read_yaml(repository / "config" / "config.yaml")
    over = read_yaml(repository / "config" / overlay)
    load_settings(_merged(base, over))


def test_defaults_are_complete() -> None:
    settings = load_settings(DEMO)
    assert settings["calibration"] == {"images": 1000, "seed": 0, "source": None, "split": False}
    assert settings["precisions"] == ["fp32", "fp16", "int8-percentile"]
    model = settings.models["mnasnet0_5"]
    assert (model.name, model.size, model.preprocessing.resize) == ("mnasnet0_5", 224, 256)


def test_preprocessing_follows_the_weights() -> None:
    models = {"mnasnet0_75": {}, "mnasnet1_3": {}, "small": {"library": "timm", "name": "mnasnet_small", "size": 128}}
    settings = load_settings({"models": models}).models
    assert [settings[name].preprocessing.resize for name in ("mnasnet0_75", "mnasnet1_3")] == [232, 232]
    small = settings["small"].preprocessing
    assert (small.resize, small.crop, small.interpolation) == (146, 128, "bicubic")
    explicit = load_settings({"models": {"mnasnet0_75": {"resize": [256, 256]}}}).models["mnasnet0_75"]
    assert explicit.preprocessing.label == "resize256x256-crop224-bilinear"


def test_a_size_need_not_be_square() -> None:
    oblong = {"mnasnet0_5": {"size": [48, 192]}}
    settings = load_settings({"models": oblong})
    model = settings.models["mnasnet0_5"]
    assert (model.size_label, model.preprocessing.shape) == ("48x192", (3, 48, 192))
    assert model.preprocessing.resize == (48, 192)
    assert names.exported(settings, "mnasnet0_5") == "results/model/mnasnet0_5/mnasnet0_5_48x192"
    assert "/mnasnet0_5-fp32-none-3_48_192-ort/" in names.compiled_prefix(settings, "mnasnet0_5", "fp32")


def test_variants_of_one_geometry_share_their_inputs() -> None:
    settings = load_settings({"models": {"mnasnet0_5": {}, "mnasnet1_0": {}, "mnasnet0_75": {}}}).models
    assert len({model.preprocessing.label for model in settings.values()}) == 2


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"modles": {}, **DEMO}, "unknown key 'modles'; did you mean 'models'"),
        (
            {"models": {"mnasnet0_5": {"wieghts": "x"}}},
            r"models.mnasnet0_5: unknown key 'wieghts'; did you mean 'weights'",
        ),
        ({**DEMO, "precisions": ["int8-percentil"]}, "did you mean 'int8-percentile'"),
        ({**DEMO, "shards": 0}, "shards: 0 does not fit"),
        ({**DEMO, "vamp": {"instances": "atuo"}}, "vamp.instances: 'atuo' does not fit"),
        ({"models": {"mnasnet05": {}}}, "did you mean 'mnasnet0_5'"),
        ({"models": {"mnasnet0_5": {"weights": "IMAGENET1K_V9"}}}, "did you mean 'IMAGENET1K_V1'"),
        (
            {"models": {"mnasnet0_5": {"weights": "IMAGENET1K_V1"}}},
            "published weights know ImageNet's classes, not those of",
        ),
        ({"models": {"mnasnet0_5": {"size": [48, 192, 3]}}}, r"size: \[48, 192, 3\] does not fit. The input in"),
        (
            {"models": {"mnasnet0_5": {"size": [48, 192]}}, "vdsp_params": "2023"},
            r"models.mnasnet0_5.size is \[48, 192\]; use the form current or sdk1.0",
        ),
        ({"models": {"mnasnet0_5": {"resize": 200}}}, "smaller than the crop of 224"),
        ({**DEMO, "dataset": {"root": "/data/ImageNet"}}, "demo weights know the demo set's classes only"),
        ({"models": {}}, "models"),
        (
            {**CARD, "precisions": ["fp16", "int8-mse"]},
            r"int8-mse is none that vamc's generation 1 builds; .* set vacc.generation: 2",
        ),
        (
            {**CARD, "vacc": {"quantize": {"calibrate_mode": "max"}}},
            "vacc.quantize.calibrate_mode: the workflow writes it from 'precisions'",
        ),
        ({**CARD, "vacc": {"quantize": {"alibrate_range": 1}}}, "did you mean 'calibrate_range'"),
        ({**CARD, "vacc": {"quantize": {"cluster_mode": 0}}}, "belongs to vacc.compile"),
        ({**CARD, "vacc": {"quantize": {"exclude_layers": 3}}}, "expected a list of numbers or names"),
        (
            {**CARD, "quantize": {"skip_layers": ["conv_00"]}, "vacc": {"quantize": {"exclude_layers": [3]}}},
            "vacc.quantize.exclude_layers: contradicts quantize.skip_layers",
        ),
        ({**CARD, "vacc": {"compile": {"x": date(2026, 1, 1)}}}, "vacc.compile.x: .* is not of type"),
        ({**CARD, "vacc": {"extra_ops": "nms"}}, "vacc.extra_ops: 'nms' does not fit. `softmax`"),
        ({"models": {None: {}}}, "models.None: a name is expected here"),
        ({"models": {"mnasnet0_5": {}}, True: 1}, "True: a name is expected here; put it in quotes"),
        ({}, "models: is missing; name at least one variant"),
        ({"models": {"mnasnet0_5\n": {}}}, r"models: 'mnasnet0_5\\n' does not match"),
        ({"models": {"m" * 300: {}}}, "models: 'mmm"),
        ({**DEMO, "dataset": {"name": "a\n"}}, r"dataset.name: 'a\\n' does not match"),
        ({**DEMO, "dataset": {"name": "a/../../b"}}, r"dataset.name: 'a/../../b' does not match"),
        ({"models": {"mnasnet0_5": {"sha256": "0" * 64 + "\n"}}}, "sha256: '000"),
        ({**DEMO, "shards": 2.0}, "shards: 2.0 does not fit"),
        ({**DEMO, "quantize": {"max_drop": math.nan}}, "max_drop: nan is not of type 'number'"),
        ({**DEMO, "vamp": {"iterations": 10**30}}, "vamp.iterations: 10+ is greater than the maximum"),
    ],
)
def test_what_is_wrong_is_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as error:
        load_settings(config)
    assert "\n" not in str(error.value)


def test_weights_are_told_apart() -> None:
    models = {
        "a": {"name": "mnasnet0_5", "weights": "some/file"},
        "b": {"name": "mnasnet0_5", "weights": "FILE.PTH"},
        "c": {"name": "mnasnet0_5", "weights": "IMAGENET1K_V1"},
    }
    config = {"models": models, "dataset": {"root": "x"}}
    assert [model.weights_are_file for model in load_settings(config).models.values()] == [True, True, False]


def test_only_imagenet_is_compared_with_published_accuracies() -> None:
    names = {"imagenet": True, "ILSVRC2012": True, "imagenet-sample": False, "demo": False}
    for name, comparable in names.items():
        assert load_settings({**DEMO, "dataset": {"name": name}}).dataset_is_imagenet is comparable


def test_every_setting_is_described() -> None:
    def walk(rules: dict[str, Any], place: str) -> None:
        for key, rule in rules.get("properties", {}).items():
            assert rule.get("description"), f"{place}{key} has no description in config/schema.yaml"
            walk(rule, f"{place}{key}.")
        if isinstance(rules.get("additionalProperties"), dict):
            walk(rules["additionalProperties"], f"{place}*.")

    walk(schema(), "")


def test_the_documentation_lists_every_setting_as_the_schema_has_it(repository: Path) -> None:
    text = (repository / "config" / "README.md").read_text()
    assert readme_with_table(text) == text, "run workflow/scripts/write_settings_table.py"
