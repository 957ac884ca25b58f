"""What torchvision and timm publish of their classifiers: preprocessing, and accuracy with its source.

Planning needs the preprocessing of every model in the configuration, and importing torch for it would cost each
call of Snakemake two seconds. ``presets.json`` holds it instead; ``workflow/scripts/write_presets.py`` makes that
file from the installed libraries, and a test compares the two.
"""

import functools
import json
import re
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from mnasbench.errors import SettingsError, did_you_mean, one_line
from mnasbench.files import sha256_of_file
from mnasbench.preprocessing import Preprocessing, Resize, Size, as_pair, scaled

PRESETS_FILE = Path(__file__).with_name("presets.json")
LIBRARIES = ("torchvision", "timm")
# As published weights of a timm model: those of the tag in its name, else timm's default.
TIMM_PRETRAINED = "pretrained"
IMAGENET_CLASSES = 1000
# Publishers write the first digits of a file's SHA-256 into its name: `vit_b_16-c867db91.pth`.
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")


@dataclass(frozen=True)
class Preset:
    """How a model wants its images, and what its publisher says that it then scores (percent; None: not said).

    ``entry``: which of the published weights this is of: torchvision's name (``IMAGENET1K_V1``) or timm's tag
    (``ra_in1k``). ``reason``: why this one; ``is_guess``: whether a file's weights may be others. ``classes``: of the
    published weights; 0 where they classify nothing.
    """

    preprocessing: Preprocessing
    top1: float | None = None
    top5: float | None = None
    source: str = ""
    entry: str = ""
    reason: str = ""
    is_guess: bool = False
    classes: int = IMAGENET_CLASSES

    @property
    def size(self) -> int | Size:
        """The side of the published crop; (height, width) of one that is not square."""
        return self.preprocessing.crop

    def resize_for(self, size: int | Size) -> Resize:
        """The resize for a crop of another size, in the published proportion of the two.

        There is none for a crop that is not square, or that is square and the published one is not: images are
        squeezed to that.
        """
        (height, width), published = as_pair(size), self.preprocessing.size
        if (height, width) == published:
            return self.preprocessing.resize
        if height != width or published[0] != published[1]:
            return height, width
        return scaled(self.preprocessing.resize, Fraction(height, published[0]))

    def preprocessing_for(self, size: int | Size) -> Preprocessing:
        """The published preprocessing for a crop of another size."""
        return replace(self.preprocessing, resize=self.resize_for(size), crop=size)


@functools.cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(PRESETS_FILE.read_text(encoding="utf-8"))
    return table


def _models(library: str) -> dict[str, dict[str, Any]]:
    if library not in _table():
        raise SettingsError(f"model library '{library}' is not known{did_you_mean(library, LIBRARIES)}")
    models: dict[str, dict[str, Any]] = _table()[library]["models"]
    return models


def split_tag(library: str, name: str) -> tuple[str, str | None]:
    """Architecture and tag of a timm name (``mobilenetv3_large_100.ra_in1k``); None for a name without one."""
    architecture, dot, tag = name.partition(".")
    return (architecture, tag) if library == "timm" and dot else (name, None)


def _published(library: str, name: str) -> tuple[str, dict[str, Any], str | None]:
    """Architecture, its published entries (first the one that the bare name means), and the tag in the name."""
    models = _models(library)
    architecture, tag = split_tag(library, name)
    if architecture not in models:
        raise SettingsError(f"{library} has no classifier '{architecture}'{did_you_mean(architecture, models)}")
    entries = models[architecture]
    if tag is not None and tag not in entries:
        raise SettingsError(f"timm has no tag '{tag}' of {architecture}{did_you_mean(tag, filter(None, entries))}")
    return architecture, entries, tag


def preset(library: str, name: str, weights: str | None = None) -> Preset:
    """The preset of ``name``; of one of its published weights where ``weights`` names them, else of the first.

    A timm name may carry its tag. Raises SettingsError, naming the nearest known model, tag or weights.
    """
    architecture, entries, tag = _published(library, name)
    if weights is not None and weights not in entries:
        near = did_you_mean(weights, filter(None, entries))
        raise SettingsError(f"{library} publishes no weights '{weights}' of {architecture}{near}")
    if weights is not None and tag is not None and weights != tag:
        raise SettingsError(f"{name}: its tag and weights: {weights} name different weights; give one of the two")
    named = weights or tag
    return _preset(library, architecture, named or next(iter(entries)), "as named" if named else _first_reason(library))


def _first_reason(library: str) -> str:
    return "timm's default" if library == "timm" else "the first published"


def preset_of_file(library: str, name: str, file: Path, sha256: str | None = None) -> Preset:
    """The preset of the published weights that a file holds.

    They are told by a timm tag in ``name``, by a digest (``sha256``, where it is given), by the publisher's name for
    the file (for timm also by the tag, as the Hub's folders have it), or by the content's digest; the last is taken
    only of a file whose size is that of published weights. Weights that nobody published count as those that the
    architecture's publisher published first, and ``reason`` says so.
    """
    architecture, entries, tag = _published(library, name)
    if tag is not None:
        return _preset(library, architecture, tag, "as named")
    by_digest = _of_digest(entries, sha256) if sha256 else None
    if by_digest is not None:
        return _preset(library, architecture, by_digest, "by the digest in sha256")
    for entry, published in entries.items():
        if published.get("file") == file.name:
            return _preset(library, architecture, entry, f"by the file's name, {one_line(file.name)}")
    by_path = _tag_in_path(architecture, entries, file)
    if by_path is not None:
        return _preset(library, architecture, by_path, "by the tag in the file's path")
    content = _digest_if_published_size(entries, file) if sha256 is None else None
    by_content = _of_digest(entries, content) if content else None
    if by_content is not None:
        return _preset(library, architecture, by_content, "by the file's digest")
    reason = f"{_first_reason(library)}, as neither name nor digest says which"
    return replace(_preset(library, architecture, next(iter(entries)), reason), is_guess=True)


def _tag_in_path(architecture: str, entries: dict[str, Any], file: Path) -> str | None:
    for entry in entries:
        tagged = re.compile(rf"(^|[^A-Za-z0-9_]){re.escape(architecture)}\.{re.escape(entry)}($|[^A-Za-z0-9_])")
        if entry and any(tagged.search(part) for part in file.parts):
            return entry
    return None


def _of_digest(entries: dict[str, Any], digest: str) -> str | None:
    for entry, published in entries.items():
        start = _DIGEST_IN_NAME.search(published.get("file", ""))
        if start is not None and digest.lower().startswith(start[1]):
            return entry
    return None


def _digest_if_published_size(entries: dict[str, Any], file: Path) -> str | None:
    """The SHA-256 of a file's content, if it is as large as published weights: planning reads no other file whole."""
    try:
        size = file.stat().st_size
        if round(size / 2**20, 3) in {published.get("mebibytes") for published in entries.values()}:
            return _remembered_digest(file, size, file.stat().st_mtime_ns)
    except OSError:
        pass  # the step that reads the file says what is wrong with it
    return None


@functools.lru_cache
def _remembered_digest(file: Path, _size: int, _modified: int) -> str:
    return sha256_of_file(file)


def _preset(library: str, architecture: str, weights: str, reason: str) -> Preset:
    entry = _models(library)[architecture][weights]
    if "unsupported" in entry:
        name = f"{architecture}.{weights}" if weights else architecture
        raise SettingsError(f"{library} {name}: images as it wants them are not made here ({entry['unsupported']})")
    return Preset(
        preprocessing=Preprocessing.from_json(_table()[library]["preprocessing"][entry["preprocessing"]]),
        top1=entry.get("top1"),
        top5=entry.get("top5"),
        source=f"{library} {weights}" if weights else "",
        entry=weights,
        reason=reason,
        classes=entry.get("classes", IMAGENET_CLASSES),
    )


def preset_of_onnx(size: Size) -> Preset:
    """What an ONNX file of somebody's own counts as, which does not say how its images are prepared.

    ImageNet's mean, std and resize (256 for a crop of 224), which most classifiers were trained with.
    """
    square = size[0] == size[1]
    usual = Preset(Preprocessing(), entry="most ImageNet classifiers", reason="an ONNX file does not say its own")
    reference = usual.preprocessing_for(size[0] if square else size)
    return replace(usual, preprocessing=reference, classes=0)


def published_weights(library: str, name: str) -> list[str]:
    """The names of the weights that ``library`` publishes of ``name``, in its order: torchvision's, or timm's tags."""
    return [weights for weights in _published(library, name)[1] if weights]
