"""Which image of a list has which label: by name, whatever wrote the files."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from mnasbench.data.class_order import ClassOrder, ClassRule, class_order
from mnasbench.data.datalist import read_datalist
from mnasbench.data.image_keys import ImageKeys, by_key, composed
from mnasbench.data.labels import read_labels
from mnasbench.data.layouts import Dataset, layout_of
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


def labels_by_key(path: Path, rule: ClassRule | None = None) -> dict[str, int]:
    """Class indices by image key, from a label file, a table of labels or a manifest."""
    return labels_of_file(path, rule)[0]


def labels_of_file(path: Path, rule: ClassRule | None = None) -> tuple[dict[str, int], ClassOrder | None]:
    """As ``labels_by_key``, and why these; None for a manifest, which has them from its dataset."""
    order = None
    if is_manifest(read_text(path)):
        labels = {image.name: image.class_index for image in read_manifest(path)}
    else:
        read = read_labels(path, rule)
        labels, order = read.classes, read.order
    return {key: labels[name] for key, name in by_key(labels).items()}, order


def excluded_images(path: Path) -> list[str]:
    """The images that a manifest has as faulty; a label file has none."""
    if not is_manifest(read_text(path)):
        return []
    return [image.name for image in read_manifest(path, with_faulty=True) if image.fault]


def images_of_contents(manifest: Path, digests: Collection[str]) -> set[str]:
    """The keys of a manifest's images whose content has one of these SHA-256, whatever they are called."""
    images = {image.name: image.sha256 for image in read_manifest(manifest)}
    return {key for key, name in by_key(images).items() if images[name] in digests}


def label_file_near(image: Path) -> Path | None:
    """The label file of the dataset that an image lies in, as its layout has it; None for class folders."""
    for root in list(image.parents)[:4]:
        try:
            files = layout_of(Dataset(root)).label_files() if root.is_dir() else []
        except DatasetError:  # a folder of training images alone
            files = []
        if files:
            return files[0]
    return None


def wnids_near(label_file: Path) -> Path | None:
    """``wnids.txt`` beside a label file, or beside the folder that it is in."""
    files = (folder / "wnids.txt" for folder in list(label_file.absolute().parents)[:2])
    return next((file for file in files if file.is_file()), None)


def labels_of_folders(images: Sequence[Path], rule: ClassRule) -> tuple[dict[str, int], ClassOrder]:
    """Class indices by image key of images that lie in class folders, and why these.

    ``rule``: what the caller knows of their order; ``wnids.txt`` beside the folders is looked for. DatasetError where
    they lie in one folder alone, which is then no class, or not side by side.
    """
    if len({image.parent for image in images}) < 2 or len({image.parents[1] for image in images}) > 1:
        raise DatasetError(
            f"{one_line(images[0])}: has no label file near it and lies in no class folder; name the label file with "
            "--label"
        )
    folder = images[0].parents[1]
    if rule.wnids is None:
        near = Dataset(folder.parent, part=folder.name).wnids_file()
        rule = replace(rule, wnids=near, is_given=False)
    # The images may be on another machine than their text.
    folders = folders_in(folder) if folder.is_dir() else {image.parent.name for image in images}
    order = class_order(folders, rule)
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
