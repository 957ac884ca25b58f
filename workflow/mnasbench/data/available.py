"""Is there what the configuration asks for? Answered before any job starts, from names and counts alone.

Light on purpose (no numpy, no Pillow): Snakemake asks it before it plans anything.
"""

import contextlib
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mnasbench.data.choice import calibration_choice, sample_of, shard_of
from mnasbench.data.class_names import read_class_names, require_names_of
from mnasbench.data.class_order import ClassOrder, Numbering, require_outputs
from mnasbench.data.image_keys import composed
from mnasbench.data.layouts import Dataset, Labelled, beside, labelled, layout_of
from mnasbench.data.listing import Listing
from mnasbench.disk_room import free_bytes, on_disk
from mnasbench.errors import DatasetError, OutputError, SettingsError, named, one_line
from mnasbench.precisions import is_quantized
from mnasbench.preprocessing import Preprocessing, split_code
from mnasbench.settings import DEMO_CLASSES, DEMO_IMAGES, Settings

# What logs, locks and receipts of a small run take; the steps that write inputs ask for those themselves.
LEAST_FREE_BYTES = 16_000_000
# What Snakemake leaves to a shell in the command of a job that it submits to a cluster.
_LEFT_TO_A_SHELL = re.compile(r"""['"$`\\]""")
# Snakemake takes {word} in a path for a wildcard, and knows no way to write it otherwise.
_NO_PATH = re.compile(r"\{\s*\w+\s*[,}]|[\r\n]")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# A name of 64 letters in a shard.
_NAME_BYTES = 256
# Headers of an npz file.
_NPZ_HEADERS = 512
# Whole images that the size of the others is estimated from.
_SAMPLE = 200


@dataclass(frozen=True)
class Extent:
    """How much a run goes through: its images, and the classes that they are of (a model may have more).

    ``files``: the dataset as it was listed for that, so that nobody lists it again; None for the demo's, which is made.
    ``message``: how the dataset lies and which class has which index, a line to be said; empty for the demo's.
    ``numbering``: what decides the classes' indices, to be settled for every step; None for the demo's and for a label
    file that gives them itself.
    """

    images: int
    classes: int
    files: Listing | None = field(default=None, compare=False, repr=False)
    message: str = field(default="", compare=False, repr=False)
    numbering: Numbering | None = field(default=None, compare=False, repr=False)


def check_data(settings: Settings, on_cluster: bool = False, outputs: Callable[[], Mapping[str, int]] = dict) -> Extent:
    """Raise SettingsError or DatasetError for a file that is not there, or a count that the images do not allow.

    Gives how many images there are; whether each can be read is found out when they are indexed. ``on_cluster``:
    jobs are submitted, by commands that Snakemake does not quote every path for. ``outputs`` gives how many classes a
    model has by its variant, where that is known; it takes seconds, and is asked where that may decide the classes'
    order or show that it is not the model's.
    """
    _check_files(settings, on_cluster)
    chosen = settings["dataset"]
    if settings.is_demo:
        files, scored, classes, message, numbering = None, _classes_of_demo("val"), DEMO_CLASSES, "", None
    else:
        images_in_all = _labelled_for(settings, outputs)
        files, scored, message = images_in_all.files, images_in_all.classes, images_in_all.message
        numbering, classes = images_in_all.order.numbering, 1 + images_in_all.order.greatest
    images = min(len(scored), chosen["limit"] or len(scored))
    if isinstance(settings["shards"], int) and settings["shards"] > images:
        raise SettingsError(f"shards: {settings['shards']} parts of {images} images; give at most {images}")
    if isinstance(settings["shards"], int) and not settings.is_demo:
        _require_images_in_shards(scored, settings["shards"], chosen["limit"])
    if any(map(is_quantized, settings["precisions"])):
        where, available = _calibration_source(settings, scored, numbering)
        check_calibration(where, available, settings["calibration"]["images"], scored.values())
        if available is scored:
            message += _on_overlap(settings, scored)
    return Extent(images, classes, files, message, numbering)


def _labelled_for(settings: Settings, outputs: Callable[[], Mapping[str, int]]) -> Labelled:
    """The dataset's images with the classes that the models have; raises where these or the names are others."""
    dataset, names = _dataset_of(settings), _path(settings["dataset"]["class_names"])
    images = labelled(dataset)
    order = images.order
    if not (names or order.is_guess or order.classes is not None or order.note or order.greatest == 999):
        return images
    models = {f"models.{variant}": classes for variant, classes in outputs().items()}
    if order.is_guess and order.numbering == "imagenet":
        images = labelled(replace(dataset, outputs=frozenset(models.values())), images.files)
        order = images.order
    require_outputs(order, models, f"{one_line(dataset.root)}: {images.layout}")
    if names is not None:
        _check_class_names(names, models, order)
    return images


def _check_class_names(file: Path, models: Mapping[str, int], order: ClassOrder) -> None:
    """SettingsError where a file of class names has more or fewer than a model, or the dataset's in another order."""
    try:
        for model, classes in models.items():
            require_names_of(read_class_names(file), file, classes, model)
    except DatasetError as error:
        raise SettingsError(f"dataset.class_names: {error}") from error
    if order.numbering != "file":
        _require_same_order(order, file)


def _require_same_order(order: ClassOrder, file: Path) -> None:
    """SettingsError where the classes stand in the file of class names, but in another order."""
    named_by = {composed(name): index for index, name in enumerate(read_class_names(file))}
    if not order.indices.keys() <= named_by.keys():
        return
    other = next((name for name, index in order.indices.items() if named_by[name] != index), None)
    if other is not None:
        raise SettingsError(
            f"dataset.class_names: {one_line(file)} has {one_line(other)} as class {named_by[other]}, which "
            f"{order.reason} is class {order.indices[other]} of the dataset; if the file is right, name it in "
            "dataset.wnids, too"
        )


def _require_images_in_shards(names: Iterable[str], shards: int, limit: int | None) -> None:
    """SettingsError for a shard without an image: which one an image is in depends on its name alone."""
    scored = list(names)
    filled = {shard_of(name, shards) for name in (scored if limit is None else sample_of(scored, limit))}
    empty = sorted(set(range(shards)) - filled)
    if empty:
        raise SettingsError(
            f"shards: no image falls into part {empty[0]} of {shards}; give fewer (1,000 images a part are enough)"
        )


def check_results(folder: Path) -> None:
    """Raise OutputError where a run in ``folder`` could not write, or not even its logs and locks.

    Snakemake's own words for either are a traceback.
    """
    for place in (folder, folder / "results", folder / ".snakemake"):
        if os.path.lexists(place) and not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
            raise OutputError(
                f"{one_line(place.resolve())}: cannot be written to; run in a copy of the checkout that is yours, or "
                "ask who it belongs to"
            )
        free = free_bytes(place)
        if free < LEAST_FREE_BYTES:
            raise OutputError(
                f"{one_line(place.resolve())}: {free / 1e6:.1f} MB are free, too little to begin with; make room for "
                f"{LEAST_FREE_BYTES / 1e6:.0f} MB at least"
            )


def input_bytes(preprocessing: Preprocessing) -> int:
    """What a preprocessed image takes in a shard, or in an npz of its own."""
    return on_disk(preprocessing.input_bytes + _NPZ_HEADERS)


def output_bytes(classes: int) -> int:
    """What the scores of an image, and its name, take in a shard."""
    return 4 * classes + _NAME_BYTES


def whole_input_bytes(dataset: Dataset) -> int:
    """What the npz of a whole image of a dataset takes on a disk, by a sample; 0 where no image can be read."""
    from PIL import Image  # only where such files are written

    sizes = []
    for name in sample_of(list(layout_of(dataset).files()), _SAMPLE):
        with contextlib.suppress(Exception), Image.open(dataset.root / name) as image:  # said when they are indexed
            sizes.append(on_disk(3 * image.width * image.height + _NPZ_HEADERS))
    return sum(sizes) // max(1, len(sizes))


def _calibration_source(
    settings: Settings, scored: Mapping[str, int], numbering: Numbering | None
) -> tuple[str, Mapping[str, int]]:
    """Where calibration images are chosen from, as messages name it, and their classes by name."""
    source = settings["calibration"]["source"]
    if source is not None:
        dataset = beside(replace(_dataset_of(settings), numbering=numbering), Path(source))
        return one_line(dataset.images_folder), labelled(dataset).classes
    if settings.is_demo:
        return "the demo set's training part", _classes_of_demo("train")
    return one_line(_dataset_of(settings).images_folder), scored


def _on_overlap(settings: Settings, scored: Mapping[str, int]) -> str:
    """How many of the judged images are calibration images by their names, to be said; SettingsError where all are.

    Copies under other names, and others chosen for faulty ones, are seen when the answers are evaluated.
    """
    calibration, limit = settings["calibration"], settings["dataset"]["limit"]
    judged = set(scored if limit is None else sample_of(list(scored), limit))
    both = judged & set(calibration_choice(scored, calibration["images"], calibration["seed"]))
    if not both:
        return ""
    if not calibration["split"]:
        return f"; {len(both)} of the {len(judged)} judged images are calibration images, too (calibration.split)"
    others = judged - both
    if not others:
        raise SettingsError(
            f"calibration.split: leaves no image to judge, because all {len(judged)} are calibration images, too; give "
            "calibration.source, or fewer calibration.images"
        )
    emptied = {scored[name] for name in judged} - {scored[name] for name in others}
    without = f", which leaves {len(emptied)} classes without one" if emptied else ""
    return f"; {len(both)} of the {len(judged)} images are calibration images and not judged{without}"


def _classes_of_demo(part: str) -> dict[str, int]:
    return {str(index): index % DEMO_CLASSES for index in range(DEMO_IMAGES[part])}


def check_calibration(
    where: str, classes: Mapping[str, int], images: int, expected: Iterable[int] | None = None
) -> None:
    """DatasetError where ``images`` cannot be chosen from ``classes`` (by name) with every expected class among them.

    ``expected``: classes; None takes those that are there. ``where`` names the images.
    """
    present = set(classes.values())
    needed = present if expected is None else set(expected)
    missing = sorted(needed - present)
    if missing:
        raise DatasetError(f"{where}: has no image of {len(missing)} classes: {named(map(str, missing))}")
    if images > len(classes):
        raise DatasetError(
            f"{where}: has {len(classes)} usable images, fewer than calibration.images ({images}); "
            f"give at most {len(classes)}"
        )
    if images < len(needed):
        raise DatasetError(
            f"calibration.images is {images}, fewer than the {len(needed)} classes; each must be present; "
            f"give at least {len(needed)}"
        )


def _dataset_of(settings: Settings) -> Dataset:
    """The dataset that is scored, without its limit."""
    chosen = settings["dataset"]
    return Dataset(
        Path(chosen["root"]), _path(chosen["labels"]), wnids=_path(chosen["wnids"]), numbering=chosen["classes"]
    )


def _path(text: str | None) -> Path | None:
    return Path(text) if text is not None else None


def mode_of(key: str, path: Path) -> int | None:
    """The mode of a file or folder, None where there is none; SettingsError where the system refuses to show it."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in its name
        return None
    except OSError as error:
        raise SettingsError(f"{key}: {one_line(path)[:300]} cannot be looked at ({error.strerror})") from error
    if not os.access(path, os.R_OK | (os.X_OK if stat.S_ISDIR(mode) else 0)):
        raise SettingsError(f"{key}: {one_line(path)} cannot be read (permission denied); ask who it belongs to")
    return mode


def _is_made(path: str, is_folder: bool, variants: Collection[str]) -> bool:
    """Whether a folder lies in results/, or Snakemake would take a file for what it makes of a variant."""
    if is_folder:
        return Path(os.path.abspath(path)).is_relative_to(Path("results").absolute())  # noqa: PTH100 - a link stays one
    parts = Path(os.path.normpath(path)).parts
    return parts[:2] == ("results", "model") and not set(parts[2:3]).isdisjoint(variants)


def _check_files(settings: Settings, on_cluster: bool) -> None:
    files = {f"dataset.{key}": settings["dataset"][key] for key in ("labels", "wnids", "class_names")}
    if settings["engine"] == "vacc":
        files["vacc.hwconfig"] = settings["vacc"]["hwconfig"]
    for model in settings.models.values():
        if model.weights_are_file:
            files[f"models.{model.variant}.{'onnx' if model.is_onnx else 'weights'}"] = model.weights
    codes = {m.variant: m.preprocessing.code for m in settings.models.values() if m.preprocessing.code}
    files |= {f"models.{variant}.preprocess": split_code(code)[0] for variant, code in codes.items()}
    folders = {"calibration.source": settings["calibration"]["source"]}
    if not settings.is_demo:
        folders["dataset.root"] = settings["dataset"]["root"]
    for key, value in (files | folders).items():
        if value is not None and _ADDRESS.match(value):  # which may hold a password, and so is not repeated
            raise SettingsError(f"{key}: is an address; download what is there and give its path")
        if value is not None and _is_made(value, key in folders, settings.models):
            raise SettingsError(
                f"{key}: {one_line(value)} lies in results/, where the workflow makes, replaces and removes files; "
                "copy it elsewhere"
            )
        if value is not None and _NO_PATH.search(value):
            raise SettingsError(
                f"{key}: {one_line(value)} has a line break or a word in braces in its name, which lists of files and "
                "Snakemake take for something else; rename it, or name a link to it"
            )
        if value is not None and on_cluster and _LEFT_TO_A_SHELL.search(value):
            raise SettingsError(
                f"{key}: {one_line(value)} has a quote, $, ` or \\ in its name, which Snakemake leaves to a shell when "
                "it submits jobs; rename it, or name a link to it"
            )
    for key, value in files.items():
        mode = None if value is None else mode_of(key, Path(value))
        if value is not None and (mode is None or not stat.S_ISREG(mode)):
            what = (
                "does not exist" if mode is None else "is a folder" if stat.S_ISDIR(mode) else "is not a regular file"
            )
            raise SettingsError(
                f"{key}: {one_line(value)} {what}; give the path of a file, absolute or from this folder"
            )
    for key, value in folders.items():
        if value is None:
            continue
        mode = mode_of(key, Path(value))
        if mode is None or not stat.S_ISDIR(mode):
            raise SettingsError(f"{key}: {one_line(value)} is no folder")
