"""Which output belongs to which input, and which label to both: by name, whatever wrote the files."""

from collections.abc import Iterable
from pathlib import Path

from mnasbench.data.datalist import read_datalist
from mnasbench.data.labels import read_labels
from mnasbench.data.manifest_file import is_manifest, read_manifest
from mnasbench.data.npz import npz_names
from mnasbench.errors import DatasetError, PairingError, one_line
from mnasbench.files import read_text
from mnasbench.result.evaluation import by_key


def listed_inputs(path: Path) -> dict[str, Path]:
    """The inputs of a run's list by image key; DatasetError where it is empty or two share a name."""
    paths = {str(file): file for file in read_datalist(path)}
    return {key: paths[name] for key, name in by_key(paths).items()}


def find_outputs(folder: Path, inputs: dict[str, Path]) -> dict[str, Path]:
    """The output of each input below ``folder``, by image key.

    Raises PairingError for an input without output or an output without input, naming the first and their number.
    """
    if not folder.is_dir():
        raise PairingError(f"{one_line(folder)}: no such folder of outputs; run vamp with --path_output first")
    outputs = {key: folder / name for key, name in by_key(npz_names(folder)).items()}
    for have, lack, problem in (
        (inputs, outputs, "has no output in"),
        (outputs, inputs, "belongs to no input of the run of"),
    ):
        missing = sorted(set(have) - set(lack))
        if missing:
            raise PairingError(
                f"{one_line(have[missing[0]])}: {problem} {one_line(folder)} ({len(missing)} such of {len(have)}); "
                "was the run interrupted, or is the folder that of another list? Run it again"
            )
    return outputs


def labels_by_key(path: Path, shard: int | None = None) -> dict[str, int]:
    """Class indices by image key, from a label file, a CSV of labels or a manifest."""
    if is_manifest(read_text(path)):
        labels = {image.name: image.class_index for image in read_manifest(path, shard)}
    else:
        labels = read_labels(path).classes
    return {key: labels[name] for key, name in by_key(labels).items()}


def labels_of(inputs: dict[str, Path], labels: dict[str, int], label_file: Path) -> dict[str, int]:
    """The labels of just these inputs; DatasetError names an input without one."""
    missing = sorted(set(inputs) - set(labels))
    if missing:
        raise DatasetError(
            f"{one_line(inputs[missing[0]])}: has no label in {one_line(label_file)} ({len(missing)} such inputs); "
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
