"""The compiler's build file: one YAML in either of the vendor's two layouts, read strictly and written.

Generation 1 (``vamc build``) and generation 2 (``vamc compile``) say the same things under other names;
``BuildConfig`` is what they say. The layouts are given in docs/vacc.md. What is ours, and never met by the vendor's
tool: ``ort:``, a section of options that only the embedded compiler has; a ``size`` of Resize that is no pair (an
integer is the short side); ``crop_at`` of CenterCrop, its first row and column.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnasbench.card_options import COMPILE, QUANTIZE
from mnasbench.errors import SettingsError, did_you_mean, one_line
from mnasbench.files import read_yaml
from mnasbench.precisions import PRECISIONS, calibration_modes, float_dtypes
from mnasbench.preprocessing import (
    EXACT,
    INTERPOLATIONS,
    LIBRARIES,
    LONGEST_SIDE,
    UNRESIZED,
    Preprocessing,
    as_pair,
    on_another_scale,
    resize_from_json,
    resize_to_json,
    sides_from_json,
    sides_label,
    split_code,
)

# The vendor's default is unknown; its published build files say percentile.
_DEFAULT_MODE = "percentile"

# What is learned beyond the one-shot pass, build/reconstruct.py.
RECONSTRUCT = ("off", "fast", "full")
# Of int8 weights: as this machine's CPU needs them, or as those need that the model is for.
WEIGHT_BITS: tuple[int | str, ...] = ("auto", 7, 8)

# Options that only the card's compiler knows: accepted, and told to be without effect here.
_CARD_ONLY = "card only"
_OPTION = "option"
# Stands for every other name, where the file is for the card's compiler: a newer one may have more options.
_ANY = "*"
# What the card's compiler reads besides ONNX, and what makes an ONNX file of it.
_FRONTENDS = {
    "keras": "tf2onnx converts the .h5",
    "pytorch": "export_timm_torchvision_model.py or torch.onnx.export writes one",
    "tensorflow": "tf2onnx converts it",
    "darknet": "a converter for its .cfg and .weights writes one",
    "huggingface": "optimum exports it",
}

_ORT_SECTION = {
    "dtype": _OPTION,
    "equalize": _OPTION,
    "bias_correction": _OPTION,
    "max_drop": _OPTION,
    "percentile": _OPTION,
    "headroom": _OPTION,
    "weight_bits": _OPTION,
    "gptq": _OPTION,
    "reconstruct": _OPTION,
    "reconstruct_seconds": _OPTION,
    "runtime": _OPTION,
    "output": _OPTION,
}
_SAMPLER = {"suffix": _OPTION, "get_data_num": _OPTION}
_LAYOUTS: dict[int, dict[str, Any]] = {
    1: {
        "model": {"name": _OPTION, "inputs": _OPTION, "checkpoint": _OPTION},
        "engine": {
            "type": _OPTION,
            "common": {"do_quantization": _OPTION, **dict.fromkeys(COMPILE, _CARD_ONLY), _ANY: _CARD_ONLY},
            "add_extra_ops_to_graph": {"type": _OPTION},
            "calibration": {
                "quant_mode": _OPTION,
                "per_channel": _OPTION,
                "skip_conv_layers": _OPTION,
                **dict.fromkeys(QUANTIZE, _CARD_ONLY),
                _ANY: _CARD_ONLY,
            },
        },
        "dataset": {"path": _OPTION, "sampler": _SAMPLER, "transform_ops": _OPTION},
        "workspace": {"work_dir": _OPTION, "enable_ir": _CARD_ONLY, "save_log": _CARD_ONLY},
        "ort": _ORT_SECTION,
    },
    2: {
        "name": _OPTION,
        "frontend": {
            "type": _OPTION,
            "checkpoint": _OPTION,
            "dtype": _OPTION,
            "shape": _OPTION,
            "model_kwargs": _CARD_ONLY,
            "quantize": _CARD_ONLY,
        },
        "backend": {
            "type": _OPTION,
            "dtype": _OPTION,
            "merge_params": _CARD_ONLY,
            "remove_params": _CARD_ONLY,
            "dynamic_params": _CARD_ONLY,
            "compile": {**dict.fromkeys(COMPILE, _CARD_ONLY), _ANY: _CARD_ONLY},
            "quantize": {
                "calibrate_mode": _OPTION,
                "quantize_per_channel": _OPTION,
                "skip_conv_layers": _OPTION,
                "exclude_layers": _OPTION,
                **dict.fromkeys(QUANTIZE, _CARD_ONLY),
                _ANY: _CARD_ONLY,
            },
        },
        "graph": {"extra_ops": {"type": _OPTION, "params": _CARD_ONLY}},
        "dataset": {"type": _OPTION, "path": _OPTION, "sampler": _SAMPLER, "process_ops": _OPTION},
        "workspace": {
            "path": _OPTION,
            "env_recheck": _CARD_ONLY,
            "workers": _CARD_ONLY,
            "enable_ir": _CARD_ONLY,
            "save_log": _CARD_ONLY,
            "pyenv": _CARD_ONLY,
        },
        "ort": _ORT_SECTION,
    },
}
_COMMANDS = {1: "build", 2: "compile"}


@dataclass(frozen=True)
class BuildConfig:
    """What a build file asks for, whichever of the two layouts said it.

    ``skip_layers``: layers that stay in float, by name or by their number among the Convs, from 0, in the graph's
    order (as in TVM, which the vendor's compiler is built on). ``compile_options`` and ``quantize_options``: the
    card's own, as they were set; they are written for it, and not read. ``ignored``: the places of options in a file
    that are without effect here. ``assumed``: a line for each thing that a file leaves open and that decides numbers.
    """

    generation: int
    name: str
    checkpoint: Path
    input_name: str
    shape: tuple[int, int, int, int]
    precision: str
    preprocessing: Preprocessing | None
    dataset: Path | None
    suffix: str | None
    images: int | None
    work_dir: Path
    frontend: str = "onnx"
    backend: str = "ort"
    per_channel: bool = True
    skip_layers: tuple[str | int, ...] = ()
    softmax: bool = False
    equalize: bool = True
    bias_correction: bool = True
    max_drop: float | None = None
    percentile: float = 99.9999
    headroom: float = 10.0
    weight_bits: int | str = "auto"
    gptq: bool = True
    reconstruct: str = "off"
    reconstruct_seconds: float = 120.0
    runtime: str = "auto"
    output: str | None = None
    compile_options: Mapping[str, Any] = field(default_factory=dict)
    quantize_options: Mapping[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    @property
    def dtype(self) -> str:
        """``fp32``, ``fp16`` or ``int8``."""
        return PRECISIONS[self.precision].dtype

    @property
    def mode(self) -> str | None:
        """The calibration mode of a quantized build."""
        return PRECISIONS[self.precision].mode

    @property
    def is_quantized(self) -> bool:
        """Whether it needs calibration images."""
        return PRECISIONS[self.precision].is_quantized

    @property
    def prefix(self) -> Path:
        """Where the compiled files go, without their suffix."""
        if self.generation == 2:
            return self.work_dir / self.name / "mod"
        shape = "_".join(str(side) for side in self.shape[1:])
        folder = f"{self.name}-{self.dtype}-{self.mode or 'none'}-{shape}-{self.backend}"
        return self.work_dir / folder / self.name


# --------------------------------------------------------------------------------------------------------- reading
def read_build_config(path: Path, generation: int | None = None, *, card: bool = False) -> BuildConfig:
    """Read a build file; ``generation`` is what the command expects, and is told apart by its sections if None.

    ``card``: the file is for the card's compiler, which may have options and front ends that are not for here.
    Raises SettingsError for an unknown key (naming the nearest known one), a missing one, or a value out of place.
    """
    content = read_yaml(path)
    where = one_line(path)
    if not isinstance(content, Mapping):
        raise SettingsError(f"{where}: is not a build file (expected sections such as 'model:' or 'frontend:')")
    actual = 2 if "frontend" in content or "backend" in content else 1
    if generation is not None and generation != actual:
        raise SettingsError(
            f"{where}: has the layout of generation {actual}; "
            f"use `ort-vamc {_COMMANDS[actual]}` for it (`{_COMMANDS[generation]}` reads generation {generation})"
        )
    ignored: list[str] = []
    _check_keys(content, _LAYOUTS[actual], where, "", ignored, card)
    reader = _Reader(content, where)
    if actual == 2:
        _check_frontend(reader, card)
    return (_read_first if actual == 1 else _read_second)(reader, tuple(ignored))


def _check_keys(
    content: Any, layout: Mapping[str, Any], where: str, place: str, ignored: list[str], card: bool
) -> None:
    if content is None:
        return
    allowed = [name for name in layout if name != _ANY]
    if not isinstance(content, Mapping):
        raise SettingsError(f"{where}: '{place}' should be a section with the keys {', '.join(sorted(allowed))}")
    for key, value in content.items():
        name = f"{place}.{key}" if place else str(key)
        rule = layout.get(key, layout.get(_ANY) if card else None)
        if rule is None:
            raise SettingsError(f"{where}: unknown key '{one_line(name)}'{did_you_mean(str(key), allowed)}")
        if rule == _CARD_ONLY:
            ignored.append(name)
        elif isinstance(rule, Mapping):
            _check_keys(value, rule, where, name, ignored, card)


def _check_frontend(reader: "_Reader", card: bool) -> None:
    """SettingsError for a front end that is none, or that only the card's compiler has, with what to write instead."""
    kind = reader.choice("frontend.type", ("onnx", *_FRONTENDS), "onnx")
    if kind != "onnx" and not card:
        raise SettingsError(
            f"{reader.where}: 'frontend.type' is '{kind}', which only the card's compiler reads; export the net to "
            f"ONNX ({_FRONTENDS[kind]}) and write type: onnx, and checkpoint: its file"
        )
    reader.choice("frontend.dtype", ("fp32", "fp16"), "fp32")


@dataclass(frozen=True)
class _Reader:
    """Takes typed values out of a build file, so that each error says where."""

    content: Mapping[str, Any]
    where: str

    def get(self, place: str, kind: type | tuple[type, ...], default: Any = None, *, required: bool = False) -> Any:
        value: Any = self.content
        for part in place.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is None:
            if required:
                raise SettingsError(f"{self.where}: '{place}' is missing")
            return default
        if not isinstance(value, kind) or (isinstance(value, bool) and bool not in _kinds(kind)):
            names = " or ".join(one.__name__ for one in _kinds(kind))
            raise SettingsError(f"{self.where}: '{place}' is {one_line(repr(value))}, expected {names}")
        return value

    def name(self, place: str) -> str:
        """A name that becomes those of files: one part of a path, so that nothing is written outside work_dir."""
        value = str(self.get(place, str, required=True))
        if not value.isprintable() or "/" in value or value in {"", ".", ".."}:
            raise SettingsError(f"{self.where}: '{place}' is {one_line(repr(value))}, expected a name for files")
        return value

    def choice(self, place: str, choices: Collection[str], default: str) -> str:
        value = str(self.get(place, str, default))
        if value not in choices:
            raise SettingsError(f"{self.where}: '{place}' is '{one_line(value)}'{did_you_mean(value, choices)}")
        return value

    def one_of(self, place: str, values: Collection[int | str]) -> int | str:
        """One of the values, the first of which is the default."""
        first, *_ = values
        value: int | str = self.get(place, (int, str), first)
        if value not in values:
            raise SettingsError(
                f"{self.where}: '{place}' is {one_line(repr(value))}, expected {', '.join(map(str, values))}"
            )
        return value

    def reconstruct(self, place: str) -> str:
        """A level of reconstruction; YAML reads an unquoted ``off`` as false."""
        value = self.get(place, (str, bool), "off")
        if value is False:
            return "off"
        if value not in RECONSTRUCT:
            raise SettingsError(
                f"{self.where}: '{place}' is {one_line(repr(value))}{did_you_mean(str(value), RECONSTRUCT)}"
            )
        return str(value)

    def shape(self, place: str) -> tuple[str, tuple[int, int, int, int]]:
        inputs = self.get(place, Mapping, required=True)
        if len(inputs) != 1:
            raise SettingsError(f"{self.where}: '{place}' names {len(inputs)} inputs, expected one of [1, 3, H, W]")
        name, sides = next(iter(inputs.items()))
        sides_are_whole = isinstance(sides, list) and all(
            type(side) is int and 0 < side <= LONGEST_SIDE for side in sides
        )
        if not sides_are_whole or len(sides) != 4 or sides[1] != 3:
            raise SettingsError(f"{self.where}: '{place}.{one_line(name)}' is {one_line(sides)}, expected [1, 3, H, W]")
        return str(name), (sides[0], sides[1], sides[2], sides[3])

    def layers(self, *places: str) -> tuple[str | int, ...]:
        layers: list[str | int] = []
        for place in places:
            for layer in self.get(place, list, []):
                if isinstance(layer, bool) or not isinstance(layer, (str, int)):
                    raise SettingsError(
                        f"{self.where}: '{place}' holds {one_line(repr(layer))}, expected names or numbers"
                    )
                layers.append(layer)
        return tuple(layers)

    def count(self, place: str) -> int | None:
        value = self.get(place, int)
        if value is not None and value < 1:
            raise SettingsError(f"{self.where}: '{place}' is {value}, expected 1 or more")
        return None if value is None else int(value)

    def points(self, place: str) -> float | None:
        value = self.get(place, (int, float))
        if value is not None and not 0 <= value <= 100:  # NaN is not either
            raise SettingsError(f"{self.where}: '{place}' is {value}, expected 0 to 100 points")
        return None if value is None else float(value)

    def number(self, place: str, default: float, limits: tuple[float, float]) -> float:
        value = self.get(place, (int, float), default)
        if not limits[0] <= value <= limits[1]:  # NaN is not either
            raise SettingsError(f"{self.where}: '{place}' is {value}, expected {limits[0]:g} to {limits[1]:g}")
        return float(value)

    def softmax(self, place: str) -> bool:
        value = self.get(place, str, "None")
        if value not in {"softmax", "None"}:
            raise SettingsError(f"{self.where}: '{place}' is '{one_line(value)}', expected softmax or None")
        return bool(value == "softmax")

    def assumed(self, is_quantized: bool, mode: str, operations: str) -> tuple[str, ...]:
        """What decides numbers and is left open: where the calibration mode and the operations would stand."""
        lines = []
        if is_quantized and self.get(mode, str) is None:
            lines.append(f"'{mode}' is left out; taken as {_DEFAULT_MODE}, as most published files have it")
        numbered = [layer for layer in self.layers("backend.quantize.exclude_layers") if isinstance(layer, int)]
        if is_quantized and numbered:
            lines.append("'backend.quantize.exclude_layers' has numbers; taken as those of skip_conv_layers, from 0")
        if self.get(operations, list) is None:
            lines.append(
                f"'{operations}' is left out; images are taken as scaled by their short side to the input, with "
                "ImageNet's mean and std, unless vdsp_params say otherwise"
            )
        return tuple(lines)

    def ort(self) -> dict[str, Any]:
        return {
            "equalize": self.get("ort.equalize", bool, True),
            "bias_correction": self.get("ort.bias_correction", bool, True),
            "max_drop": self.points("ort.max_drop"),
            "percentile": self.number("ort.percentile", 99.9999, (50, 100)),
            "headroom": self.number("ort.headroom", 10.0, (0, 1000)),
            "weight_bits": self.one_of("ort.weight_bits", WEIGHT_BITS),
            "gptq": self.get("ort.gptq", bool, True),
            "reconstruct": self.reconstruct("ort.reconstruct"),
            "reconstruct_seconds": self.number("ort.reconstruct_seconds", 120.0, (1, 86400)),
            "runtime": self.get("ort.runtime", str, "auto"),
            "output": self.get("ort.output", str),
        }

    def sampling(self) -> dict[str, Any]:
        dataset = self.get("dataset.path", str)
        return {
            "dataset": Path(dataset) if dataset else None,
            "suffix": self.get("dataset.sampler.suffix", str),
            "images": self.count("dataset.sampler.get_data_num"),
        }


def _kinds(kind: type | tuple[type, ...]) -> tuple[type, ...]:
    return kind if isinstance(kind, tuple) else (kind,)


def _read_first(reader: _Reader, ignored: tuple[str, ...]) -> BuildConfig:
    name, shape = reader.shape("model.inputs")
    quantized = reader.get("engine.common.do_quantization", bool, False)
    modes = calibration_modes()
    mode = reader.choice("engine.calibration.quant_mode", modes, _DEFAULT_MODE)
    float_dtype = reader.choice("ort.dtype", float_dtypes(), "fp16")
    return BuildConfig(
        generation=1,
        name=reader.name("model.name"),
        checkpoint=Path(reader.get("model.checkpoint", str, required=True)),
        input_name=name,
        shape=shape,
        backend=reader.choice("engine.type", ("ort", "vacc", "debug"), "vacc"),
        precision=modes[mode].name if quantized else float_dtype,
        per_channel=reader.get("engine.calibration.per_channel", bool, True),
        skip_layers=reader.layers("engine.calibration.skip_conv_layers"),
        softmax=reader.softmax("engine.add_extra_ops_to_graph.type"),
        preprocessing=_read_operations(reader, "dataset.transform_ops", shape),
        work_dir=Path(reader.get("workspace.work_dir", str, required=True)),
        ignored=ignored,
        assumed=reader.assumed(quantized, "engine.calibration.quant_mode", "dataset.transform_ops"),
        **reader.sampling(),
        **reader.ort(),
    )


def _read_second(reader: _Reader, ignored: tuple[str, ...]) -> BuildConfig:
    name, shape = reader.shape("frontend.shape")
    modes = calibration_modes()
    quantized = modes[reader.choice("backend.quantize.calibrate_mode", modes, _DEFAULT_MODE)]
    reader.get("backend.dtype", str, required=True)
    dtype = reader.choice("backend.dtype", dict.fromkeys(one.dtype for one in PRECISIONS.values()), "")
    reader.choice("dataset.type", ("tvm",), "tvm")
    return BuildConfig(
        generation=2,
        name=reader.name("name"),
        checkpoint=Path(reader.get("frontend.checkpoint", str, required=True)),
        input_name=name,
        shape=shape,
        frontend=reader.get("frontend.type", str, "onnx"),
        backend="ort" if reader.choice("backend.type", ("ort", "tvm_vacc"), "tvm_vacc") == "ort" else "vacc",
        precision=dtype if dtype in float_dtypes() else quantized.name,
        per_channel=reader.get("backend.quantize.quantize_per_channel", bool, True),
        skip_layers=reader.layers("backend.quantize.skip_conv_layers", "backend.quantize.exclude_layers"),
        softmax=reader.softmax("graph.extra_ops.type"),
        preprocessing=_read_operations(reader, "dataset.process_ops", shape),
        work_dir=Path(reader.get("workspace.path", str, required=True)),
        ignored=ignored,
        assumed=reader.assumed(dtype == "int8", "backend.quantize.calibrate_mode", "dataset.process_ops"),
        **reader.sampling(),
        **reader.ort(),
    )


# ------------------------------------------------------------------------------------------- preprocessing operations
_OPERATIONS: dict[str, frozenset[str]] = {
    "DecodeImage": frozenset(),
    "Resize": frozenset({"size", "adaptive_side", "interpolation", "backend"}),
    "CenterCrop": frozenset({"crop_size", "size", "crop_at"}),
    "CvtColor": frozenset({"code"}),
    "Normalize": frozenset({"mean", "std", "div255"}),
    "ToTensor": frozenset(),
    "CustomFunc": frozenset({"module_path", "func_name", "img_shape"}),
}


def _read_operations(reader: _Reader, place: str, shape: tuple[int, int, int, int]) -> Preprocessing | None:
    """The preprocessing that the operations describe; None where there are none."""
    operations = reader.get(place, list)
    if operations is None:
        return None
    operations_by_kind: dict[str, Mapping[str, Any]] = {}
    for number, operation in enumerate(operations):
        spot = f"{reader.where}: '{place}[{number}]'"
        if not isinstance(operation, Mapping) or not isinstance(operation.get("type"), str):
            raise SettingsError(f"{spot} should be an operation such as {{type: DecodeImage}}")
        kind = operation["type"]
        if kind not in _OPERATIONS:
            raise SettingsError(f"{spot}: operation '{one_line(kind)}' is not known{did_you_mean(kind, _OPERATIONS)}")
        for key in operation:
            if key != "type" and key not in _OPERATIONS[kind]:
                raise SettingsError(
                    f"{spot}: {kind} has no '{one_line(key)}'{did_you_mean(str(key), _OPERATIONS[kind])}"
                )
        if kind in operations_by_kind:
            raise SettingsError(f"{spot}: {kind} stands twice")
        late = [other for other in _AFTER[kind] if other in operations_by_kind]
        if late:
            raise SettingsError(f"{spot}: {kind} stands after {late[0]}, expected before it")
        operations_by_kind[kind] = operation
    if "CustomFunc" in operations_by_kind:
        if "ort" not in (reader.get("engine.type", str), reader.get("backend.type", str)):
            raise SettingsError(
                f"{reader.where}: '{place}': CustomFunc is code for the card's compiler, which calls it another way; "
                f"describe it by {', '.join(_ORDER)}, or write a function as docs/new-model.md has it and type: ort"
            )
        return _own_code(operations_by_kind, f"{reader.where}: '{place}'", shape)
    return _preprocessing(operations_by_kind, f"{reader.where}: '{place}'", shape)


def _own_code(
    operations: Mapping[str, Mapping[str, Any]], spot: str, shape: tuple[int, int, int, int]
) -> Preprocessing:
    """Code of the user's own (data/own_code.py), which stands alone but for the decoding."""
    others = [kind for kind in operations if kind not in ("DecodeImage", "CustomFunc")]
    if others:
        raise SettingsError(f"{spot}: CustomFunc makes the model's input; leave {others[0]} out")
    operation = operations["CustomFunc"]
    size = operation.get("img_shape", list(shape[1:]))
    if size != list(shape[1:]):
        raise SettingsError(f"{spot}: CustomFunc.img_shape is {one_line(size)}, but the input is {list(shape[1:])}")
    try:
        code = f"{operation.get('module_path')}:{operation.get('func_name')}"
        return Preprocessing(EXACT, (shape[2], shape[3]), code=code)
    except SettingsError as error:
        raise SettingsError(f"{spot}: CustomFunc.module_path and func_name: {error}") from error


# CvtColor may stand anywhere between decoding and normalising: swapping planes commutes with the geometry.
_ORDER = ("DecodeImage", "Resize", "CenterCrop", "Normalize", "ToTensor")
_AFTER = {kind: _ORDER[_ORDER.index(kind) + 1 :] if kind in _ORDER else _ORDER[3:] for kind in _OPERATIONS}


def _colours(operations: Mapping[str, Mapping[str, Any]], spot: str) -> str:
    """DecodeImage gives RGB, so that either conversion swaps red and blue (inferred from the published files)."""
    if "CvtColor" not in operations:
        return "RGB"
    code = str(operations["CvtColor"].get("code")).removeprefix("COLOR_")
    codes = ("NO_CHANGE", "RGB2BGR", "BGR2RGB")
    if code not in codes:
        raise SettingsError(f"{spot}: CvtColor.code is '{one_line(code)}'{did_you_mean(code, codes)}")
    return "RGB" if code == "NO_CHANGE" else "BGR"


def _preprocessing(
    operations: Mapping[str, Mapping[str, Any]], spot: str, shape: tuple[int, int, int, int]
) -> Preprocessing:
    resize = operations.get("Resize", {"size": UNRESIZED if "CenterCrop" in operations else EXACT})
    crop = operations.get("CenterCrop", {"crop_size": list(shape[2:])})
    side = sides_from_json(crop.get("crop_size", crop.get("size")), f"{spot}: CenterCrop.crop_size")
    if as_pair(side) != shape[2:]:
        raise SettingsError(
            f"{spot}: CenterCrop gives {sides_label(side)} pixels, but the model's input has {sides_label(shape[2:])}"
        )
    size = resize_from_json(resize.get("size"), f"{spot}: Resize.size")
    adaptive = resize.get("adaptive_side")
    if adaptive not in (None, "short", "shorter", True):
        raise SettingsError(
            f"{spot}: Resize.adaptive_side is {one_line(repr(adaptive))}, expected short or none at all"
        )
    if adaptive and isinstance(size, tuple):
        size = min(size)
    if "CenterCrop" not in operations and size not in (shape[2:], EXACT):
        raise SettingsError(
            f"{spot}: Resize.size is {one_line(resize.get('size'))}, but the model's input has "
            f"{sides_label(shape[2:])} pixels, and no CenterCrop gives them"
        )
    interpolation = str(resize.get("interpolation", "bilinear")).lower()
    library = str(resize.get("backend", _usual_library(Preprocessing(size, side)))).lower()
    for key, value, values in (("interpolation", interpolation, INTERPOLATIONS), ("backend", library, LIBRARIES)):
        if value not in values:
            raise SettingsError(f"{spot}: Resize.{key} is '{one_line(value)}', expected {' or '.join(values)}")
    normalize = operations.get("Normalize", {})
    if not {"mean", "std", "div255"} & set(normalize):
        raise SettingsError(f"{spot}: no Normalize with a mean and std; for values of 0 to 1 write div255: true there")
    if ("mean" in normalize) != ("std" in normalize):
        raise SettingsError(f"{spot}: Normalize has one of mean and std; they belong together")
    divided = normalize.get("div255", True)
    if type(divided) is not bool:
        raise SettingsError(f"{spot}: Normalize.div255 is {one_line(repr(divided))}, expected true or false")
    scale = 1.0 if divided else 1 / 255
    given = [normalize.get("mean", [0.0] * 3), normalize.get("std", [1.0] * 3)]
    mean = _three(given[0], f"{spot}: Normalize.mean", scale)
    std = _three(given[1], f"{spot}: Normalize.std", scale)
    if on_another_scale(*given, divided=divided):
        bounds, right = ("0 to 255", "false") if divided else ("0 to 1", "true")
        raise SettingsError(
            f"{spot}: Normalize.mean is {given[0]}, of values of {bounds}; write div255: {right} beside it"
        )
    if not all(value > 0 for value in std):
        raise SettingsError(f"{spot}: Normalize.std is {list(std)}, expected values above zero")
    place = crop.get("crop_at")
    crop_at = tuple(place) if isinstance(place, list) else place
    try:
        return Preprocessing(size, side, interpolation, library, mean, std, _colours(operations, spot), crop_at)
    except SettingsError as error:
        raise SettingsError(f"{spot}: {error}") from None


def _usual_library(preprocessing: Preprocessing) -> str:
    """Whose resampling a build file of generation 1 means, which has no word for it."""
    return "opencv" if preprocessing.short_side is None else "pillow"


def _three(value: Any, spot: str, scale: float) -> tuple[float, float, float]:
    numbers = isinstance(value, list) and all(type(one) in (int, float) for one in value)
    if not numbers or len(value) != 3:
        raise SettingsError(f"{spot} is {one_line(repr(value))}, expected three numbers (red, green, blue)")
    return value[0] * scale, value[1] * scale, value[2] * scale


# --------------------------------------------------------------------------------------------------------- writing
def build_file(config: BuildConfig) -> dict[str, Any]:
    """The content of the build file that says what ``config`` does, in the layout of its generation."""
    content = (_write_first if config.generation == 1 else _write_second)(config)
    if config.backend == "ort":
        names = ["equalize", "bias_correction", "max_drop", "percentile", "headroom", "weight_bits", "gptq"]
        names += ["reconstruct", "reconstruct_seconds"]
        options = {name: getattr(config, name) for name in names}
        content["ort"] = {**(options if config.is_quantized else {"dtype": config.dtype}), "runtime": config.runtime}
        content["ort"] |= {} if config.output is None else {"output": config.output}
    return content


def _images(config: BuildConfig) -> dict[str, Any]:
    """Where the calibration images are; without them the section still says how images are prepared."""
    if config.dataset is None:
        return {}
    suffix = {} if config.suffix is None else {"suffix": config.suffix}
    return {"path": str(config.dataset), "sampler": {**suffix, "get_data_num": config.images}}


def _operations(preprocessing: Preprocessing, resize: Mapping[str, str]) -> list[dict[str, Any]]:
    """The operations that ``preprocessing`` consists of; ``resize`` is what they say of the resize besides its size."""
    if preprocessing.code is not None:
        file, function = split_code(preprocessing.code)
        shape = list(preprocessing.shape)
        return [
            {"type": "DecodeImage"},
            {"type": "CustomFunc", "module_path": file, "func_name": function, "img_shape": shape},
        ]
    conversion = [{"type": "CvtColor", "code": "COLOR_RGB2BGR"}] if preprocessing.colours == "BGR" else []
    place = {} if preprocessing.crop_at is None else {"crop_at": list(preprocessing.crop_at)}
    return [
        {"type": "DecodeImage"},
        {"type": "Resize", "size": resize_to_json(preprocessing.resize), **resize},
        {"type": "CenterCrop", "crop_size": list(preprocessing.size), **place},
        *conversion,
        {"type": "Normalize", "mean": list(preprocessing.mean), "std": list(preprocessing.std)},
        {"type": "ToTensor"},
    ]


def _write_first(config: BuildConfig) -> dict[str, Any]:
    content: dict[str, Any] = {
        "model": {
            "name": config.name,
            "inputs": {config.input_name: list(config.shape)},
            "checkpoint": str(config.checkpoint),
        },
        "engine": {
            "type": config.backend,
            "common": {"do_quantization": config.is_quantized, **config.compile_options},
            "add_extra_ops_to_graph": {"type": "softmax" if config.softmax else "None"},
        },
    }
    if config.mode is not None:
        calibration: dict[str, Any] = {"quant_mode": config.mode, "per_channel": config.per_channel}
        if config.skip_layers:
            calibration["skip_conv_layers"] = list(config.skip_layers)
        calibration |= config.quantize_options
        content["engine"]["calibration"] = calibration
    if config.preprocessing is not None:
        operations = _operations(config.preprocessing, _beyond_first(config.preprocessing))
        content["dataset"] = {**_images(config), "transform_ops": operations}
    content["workspace"] = {"work_dir": str(config.work_dir), "enable_ir": False, "save_log": True}
    return content


def _beyond_first(preprocessing: Preprocessing) -> dict[str, str]:
    """What generation 1 has no words for, said only where it differs from what a reader would assume."""
    extra = {}
    if preprocessing.interpolation != "bilinear":
        extra["interpolation"] = preprocessing.interpolation
    if preprocessing.library != _usual_library(preprocessing):
        extra["backend"] = preprocessing.library
    return extra


def _write_second(config: BuildConfig) -> dict[str, Any]:
    backend: dict[str, Any] = {"type": "ort" if config.backend == "ort" else "tvm_vacc", "dtype": config.dtype}
    if config.compile_options:
        backend["compile"] = dict(config.compile_options)
    if config.mode is not None:
        backend["quantize"] = {"calibrate_mode": config.mode, "quantize_per_channel": config.per_channel}
        if config.skip_layers:
            backend["quantize"]["exclude_layers"] = list(config.skip_layers)
        backend["quantize"] |= config.quantize_options
    content: dict[str, Any] = {
        "name": config.name,
        "frontend": {
            "type": config.frontend,
            "checkpoint": str(config.checkpoint),
            "dtype": "fp32",
            "shape": {config.input_name: list(config.shape)},
        },
        "backend": backend,
    }
    if config.softmax:
        content["graph"] = {"extra_ops": {"type": "softmax"}}
    if config.preprocessing is not None:
        resize = {"interpolation": config.preprocessing.interpolation, "backend": config.preprocessing.library}
        operations = _operations(config.preprocessing, resize)
        content["dataset"] = {"type": "tvm", **_images(config), "process_ops": operations}
    content["workspace"] = {"path": str(config.work_dir), "enable_ir": False, "save_log": True}
    return content
