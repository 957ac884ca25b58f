"""A precision is one entry: settings, build files, compiler, plots and documents follow from it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mnasbench.build.compiler import compile_model
from mnasbench.build.config import BuildConfig, build_file, read_build_config
from mnasbench.build.ranges import CALIBRATORS
from mnasbench.errors import SettingsError
from mnasbench.files import write_yaml
from mnasbench.precisions import BASELINE, PRECISIONS, Precision, is_quantized, precision_named
from mnasbench.settings import load_settings, schema
from unit.build.nets import random_images, small_mnasnet
from write_settings_table import precisions_table

IMAGES = random_images(16, seed=1)


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Iterator[Precision]:
    """A seventh precision: an entry with a calibrator that is there."""
    precision = replace(PRECISIONS["int8-max"], name="int8-widest", card_generations=(), marker="*")
    monkeypatch.setitem(PRECISIONS, precision.name, precision)
    schema.cache_clear()
    yield precision
    schema.cache_clear()


def test_the_baseline_is_there_and_every_calibrator_is_one() -> None:
    assert not is_quantized(BASELINE)
    assert all(one.calibrator in CALIBRATORS for one in PRECISIONS.values() if one.is_quantized)
    assert len({one.marker for one in PRECISIONS.values()}) == len(PRECISIONS)


def test_an_unknown_precision_names_its_neighbour() -> None:
    with pytest.raises(SettingsError, match="did you mean 'int8-percentile'"):
        precision_named("int8-percentil")


def test_a_new_entry_is_a_setting(added: Precision) -> None:
    settings = load_settings({"models": {"mnasnet0_5": {}}, "precisions": [added.name], "engine": "ort"})
    assert settings["precisions"] == [added.name] and settings.engine_of(added.name) == "ort"
    assert f"`{added.name}`" in precisions_table()


def test_what_the_card_lacks_is_built_for_the_cpu(added: Precision) -> None:
    wanted = {"models": {"mnasnet0_5": {}}, "engine": "vacc", "vamp": {"instances": 8}, "precisions": [added.name]}
    assert load_settings(wanted).engine_of(added.name) == "ort"
    with pytest.raises(SettingsError, match="int8-mse is none that vamc's generation 1 builds"):
        load_settings(wanted | {"precisions": ["int8-mse"]})
    assert load_settings(wanted | {"precisions": ["int8-max"]}).engine_of("int8-max") == "vacc"


@pytest.mark.parametrize("generation", (1, 2))
def test_a_new_entry_is_a_mode_of_build_files(added: Precision, generation: int, tmp_path: Path) -> None:
    config = BuildConfig(
        generation, "m", Path("m.onnx"), "input", (1, 3, 32, 32), added.name, None, Path("images"), "JPEG", 8, tmp_path
    )
    write_yaml(tmp_path / "build.yaml", build_file(config))
    assert read_build_config(tmp_path / "build.yaml").precision == added.name
    assert (config.mode, config.dtype) == ("widest", "int8")


def test_a_new_entry_builds(added: Precision) -> None:
    made = compile_model(small_mnasnet(), added.name, lambda: iter(np.split(IMAGES, 2)))
    assert made.quantization is not None and made.quantization["mode"] == "widest"
    same = compile_model(small_mnasnet(), "int8-max", lambda: iter(np.split(IMAGES, 2)))
    assert made.model.SerializeToString(deterministic=True) == same.model.SerializeToString(deterministic=True)
