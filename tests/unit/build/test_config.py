"""The build file in both generations: read strictly, written so that it reads back the same."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mnasbench.build.config import BuildConfig, build_file, read_build_config
from mnasbench.errors import InputError, SettingsError
from mnasbench.precisions import PRECISIONS
from mnasbench.preprocessing import Fit, Preprocessing

# As published for this model (generation 1) and in the layout of 2025 (generation 2).
FIRST = """
model:
  name: mnasnet0_5
  inputs:
    input: [1, 3, 224, 224]
  checkpoint: onnx/mnasnet0_5_224.onnx
engine:
  type: vacc
  common:
    do_quantization: true
    cluster_mode: 0
  add_extra_ops_to_graph:
    type: softmax
  calibration:
    quant_mode: percentile
    per_channel: true
dataset:
  path: /ImageNet/val
  sampler:
    suffix: JPEG
    get_data_num: 1000
  transform_ops:
    - type: DecodeImage
    - type: Resize
      size: [256, 256]
    - type: CenterCrop
      crop_size: [224, 224]
    - type: Normalize
      mean: [0.485, 0.456, 0.406]
      std: [0.229, 0.224, 0.225]
    - type: ToTensor
workspace:
  work_dir: ./out
  enable_ir: false
  save_log: true
"""
SECOND = """
name: mnasnet0_5
frontend:
  type: onnx
  checkpoint: onnx/mnasnet0_5_224.onnx
  dtype: fp32
  shape:
    input: [1, 3, 224, 224]
backend:
  type: tvm_vacc
  dtype: int8
  compile:
    cluster_mode: 0
    data_transport_mode: 1
  quantize:
    calibrate_mode: mse
    quantize_per_channel: false
    exclude_layers: [conv_1]
    skip_conv_layers: [0]
graph:
  extra_ops:
    type: softmax
dataset:
  type: tvm
  path: /ImageNet/val
  sampler: {suffix: JPEG, get_data_num: 50}
  process_ops:
    - {type: DecodeImage}
    - {type: Resize, size: 256, interpolation: bilinear, backend: pillow}
    - {type: CenterCrop, crop_size: 224}
    - {type: Normalize, mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375], div255: false}
    - {type: ToTensor}
workspace: {path: ./out, workers: 4}
"""


def _read(tmp_path: Path, text: str, generation: int | None = None) -> BuildConfig:
    file = tmp_path / "build.yaml"
    file.write_text(text)
    return read_build_config(file, generation)


def test_first_generation_as_published(tmp_path: Path) -> None:
    config = _read(tmp_path, FIRST, 1)
    assert (config.precision, config.images, config.softmax, config.per_channel) == (
        "int8-percentile",
        1000,
        True,
        True,
    )
    assert config.preprocessing == Preprocessing(resize=(256, 256), crop=224, library="opencv")
    assert config.prefix == Path("out/mnasnet0_5-int8-percentile-3_224_224-vacc/mnasnet0_5")
    assert replace(config, backend="ort").prefix.parent.name == "mnasnet0_5-int8-percentile-3_224_224-ort"
    assert set(config.ignored) == {"engine.common.cluster_mode", "workspace.enable_ir", "workspace.save_log"}


def test_second_generation(tmp_path: Path) -> None:
    config = _read(tmp_path, SECOND, 2)
    assert (config.precision, config.per_channel, config.skip_layers) == ("int8-mse", False, (0, "conv_1"))
    assert config.prefix == Path("out/mnasnet0_5/mod")
    assert config.preprocessing is not None
    assert (config.preprocessing.resize, config.preprocessing.library) == (256, "pillow")
    assert config.preprocessing.mean == pytest.approx((0.485, 0.456, 0.406))
    assert "backend.compile.data_transport_mode" in config.ignored


@pytest.mark.parametrize(
    ("text", "old", "new", "message"),
    [
        (SECOND, "calibrate_mode", "alibrate_mode", "unknown key 'backend.quantize.alibrate_mode'; did you mean 'cal"),
        (FIRST, "do_quantization", "do_quantisation", "did you mean 'do_quantization'"),
        (FIRST, "quant_mode: percentile", "quant_mode: percentil", "did you mean 'percentile'"),
        (FIRST, "[1, 3, 224, 224]", "[1, 3, 224]", r"expected \[1, 3, H, W\]"),
        (
            FIRST,
            "[1, 3, 224, 224]",
            "[1, 3, 200, 200]",
            "CenterCrop gives 224x224 pixels, but the model's input has 200x200",
        ),
        (FIRST, "get_data_num: 1000", "get_data_num: many", "expected int"),
        (FIRST, "get_data_num: 1000", "get_data_num: true", "expected int"),
        (FIRST, "type: CenterCrop", "type: CentreCrop", "did you mean 'CenterCrop'"),
        (FIRST, "type: CenterCrop", "type: CustomFunc", "CustomFunc has no .crop_size."),
        (FIRST, "checkpoint: onnx/mnasnet0_5_224.onnx", "", "'model.checkpoint' is missing"),
        (FIRST, "std: [0.229, 0.224, 0.225]", "std: [0.229, 0, 0.225]", "above zero"),
        (FIRST, "std: [0.229, 0.224, 0.225]", "std: [0.229]", "three numbers"),
        (FIRST, "type: ToTensor", "type: Resize", "stands twice"),
        (FIRST, "model:\n", "model:\n  name: again\n", "stands twice"),
        (FIRST, "name: mnasnet0_5", "name: &a [*a]", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, old: str, new: str, message: str) -> None:
    assert old in text
    with pytest.raises(
        SettingsError if "YAML" not in message and "name: again" not in new else Exception, match=message
    ) as e:
        _read(tmp_path, text.replace(old, new, 1))
    assert "\n" not in str(e.value)


def test_an_input_that_is_not_square_is_built(tmp_path: Path) -> None:
    text = FIRST.replace("[1, 3, 224, 224]", "[1, 3, 48, 192]").replace("[224, 224]", "[48, 192]")
    config = _read(tmp_path, text.replace("size: [256, 256]", "size: [56, 224]"))
    assert config.preprocessing == Preprocessing(resize=(56, 224), crop=(48, 192), library="opencv")
    assert config.prefix.parent.name == "mnasnet0_5-int8-percentile-3_48_192-vacc"
    with pytest.raises(SettingsError, match="CenterCrop gives 48x192 pixels, but the model's input has 192x48"):
        _read(tmp_path, text.replace("[1, 3, 48, 192]", "[1, 3, 192, 48]"))


def test_operations_out_of_order_are_refused(tmp_path: Path) -> None:
    text = FIRST.replace("    - type: ToTensor\n", "").replace(
        "    - type: Resize", "    - type: ToTensor\n    - type: Resize"
    )
    with pytest.raises(SettingsError, match="Resize stands after ToTensor"):
        _read(tmp_path, text)


def test_a_file_of_the_other_generation_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"use `ort-vamc compile` for it"):
        _read(tmp_path, SECOND, 1)


_CONFIGS = st.builds(
    BuildConfig,
    generation=st.sampled_from([1, 2]),
    name=st.just("net"),
    checkpoint=st.just(Path("net.onnx")),
    input_name=st.just("input"),
    shape=st.just((1, 3, 96, 224)),
    precision=st.sampled_from(tuple(PRECISIONS)),
    preprocessing=st.just(Preprocessing("exact", (96, 224), code="own.py:prepare"))
    | st.builds(
        Preprocessing,
        resize=st.one_of(
            st.integers(224, 400),
            st.tuples(st.integers(224, 400), st.integers(224, 400)),
            st.just(Fit((240, 224), "right-bottom", (1, 2, 3))),
            st.sampled_from(["none", "exact"]),
        ),
        crop=st.just((96, 224)),
        interpolation=st.sampled_from(["bilinear", "bicubic"]),
        library=st.sampled_from(["pillow", "opencv"]),
    ),
    dataset=st.sampled_from([Path("images"), None]),
    suffix=st.sampled_from(["JPEG", "png", None]),
    images=st.integers(1, 1000),
    work_dir=st.just(Path("out")),
    per_channel=st.booleans(),
    skip_layers=st.lists(st.one_of(st.integers(0, 9), st.sampled_from(["a", "b"])), unique=True).map(tuple),
    softmax=st.booleans(),
    equalize=st.booleans(),
    bias_correction=st.booleans(),
    max_drop=st.one_of(st.none(), st.floats(0, 5)),
    percentile=st.floats(50, 100),
    headroom=st.floats(0, 1000),
    weight_bits=st.sampled_from(["auto", 7, 8]),
    gptq=st.booleans(),
    reconstruct=st.sampled_from(["off", "fast", "full"]),
    reconstruct_seconds=st.floats(1, 86400),
)


@given(_CONFIGS)
def test_what_is_written_reads_back_the_same(tmp_path_factory: pytest.TempPathFactory, config: BuildConfig) -> None:
    config = replace(config, backend="ort")
    if config.dtype != "int8":  # without a quantizer there is nothing to say about it
        config = replace(config, per_channel=True, skip_layers=(), equalize=True, bias_correction=True, max_drop=None)
        config = replace(config, percentile=99.9999, headroom=10.0, weight_bits="auto", gptq=True)
        config = replace(config, reconstruct="off", reconstruct_seconds=120.0)
    if config.dataset is None:
        config = replace(config, suffix=None, images=None)
    file = tmp_path_factory.mktemp("build") / "build.yaml"
    file.write_text(yaml.safe_dump(build_file(config)))
    read = read_build_config(file, config.generation)
    assert set(read.skip_layers) == set(config.skip_layers)
    assert replace(read, ignored=(), assumed=(), skip_layers=config.skip_layers) == config
    if config.generation == 1:
        assert ("ort" in build_file(config)) and "ort" not in build_file(replace(config, backend="vacc"))


def test_a_file_that_would_expand_to_gigabytes_is_refused(tmp_path: Path) -> None:
    # "Billion laughs": each line holds the one before ten times.
    lines = ["a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 10)]
    (tmp_path / "build.yaml").write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"build\.yaml: .*aliases \(\*name\) are not accepted"):
        read_build_config(tmp_path / "build.yaml", 1)


OWN = [{"type": "DecodeImage"}, {"type": "CustomFunc", "module_path": "own.py", "func_name": "prepare"}]


@pytest.mark.parametrize(
    ("operations", "engine", "message"),
    [
        (OWN, "vacc", "CustomFunc is code for the card's compiler, which calls it another way"),
        ([*OWN, {"type": "ToTensor"}], "ort", "CustomFunc makes the model's input; leave ToTensor out"),
        (
            [OWN[0], OWN[1] | {"img_shape": [3, 32, 32]}],
            "ort",
            r"img_shape is \[3, 32, 32\], but the input is \[3, 224,",
        ),
        (
            [{"type": "CustomFunc", "module_path": "own"}],
            "ort",
            "module_path and func_name: 'own:None' names no function",
        ),
    ],
)
def test_code_of_ones_own_is_told_apart_from_the_cards(
    tmp_path: Path, operations: list[dict[str, object]], engine: str, message: str
) -> None:
    content = yaml.safe_load(FIRST)
    content["engine"]["type"] = "ort"
    content["dataset"]["transform_ops"] = OWN
    read = _read(tmp_path, yaml.safe_dump(content)).preprocessing
    assert read == Preprocessing("exact", 224, code="own.py:prepare")
    content["engine"]["type"], content["dataset"]["transform_ops"] = engine, operations
    with pytest.raises(SettingsError, match=message):
        _read(tmp_path, yaml.safe_dump(content))
