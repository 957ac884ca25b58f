"""The configuration: validated once, with every default filled in, and asked by name from then on.

``config/schema.yaml`` is the only place where keys, types and defaults stand; the names of precisions and
runtimes come from :mod:`mnasbench.precisions` and :mod:`mnasbench.runtimes`.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema

from mnasbench.card_options import check_options
from mnasbench.errors import InputError, SettingsError, did_you_mean, one_line
from mnasbench.files import read_yaml
from mnasbench.onnx_file import own_size
from mnasbench.precisions import PRECISIONS, is_quantized
from mnasbench.preprocessing import (
    EXACT,
    INTERPOLATIONS,
    UNRESIZED,
    Preprocessing,
    Resize,
    Size,
    as_pair,
    resize_from_json,
    sides_from_json,
    sides_label,
)
from mnasbench.presets import TIMM_PRETRAINED, Preset, preset, preset_of_file, preset_of_onnx
from mnasbench.runtimes import AUTO, RUNTIMES

SCHEMA_FILE = Path(__file__).resolve().parents[2] / "config" / "schema.yaml"
DEMO = "demo"
# What make_demo.py draws, known before it has.
DEMO_IMAGES = {"train": 2000, "val": 1000}
DEMO_CLASSES = 24
# A part or a sample of it must be named otherwise: published accuracies are those of all 50,000 images.
IMAGENET_NAMES = frozenset({"imagenet", "imagenet1k", "imagenet-1k", "ilsvrc2012"})


@functools.cache
def schema() -> dict[str, Any]:
    """The JSON schema of the configuration."""
    content: dict[str, Any] = read_yaml(SCHEMA_FILE)
    content["properties"]["precisions"]["items"]["enum"] = list(PRECISIONS)
    content["properties"]["runtime"]["enum"] = [AUTO, *RUNTIMES]
    model = content["properties"]["models"]["additionalProperties"]["properties"]
    model["interpolation"]["enum"] = [*INTERPOLATIONS, None]
    return content


# JSON Schema takes 2.0 for an integer, which `range` does not, and NaN for a number within any bounds.
_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: type(value) is int,
            "number": lambda _, value: type(value) in (int, float) and math.isfinite(value),
        }
    ),
)


def _place(path: Any) -> str:
    return ".".join(str(part) for part in path) or "the configuration"


def _explain(error: Any) -> str:
    """One line for the first thing that the schema refuses."""
    where = _place(error.absolute_path)
    if error.validator == "additionalProperties":
        allowed = error.schema.get("properties", {})
        unknown = sorted(str(key) for key in error.instance if key not in allowed)[0]
        return f"{where}: unknown key '{unknown}'{did_you_mean(unknown, allowed)}"
    if error.validator == "enum":
        words = [str(value) for value in error.validator_value if value is not None]
        near = did_you_mean(str(error.instance), words)
        return f"{where}: {error.instance!r} is not one of the values this setting takes{near}"
    if error.validator == "oneOf":
        about = " ".join(error.schema.get("description", "").split())
        return f"{where}: {error.instance!r} does not fit. {about}"
    if error.validator == "pattern":
        pattern = error.validator_value.partition("(?!")[0]
        return f"{where}: {error.instance[:200]!r} does not match {pattern}"
    return f"{where}: {one_line(error.message)}"


def _with_defaults(value: Any, rules: Mapping[str, Any]) -> Any:
    if not isinstance(value, Mapping):
        return value
    complete = dict(value)
    for key, rule in rules.get("properties", {}).items():
        if key not in complete and "default" in rule:
            complete[key] = rule["default"]
        if key in complete:
            complete[key] = _with_defaults(complete[key], rule)
    entries = rules.get("additionalProperties")
    if isinstance(entries, Mapping):
        complete = {key: _with_defaults(entry, entries) for key, entry in complete.items()}
    return complete


@dataclass(frozen=True)
class ModelSettings:
    """One variant: where its architecture and weights come from, and how it wants its images."""

    variant: str
    library: str
    name: str
    weights: str
    sha256: str | None
    preprocessing: Preprocessing
    preset: Preset
    weights_key: str | None = None
    transform_input: bool = True
    own: tuple[str, ...] = ()
    is_onnx: bool = False
    output: str | None = None

    @property
    def preprocessing_text(self) -> str:
        """Whose preprocessing this is, why, and what it is."""
        whose = f"preprocessing of {self.preset.entry or 'the published weights'} ({self.preset.reason})"
        own = f", but with your own {', '.join(self.own)}" if self.own else ""
        return f"{whose}{own}: {self.preprocessing.text}"

    @property
    def size(self) -> int | Size:
        """Side of the input in pixels; (height, width) of one that is not square."""
        return self.preprocessing.crop

    @property
    def size_label(self) -> str:
        """Names the size in a path: ``224``, ``48x192``."""
        return sides_label(self.size)

    @property
    def weights_are_file(self) -> bool:
        """Whether ``weights`` is the path of a file (and neither the demo's nor a published name)."""
        return self.is_onnx or _is_path(self.weights)


def _is_path(weights: str) -> bool:
    # No published name has a dot or a slash, and a file of weights has a suffix or stands in a folder.
    return "." in weights or "/" in weights


def _own_onnx(variant: str, entry: Mapping[str, Any], given: Mapping[str, Any]) -> ModelSettings:
    """A variant that is the user's own ONNX file; ``given``: what the configuration itself says of it."""
    place = f"models.{variant}"
    for key in ("library", "name", "weights", "weights_key", "transform_input"):
        if given.get(key) is not None:
            raise SettingsError(f"{place}: onnx stands in place of {key}; leave one of the two out")
    file, crop = Path(entry["onnx"]), entry["crop"] if entry["crop"] != UNRESIZED else None
    asked = entry["size"] or crop
    try:
        size = own_size(file, None if asked is None else as_pair(sides_from_json(asked, f"{place}.size")))
    except InputError as error:
        raise type(error)(f"{place}.onnx: {error}") from None
    published = preset_of_onnx(size)
    return ModelSettings(
        variant,
        "onnx",
        variant,
        str(file),
        entry["sha256"],
        _preprocessing(place, entry, published),
        published,
        own=tuple(key for key in _OWN if entry[key] is not None),
        is_onnx=True,
        output=entry["output"],
    )


def _model(variant: str, entry: Mapping[str, Any], given: Mapping[str, Any]) -> ModelSettings:
    if entry["onnx"] is not None:
        return _own_onnx(variant, entry, given)
    if entry["output"] is not None:
        raise SettingsError(f"models.{variant}.output: belongs to an onnx file, and there is none")
    library, name, weights = entry["library"], entry["name"] or variant, entry["weights"]
    if weights.lower().endswith(".onnx"):
        raise SettingsError(
            f"models.{variant}.weights: {one_line(weights)} is an ONNX file; write onnx: in place of library, name and "
            "weights"
        )
    named = None if weights in {DEMO, TIMM_PRETRAINED} or _is_path(weights) else weights
    try:
        file = Path(weights) if _is_path(weights) else None
        published = preset_of_file(library, name, file, entry["sha256"]) if file else preset(library, name, named)
    except SettingsError as error:
        raise SettingsError(one_line(f"models.{variant}: {error}")) from None
    preprocessing = _preprocessing(f"models.{variant}", entry, published)
    if entry["weights_key"] is not None and not _is_path(weights):
        raise SettingsError(
            f"models.{variant}.weights_key: belongs to weights from a file, not to '{one_line(weights)}'"
        )
    return ModelSettings(
        variant,
        library,
        name,
        weights,
        entry["sha256"],
        preprocessing,
        published,
        entry["weights_key"],
        entry["transform_input"],
        tuple(key for key in _OWN if entry[key] is not None),
    )


# What a user may say of a model's preprocessing.
_OWN = ("size", "resize", "crop", "interpolation", "resampling", "mean", "std", "scale", "colours", "preprocess")


def _preprocessing(place: str, entry: Mapping[str, Any], published: Preset) -> Preprocessing:
    """The published preprocessing with what the user says otherwise; SettingsError where that contradicts itself."""
    if entry["preprocess"] is not None:
        other = next((key for key in _OWN[1:-1] if entry[key] is not None), None)
        if other is not None:
            raise SettingsError(f"{place}.{other}: preprocess makes the net's input; leave {other} out")
        size = sides_from_json(entry["size"] or published.preprocessing.crop, f"{place}.size")
        try:
            return Preprocessing(EXACT, size, code=entry["preprocess"])
        except SettingsError as error:
            raise SettingsError(f"{place}.preprocess: {error}") from None
    crop = None if entry["crop"] in (None, UNRESIZED) else sides_from_json(entry["crop"], f"{place}.crop")
    if crop is not None and not all(8 <= side <= 1024 for side in as_pair(crop)):
        raise SettingsError(f"{place}.crop is {one_line(entry['crop'])}, expected 8 to 1024 pixels, as of size")
    size = sides_from_json(entry["size"] or crop or published.size, f"{place}.size")
    resize: Resize = published.resize_for(size)
    if entry["resize"] is not None:
        resize = resize_from_json(entry["resize"], f"{place}.resize")
    if resize == UNRESIZED and crop is None:
        resize = EXACT
    own: dict[str, Any] = {"resize": resize, "crop": size, **_values(place, entry, published.preprocessing)}
    for key, name in (("interpolation", "interpolation"), ("resampling", "library")):
        if entry[key] is not None:
            own[name] = entry[key]
    try:
        preprocessing = replace(published.preprocessing, **own)
    except SettingsError as error:
        raise SettingsError(f"{place}: {error}") from None
    if crop is not None and as_pair(crop) != preprocessing.size:
        raise SettingsError(
            f"{place}.crop: {one_line(entry['crop'])} is not size ({one_line(entry['size'])}), which the net takes; "
            "leave one of the two out"
        )
    if entry["crop"] == UNRESIZED and not preprocessing.fills_input:
        height, width = preprocessing.size
        raise SettingsError(
            f"{place}.crop: none, but resize ({preprocessing.resize_text}) does not give the input's {height} x "
            f"{width} pixels; write resize: [{height}, {width}] or {{fit: [{height}, {width}]}}"
        )
    return preprocessing


def _values(place: str, entry: Mapping[str, Any], published: Preprocessing) -> dict[str, Any]:
    """Mean and standard deviation on values in 0..1, and the order of colours."""
    given = {key: entry[key] for key in ("mean", "std") if entry[key] is not None}
    colours = entry["colours"] or published.colours
    values: dict[str, Any] = {"colours": colours}
    if colours != published.colours:  # each colour keeps its own
        values |= {"mean": published.mean[::-1], "std": published.std[::-1]}
    if entry["scale"] is not None and len(given) < 2:
        raise SettingsError(
            f"{place}.scale: says what mean and std are on; give both (for pixels as they are: mean: [0, 0, 0], "
            "std: [1, 1, 1], scale: [0, 255])"
        )
    most = entry["scale"][1] if entry["scale"] else 1
    for key, numbers in given.items():
        least = 0 if key == "mean" else math.ulp(0.0)
        if not all(least <= number <= most for number in numbers):
            near = "; for values of 0..255 write scale: [0, 255]" if most == 1 and max(numbers) > 1 else ""
            what = "0" if key == "mean" else "above 0"
            raise SettingsError(f"{place}.{key}: {numbers} is not within {what} to {most}, as scale has it{near}")
        if most > 1 and 0 < max(numbers) <= 1 and not (key == "std" and set(numbers) == {1}):
            raise SettingsError(
                f"{place}.{key}: {numbers} is of values of 0..1, but scale is [0, 255]; write scale: [0, 1], or the "
                "numbers of 0..255"
            )
        values[key] = tuple(float(number) / most for number in numbers)
    return values


@dataclass(frozen=True)
class Settings:
    """The whole configuration, complete and consistent."""

    values: dict[str, Any]
    models: dict[str, ModelSettings]

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    @property
    def is_demo(self) -> bool:
        """Whether the dataset is the one that the project makes itself."""
        return bool(self["dataset"]["root"] == DEMO)

    def engine_of(self, precision: str) -> str:
        """The engine that makes the rows of a precision: the embedded one also where the card has no such precision."""
        return self["engine"] if PRECISIONS[precision].card_generations else "ort"

    def on_card(self, precision: str) -> bool:
        """Whether the vendor's tools make the rows of a precision."""
        return self.engine_of(precision) == "vacc"

    @property
    def conditioning_target(self) -> str:
        """The compiler that graphs are conditioned for (:data:`mnasbench.build.condition.TARGETS`)."""
        return "vamc" if self["engine"] == "vacc" else "onnxruntime"

    def is_conditioned(self, precision: str) -> bool:
        """Whether the compiler of a precision is given the conditioned graph.

        On its own (auto) only the card's: the embedded one equalizes by itself.
        """
        asked = self["engine"] == "vacc" if self["condition"] == "auto" else bool(self["condition"])
        return asked and is_quantized(precision) and self.engine_of(precision) == self["engine"]

    @property
    def dataset_is_imagenet(self) -> bool:
        """Whether published accuracies are comparable: the name says which dataset this is."""
        return str(self["dataset"]["name"]).lower() in IMAGENET_NAMES


def load_settings(config: Mapping[str, Any]) -> Settings:
    """Validate a configuration as read from its files, fill in defaults, and check what no schema can.

    Raises SettingsError: one line with the key, what stands there, and what was expected.
    """
    stray = _no_word(config)
    if stray is not None:
        raise SettingsError(f"{one_line(stray)}: a name is expected here; put it in quotes where it is meant as one")
    errors = sorted(_Validator(schema()).iter_errors(dict(config)), key=lambda e: len(e.absolute_path))
    if errors:
        raise SettingsError(one_line(_explain(errors[0])[:1000]))
    # Not of the schema: an editor would miss them in a file that goes on top of another.
    if "models" not in config:
        raise SettingsError("models: is missing; name at least one variant, such as models: {mnasnet0_5: {}}")
    values = _with_defaults(config, schema())
    models = {
        variant: _model(variant, entry or {}, config["models"][variant] or {})
        for variant, entry in values["models"].items()
    }
    settings = Settings(values, models)
    if settings["engine"] == "vacc":
        _check_card(settings)
    _check_vdsp_params(settings)
    demo_weights = [model.variant for model in models.values() if model.weights == DEMO]
    if demo_weights and not settings.is_demo:
        raise SettingsError(
            f"models.{demo_weights[0]}.weights: demo weights know the demo set's classes only, but dataset.root is "
            f"'{one_line(values['dataset']['root'])}'; give a weights file or a published name such as IMAGENET1K_V1"
        )
    published = [model.variant for model in models.values() if not (model.weights == DEMO or model.weights_are_file)]
    if published and settings.is_demo:
        raise SettingsError(
            f"models.{published[0]}.weights: published weights know ImageNet's classes, not those of the demo set, "
            "which dataset.root is; name your images in dataset.root"
        )
    return settings


def _no_word(value: Any, place: str = "") -> str | None:
    """The place of the first key that is no text (YAML reads ``1_0:``, ``on:`` and an empty one as something else)."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            below = f"{place}.{key}" if place else str(key)
            word = _no_word(entry, below) if isinstance(key, str) else below
            if word is not None:
                return word
    return None


def card_options(settings: Settings) -> dict[str, Any]:
    """The card's own options, by section of its build file."""
    return {section: settings["vacc"][section] for section in ("compile", "quantize")}


def _check_card(settings: Settings) -> None:
    """SettingsError for what only the embedded engine can do, and for options that contradict other settings."""
    check_options(card_options(settings), bool(settings["quantize"]["skip_layers"]))
    generation = settings["vacc"]["generation"]
    for name in settings["precisions"]:
        generations = PRECISIONS[name].card_generations
        if generations and generation not in generations:
            raise SettingsError(
                f"precisions: {name} is none that vamc's generation {generation} builds; leave it out, or set "
                f"vacc.generation: {generations[0]}"
            )
    if settings["vamp"]["instances"] == "auto":
        raise SettingsError(
            "vamp.instances: auto is searched on a CPU only; with engine: vacc name a number (the model card: 8)"
        )
    for model in settings.models.values():
        if model.preprocessing.code is not None:
            raise SettingsError(
                f"models.{model.variant}.preprocess: gives float32 inputs, and the card takes uint8 pixels; say it by "
                "resize, mean, std and what else config/README.md lists"
            )


def _check_vdsp_params(settings: Settings) -> None:
    """SettingsError for what vdsp_params would have to tell whoever resizes whole images, and have no word for."""
    form = settings["vdsp_params"]
    for model in settings.models.values():
        if isinstance(model.size, tuple) and form == "2023":
            raise SettingsError(
                f"vdsp_params: the form '2023' has one number for an input's size, and models.{model.variant}.size is "
                f"{list(model.size)}; use the form current or sdk1.0"
            )
    if settings["npz"] == "preprocessed":
        return
    for model in settings.models.values():
        p, place = model.preprocessing, f"models.{model.variant}.resize"
        if p.word_for_vdsp is not None:
            raise SettingsError(f"{place}: vdsp_params have no word for {p.word_for_vdsp}; use npz: preprocessed")
        # sdk1.0 has an op for a resize alone.
        if p.short_side is None and form != "current" and not (form == "sdk1.0" and p.fixed_size == p.size):
            raise SettingsError(
                f"{place}: {list(p.fixed_size or ())} is a fixed size, which vdsp_params of the form '{form}' have no "
                "word for; use npz: preprocessed, or vdsp_params: current"
            )
        if p.short_side is not None and form == "current" and settings["engine"] == "vacc":
            raise SettingsError(
                f"{place}: {p.short_side} is a short side, which vdsp_params of the form 'current' cannot tell the "
                "card; use npz: preprocessed, vdsp_params: '2023', or resize: [height, width]"
            )
