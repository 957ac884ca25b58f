"""Beside a manifest: which class has which index, and what decided that.

Light on purpose (no numpy, no Pillow).
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnasbench.data.layouts import Labelled
from mnasbench.files import read_json, write_json, written_atomically


def class_file(manifest: Path) -> Path:
    """The file beside a manifest."""
    return manifest.with_suffix(".classes.json")


def write_class_file(manifest: Path, images: Labelled) -> None:
    """Write the order of a dataset's classes: ``reason`` in one line, ``indices`` by name, names without an image."""
    order = images.order
    content = {"reason": images.message, "numbering": order.numbering, "indices": order.indices}
    write_json(class_file(manifest), {**content, "without_images": images.empty_classes})


def gather_class_files(shards: Sequence[Path], manifest: Path) -> None:
    """Write that of all shards: it is the same for each."""
    if class_file(shards[0]).is_file():
        with written_atomically(class_file(manifest)) as temporary:
            shutil.copyfile(class_file(shards[0]), temporary)


def reason_of_classes(path: Path) -> str:
    """Why the classes have their indices, in one line; empty where an older run left no such file."""
    content: Any = read_json(path) if path.is_file() else {}
    reason = content.get("reason", "") if isinstance(content, dict) else ""
    return reason if isinstance(reason, str) else ""
