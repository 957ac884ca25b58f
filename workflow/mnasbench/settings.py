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

from mnasbench.errors import SettingsError, did_you_mean, one_line
from mnasbench.files import read_yaml
from mnasbench.precisions import PRECISIONS
from mnasbench.preprocessing import Preprocessing, Resize, resize_from_json
from mnasbench.presets import TIMM_PRETRAINED, Preset, preset, preset_of_file
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
        near = did_you_mean(str(error.instance), [str(value) for value in error.validator_value])
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

    @property
    def size(self) -> int:
        """Side of the square input in pixels."""
        return self.preprocessing.size[0]

    @property
    def weights_are_file(self) -> bool:
        """Whether ``weights`` is the path of a file (and neither the demo's nor a published name)."""
        return _is_path(self.weights)


def _is_path(weights: str) -> bool:
    # No published name has a dot or a slash, and a file of weights has a suffix or stands in a folder.
    return "." in weights or "/" in weights


def _model(variant: str, entry: Mapping[str, Any]) -> ModelSettings:
    library, name, weights = entry["library"], entry["name"] or variant, entry["weights"]
    named = None if weights in {DEMO, TIMM_PRETRAINED} or _is_path(weights) else weights
    try:
        file = Path(weights) if _is_path(weights) else None
        published = preset_of_file(library, name, file, entry["sha256"]) if file else preset(library, name, named)
    except SettingsError as error:
        raise SettingsError(one_line(f"models.{variant}: {error}")) from None
    size = entry["size"] or published.size
    resize: Resize = published.resize_for(size)
    if entry["resize"] is not None:
        resize = resize_from_json(entry["resize"], f"models.{variant}.resize")
    try:
        preprocessing = replace(published.preprocessing, resize=resize, crop=size)
    except SettingsError as error:
        raise SettingsError(f"models.{variant}: {error} (resize and size)") from None
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
    )


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
    models = {variant: _model(variant, entry or {}) for variant, entry in values["models"].items()}
    settings = Settings(values, models)
    if settings["engine"] == "vacc":
        _check_card(settings)
    demo_weights = [model.variant for model in models.values() if model.weights == DEMO]
    if demo_weights and not settings.is_demo:
        raise SettingsError(
            f"models.{demo_weights[0]}.weights: demo weights know the demo set's classes only, but dataset.root is "
            f"'{one_line(values['dataset']['root'])}'; give a weights file or a published name such as IMAGENET1K_V1"
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


def _check_card(settings: Settings) -> None:
    """SettingsError for what only the embedded engine can do."""
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
    if settings["npz"] == "preprocessed":
        return
    for model in settings.models.values():
        if model.preprocessing.fixed_size is None and settings["vdsp_params"] == "current":
            raise SettingsError(
                f"models.{model.variant}.resize: {model.preprocessing.resize} is a short side, which vdsp_params of "
                "the form 'current' cannot tell the card; use npz: preprocessed, vdsp_params: '2023', or "
                "resize: [height, width]"
            )
