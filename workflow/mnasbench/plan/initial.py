"""A configuration for a folder of images and a model, with the reason of every decision as a comment beside it."""

import os
import re
import stat
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from mnasbench.data.available import check_data, mode_of
from mnasbench.data.choice import calibration_choice
from mnasbench.data.class_order import imagenet_wnids, is_wnid
from mnasbench.data.contact_sheet import contact_sheet
from mnasbench.data.labels import is_table
from mnasbench.data.layouts import Dataset, Labelled, labelled
from mnasbench.errors import DatasetError, SettingsError, did_you_mean, one_line
from mnasbench.model.onnx_import import import_onnx
from mnasbench.model.torchvision_import import import_timm
from mnasbench.onnx_file import image_input, read_onnx
from mnasbench.plan import steps
from mnasbench.plan.configured import numbered, require_free_names
from mnasbench.plan.early import look_ahead
from mnasbench.plan.model_classes import model_classes
from mnasbench.presets import IMAGENET_CLASSES, LIBRARIES, TIMM_PRETRAINED, preset
from mnasbench.settings import DEMO, IMAGENET_NAMES, Settings, load_settings

SHEET_IMAGES = 6
# Of a graph that takes images of any size: that of most classifiers.
GUESSED_SIZE = 224
# As the model card calibrates; of fewer images a fifth, which leaves most of them to be judged.
CALIBRATION_IMAGES, CALIBRATION_SHARE = 1000, 5
IMAGENET_IMAGES = 50_000
_WIDTH = 110
# What a comment or a name cannot be made of.
_NO_WORD = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Initial:
    """A configuration that holds, as text; the sheet of its images as a PNG; and what was decided, in a few lines."""

    text: str
    sheet: bytes
    lines: tuple[str, ...]


def initial_configuration(data: Path, model: str, weights: Path | None = None) -> Initial:
    """Look at a dataset (its folder, its folder of images, or its CSV) and a model, and decide on every setting.

    ``model``: an ONNX file, ``timm:<name>`` or ``torchvision:<name>``, whose ``weights`` may be a file. Raises in one
    line what is wrong with either, as `make check` does.
    """
    variant, entry, on_entry = _model(model, weights)
    dataset, on_dataset = _dataset(data)
    images = labelled(described(dataset))
    name, on_name = _name(data, images)
    calibration, on_number, on_split = _calibration(images, name)
    values: dict[str, Any] = {
        "dataset": {"name": name, **dataset},
        "calibration": calibration,
        "models": {variant: entry},
        "precisions": ["fp32", "fp16", "int8-percentile"],
    }
    settings = load_settings(values)
    require_free_names(settings, steps.STEPS)
    extent = check_data(settings, outputs=partial(model_classes, settings))
    if extent.numbering is not None:
        values["dataset"]["classes"] = extent.numbering
        settings = numbered(settings, extent.numbering)
        images = labelled(described(values["dataset"]))
    (on_model,) = look_ahead(settings, extent)
    on_model = on_model.removeprefix(f"models.{variant}: ")
    comments = {
        "dataset": [f"{extent.images} images, {images.message}"],
        "dataset.name": [on_name],
        "dataset.root": on_dataset,
        "dataset.classes": [f"classes are numbered {images.order.reason}"],
        "calibration.images": [on_number],
        "calibration.split": [on_split],
        f"models.{variant}": [on_model],
        **{f"models.{variant}.{key}": lines for key, lines in on_entry.items()},
        "precisions": ["fp32 is what the others are compared with; int8-max, -mse, -kl_divergence: config/README.md"],
    }
    sheet = contact_sheet(described(dataset).root, _six(settings, images), settings.models[variant].preprocessing)
    calibrated = f"calibration: {calibration['images']} images, {on_number}; {on_split}"
    guesses = [f"{key}: {line}" for key, texts in on_entry.items() for line in texts]
    lines = (f"data: {extent.images} images, {images.message}", f"model: {on_model}", *guesses, calibrated)
    return Initial(_text(values, comments), sheet, lines)


def described(dataset: Mapping[str, Any]) -> Dataset:
    """The dataset of an entry of the configuration."""
    labels = Path(dataset["labels"]) if "labels" in dataset else None
    return Dataset(Path(dataset["root"]), labels, numbering=dataset.get("classes"))


# ------------------------------------------------------------------------------------------------------------- model
def _model(model: str, weights: Path | None) -> tuple[str, dict[str, Any], dict[str, list[str]]]:
    """The variant's name, its entry in ``models``, and comments on its keys."""
    library, colon, name = model.partition(":")
    if colon and library in LIBRARIES:
        entry: dict[str, Any] = {"library": library, "name": name}
        if weights is not None:
            entry["weights"] = _absolute(weights)
            return _variant(name), entry, {}
        entry["weights"] = TIMM_PRETRAINED if library == "timm" else preset(library, name).entry
        return _variant(name), entry, {"weights": ["the published ones, which the run downloads"]}
    is_onnx = model.lower().endswith(".onnx")
    if is_onnx or Path(model).is_file():
        if not is_onnx:
            raise SettingsError(
                f"MODEL: {one_line(model)} is a file, but no .onnx; for weights name their architecture, too: "
                "MODEL=torchvision:<name> (or timm:<name>) WEIGHTS=<file>"
            )
        if weights is not None:
            raise SettingsError("WEIGHTS: belongs to MODEL=timm:<name> or torchvision:<name>; an ONNX file has its own")
        return _variant(Path(model).stem), *_onnx(Path(model))
    near = did_you_mean(library, LIBRARIES) if colon else ""
    raise SettingsError(
        f"MODEL: {one_line(model)!r} is neither an ONNX file nor timm:<name> or torchvision:<name>{near}"
    )


def _onnx(path: Path) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The entry of an ONNX file, and comments on its keys: what the graph shows of its images, and what is a guess."""
    image = image_input(read_onnx(path, with_weights=False), one_line(path))
    entry: dict[str, Any] = {"onnx": _absolute(path)}
    guess = (
        "how its images are prepared stands in no ONNX file: resize, mean, std and colours are a guess until you say"
    )
    comments = {"onnx": [f"{guess} what it was trained with (config/README.md)"]}
    height, width = image.height or GUESSED_SIZE, image.width or GUESSED_SIZE
    if image.height is None or image.width is None:
        entry["size"] = height if height == width else [height, width]
        comments["size"] = ["a guess: the graph takes images of any size, and does not say which it was trained on"]
    most = import_onnx(path, (height, width)).most
    if most is not None:
        entry |= {"mean": [0, 0, 0], "std": [1, 1, 1], "scale": [0, most]}
        comments["mean"] = ["no guess: the graph takes values as they are, and normalises them itself if at all"]
    return entry, comments


def _variant(name: str) -> str:
    """A name that results can be called by."""
    word = _NO_WORD.sub("_", name).replace("-", "_").strip("_.")[:90]
    if word in {"all", *steps.STEPS}:  # both would be targets
        return f"{word}_net"
    return word if word and word[0].isalnum() else f"net{word}"


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - a link of the user's stays one, but `..` goes


# -------------------------------------------------------------------------------------------------------------- data
def _dataset(data: Path) -> tuple[dict[str, str], list[str]]:
    """The entries that say where a dataset is, and comments on that; DatasetError where it is none."""
    if is_table(data):
        here = Path(_absolute(data))
        return {"root": str(here.parent), "labels": str(here)}, [
            "the folder of the CSV; what it does not name is not used"
        ]
    mode = mode_of("DATA", data)
    if mode is None or not stat.S_ISDIR(mode):
        raise DatasetError(f"DATA: {one_line(data)} is no folder, and no CSV of paths and labels")
    root, comments = Path(_absolute(data)), []
    if root.name == "val" and not (root / "val").is_dir():
        root, comments = root.parent, ["the folder that val/ is in"]
    return {"root": str(root)}, comments


def _name(data: Path, images: Labelled) -> tuple[str, str]:
    """What the dataset is called in paths and tables."""
    folder = Path(_absolute(data.with_suffix("") if is_table(data) else data))
    word = next((part for part in reversed(folder.parts) if part.lower() not in ("val", "images", "data")), "mine")
    word = _NO_WORD.sub("_", word).strip("_.-")[:80] or "mine"
    is_whole = len(images.files) == IMAGENET_IMAGES and set(images.order.indices) >= set(imagenet_wnids())
    if is_whole:
        return "imagenet", "all of ImageNet's validation set, so published accuracies stand beside"
    if word.lower() in IMAGENET_NAMES:
        return f"{word}-{len(images.files)}", "a part of ImageNet, so published accuracies do not compare"
    if word.lower() == DEMO:
        return f"{word}-{len(images.files)}", "as it is called; demo is the set that the project makes"
    return word, "as it is called; a name of its own keeps its results apart"


def _calibration(images: Labelled, name: str) -> tuple[dict[str, Any], str, str]:
    """How many images int8 ranges are taken from, and whether they are judged, too; and the reason of either."""
    classes, count = len(set(images.classes.values())), len(images.files)
    chosen = min(count, max(classes, min(CALIBRATION_IMAGES, count // CALIBRATION_SHARE)))
    why = "the model card's number" if chosen == CALIBRATION_IMAGES else f"a fifth of the {count}"
    if chosen == classes:
        why = "one of every class, which is the least"
    if name in IMAGENET_NAMES:
        return {"images": chosen, "split": False}, why, "all images are judged, as the published accuracies are"
    others = set(images.classes) - set(calibration_choice(images.classes, chosen, seed=0))
    without = classes - len({images.classes[name] for name in others})
    if not without:
        judged = f"these {chosen} are not judged, the other {count - chosen} are"
        return {"images": chosen, "split": True}, why, judged
    judged = (
        f"calibration images are judged, too: without them {without} of {classes} classes have no image; source names "
        "a folder to calibrate with instead"
    )
    return {"images": chosen, "split": False}, why, judged


def _six(settings: Settings, images: Labelled) -> list[tuple[str, str]]:
    """Six images, of different classes where there are as many, and what each is."""
    chosen = calibration_choice(images.classes, SHEET_IMAGES, settings["calibration"]["seed"])
    chosen.sort(key=lambda name: images.classes[name])
    label = _labels(settings, images)
    return [(name, label(images.classes[name])) for name in chosen]


def _labels(settings: Settings, images: Labelled) -> Callable[[int], str]:
    """What to call a class by its index: its name in words, where ImageNet's are meant for certain."""
    names = {index: name for name, index in images.order.indices.items()}
    (model,) = settings.models.values()
    is_imagenets = not model.weights_are_file and model.preset.classes == IMAGENET_CLASSES
    imagenet = import_timm().data.ImageNetInfo() if is_imagenets or any(map(is_wnid, names.values())) else None

    def label(index: int) -> str:
        name = names.get(index, "")
        if imagenet is not None and is_wnid(name):
            return f"{imagenet.label_name_to_description(name, detailed=False)} ({index})"
        if name not in ("", str(index)):
            return f"{name} ({index})"
        return f"{imagenet.index_to_description(index)} ({index})" if imagenet and is_imagenets else f"class {index}"

    return label


# -------------------------------------------------------------------------------------------------------------- text
def _text(values: Mapping[str, Any], comments: Mapping[str, Sequence[str]]) -> str:
    """The configuration as YAML; keys and values are quoted by the YAML library."""
    lines = [
        "# yaml-language-server: $schema=config/schema.yaml",
        "# Written by `make init`. Every line is a decision, with its reason; change what you know better, and call",
        "# `make check` after that. All settings: config/README.md",
    ]
    for key, value in values.items():
        lines += ["", *_entry(key, value, comments, 0, key)]
    return "\n".join(lines) + "\n"


def _entry(key: str, value: Any, comments: Mapping[str, Sequence[str]], depth: int, place: str) -> list[str]:
    indent = "  " * depth
    own = [one_line(comment) for comment in comments.get(place, ())]
    line = f"{indent}{_yaml({key: None if isinstance(value, Mapping) else value})}"
    if isinstance(value, Mapping):
        line = line.removesuffix(" null")
    if len(own) == 1 and len(line) + len(own[0]) + 4 <= _WIDTH:
        lines = [f"{line}  # {own[0]}"]
    else:
        room = _WIDTH - len(indent)
        above = (text for comment in own for text in textwrap.wrap(comment, room, break_long_words=False))
        lines = [*(f"{indent}# {text}" for text in above), line]
    if isinstance(value, Mapping):
        for below, entry in value.items():
            lines += _entry(below, entry, comments, depth + 1, f"{place}.{below}")
    return lines


def _yaml(entry: Mapping[str, Any]) -> str:
    """A key and its value in one line of YAML."""
    ((key, value),) = entry.items()
    if isinstance(value, list):
        return f"{_yaml({key: None}).removesuffix('null')}{_dumped(value, is_flow=True)}"
    return _dumped(dict(entry), is_flow=False)


def _dumped(value: Any, is_flow: bool) -> str:
    text: str = yaml.safe_dump(value, allow_unicode=True, default_flow_style=is_flow, width=float("inf"))
    return text.rstrip("\n")
