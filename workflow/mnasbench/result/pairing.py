"""Which image of a list has which label: by name, whatever wrote the files."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from mnasbench.data.class_order import ClassOrder, class_order
from mnasbench.data.datalist import read_datalist
from mnasbench.data.image_keys import ImageKeys, by_key, composed
from mnasbench.data.labels import read_labels
from mnasbench.data.layouts import Dataset
from mnasbench.data.listed import ListedImage, listed_images
from mnasbench.data.listing import folders_in
from mnasbench.data.manifest_file import is_manifest, read_manifest
from mnasbench.errors import DatasetError, one_line
from mnasbench.files import read_text


def listed_inputs(*lists: Path) -> dict[str, ListedImage]:
    """The images of a run's lists by name; DatasetError where one is empty or two images share a name."""
    images: dict[str, ListedImage] = {}
    for image in listed_images([file for path in lists for file in read_datalist(path)]):
        if image.name in images:
            raise DatasetError(f"{one_line(lists[0])}: lists two images called {one_line(image.name)}; write it again")
        images[image.name] = image
    return images


def labels_by_key(path: Path) -> dict[str, int]:
    """Class indices by image key, from a label file, a CSV of labels or a manifest."""
    if is_manifest(read_text(path)):
        labels = {image.name: image.class_index for image in read_manifest(path)}
    else:
        labels = read_labels(path).classes
    return {key: labels[name] for key, name in by_key(labels).items()}


def excluded_images(path: Path) -> list[str]:
    """The images that a manifest has as faulty; a label file has none."""
    if not is_manifest(read_text(path)):
        return []
    return [image.name for image in read_manifest(path, with_faulty=True) if image.fault]


def images_of_contents(manifest: Path, digests: Collection[str]) -> set[str]:
    """The keys of a manifest's images whose content has one of these SHA-256, whatever they are called."""
    images = {image.name: image.sha256 for image in read_manifest(manifest)}
    return {key for key, name in by_key(images).items() if images[name] in digests}


def labels_of_folders(images: Sequence[Path]) -> tuple[dict[str, int], ClassOrder]:
    """Class indices by image key of images that lie in class folders, and why these.

    DatasetError where they lie in one folder alone, which is then no class, or not side by side.
    """
    if len({image.parent for image in images}) < 2 or len({image.parents[1] for image in images}) > 1:
        raise DatasetError(
            f"{one_line(images[0])}: has no val_label.txt above it and lies in no class folder; name the label file "
            "with --label"
        )
    folder = images[0].parents[1]
    order = class_order(folders_in(folder), Dataset(folder.parent, part=folder.name).rule)
    names = {str(image): order.indices[composed(image.parent.name)] for image in images}
    return {key: names[name] for key, name in by_key(names).items()}, order


def labels_of(inputs: Iterable[str], labels: dict[str, int], label_file: Path) -> dict[str, int]:
    """The labels of just these inputs, by image key; DatasetError names an input without one."""
    images = ImageKeys(labels)
    inputs = [images[name] for name in inputs]
    missing = sorted(set(inputs) - set(labels))
    if missing:
        raise DatasetError(
            f"{one_line(missing[0])}: has no label in {one_line(label_file)} ({len(missing)} such inputs); "
            "give the label file of this dataset"
        )
    return {key: labels[key] for key in inputs}


def labels_left_out(answered: Iterable[str], labels: dict[str, int], label_file: Path) -> tuple[int, str]:
    """How many labels have no answer, and that in one line (empty where there is none)."""
    left = sorted(set(labels) - set(answered))
    if not left:
        return 0, ""
    return len(left), (
        f"{one_line(label_file)}: {len(left)} of its {len(labels)} labels have no image here (the first: "
        f"{one_line(left[0])}); the accuracies are of the other {len(labels) - len(left)}"
    )
