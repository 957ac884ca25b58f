"""Small datasets for the tests of the data stage."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = (48, 40)) -> Path:
    """A small JPEG of noise; another seed gives another image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "JPEG")
    return path


def flat_dataset(root: Path, labels: Mapping[str, object], part: str = "val") -> Path:
    """``root/<part>/*`` and ``root/<part>_label.txt``."""
    for seed, name in enumerate(labels):
        write_image(root / part / name, seed)
    lines = (f"{name} {label}\n" for name, label in labels.items())
    (root / f"{part}_label.txt").write_text("".join(lines), encoding="utf-8")
    return root


def foldered_dataset(root: Path, classes: Mapping[str, int], part: str = "val") -> Path:
    """``root/<part>/<class>/*``, with the given number of images each."""
    for number, (name, count) in enumerate(classes.items()):
        for index in range(count):
            write_image(root / part / name / f"{name}_{index}.JPEG", 100 * number + index)
    return root
