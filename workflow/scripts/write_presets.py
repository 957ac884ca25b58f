"""Write workflow/mnasbench/presets.json from the installed torchvision and timm (for maintainers).

Run it after raising the version of either library; a test fails until it was.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mnasbench.commands.arguments import parser_for
from mnasbench.commands.command_line import run
from mnasbench.files import write_text
from mnasbench.preprocessing import INTERPOLATIONS, Fit, Resize, resize_to_json
from mnasbench.presets import IMAGENET_CLASSES, PRESETS_FILE


class _Groups:
    """Numbers equal preprocessings once, so that a thousand models share a few dozen of them."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number_of(self, **preprocessing: Any) -> int:
        return self.numbers.setdefault(json.dumps(preprocessing), len(self.numbers))

    def listed(self) -> list[Any]:
        return [json.loads(text) for text in self.numbers]


def torchvision_presets() -> dict[str, Any]:
    """Every torchvision classifier of 1,000 classes with its weights' preprocessing and published accuracy."""
    from mnasbench.model.torchvision_import import torchvision

    groups, models = _Groups(), {}
    for name in sorted(torchvision.models.list_models(module=torchvision.models)):
        published = {}
        for weights in torchvision.models.get_model_weights(name):
            if len(weights.meta.get("categories") or ()) != IMAGENET_CLASSES:
                continue
            transform = weights.transforms()
            accuracy = weights.meta["_metrics"]["ImageNet-1K"]
            published[weights.name] = {
                "preprocessing": groups.number_of(
                    resize=transform.resize_size[0],
                    crop=transform.crop_size[0],
                    interpolation=transform.interpolation.value,
                    mean=list(transform.mean),
                    std=list(transform.std),
                ),
                "top1": accuracy["acc@1"],
                "top5": accuracy["acc@5"],
                "file": _file_name(weights.url),
                "mebibytes": weights.meta["_file_size"],
            }
        if published:
            # In torchvision's order, V1 first: it is what a file of unknown weights counts as. By the alphabet,
            # SWAG's, of another image size, would stand before it.
            models[name] = published
    return {"preprocessing": groups.listed(), "models": models}


def timm_presets() -> dict[str, Any]:
    """Every timm classifier with the preprocessing of each of its tags, first the one that the bare name means."""
    from mnasbench.model.torchvision_import import import_timm

    timm = import_timm()
    groups, models = _Groups(), {}
    tags: dict[str, list[str]] = {}
    for name in timm.list_pretrained():
        architecture, _, tag = name.partition(".")
        tags.setdefault(architecture, []).append(tag)
    for architecture in timm.list_models():
        default = timm.get_pretrained_cfg(architecture)
        if default is None:
            continue
        first = default.tag or ""
        published = {}
        for tag in [first, *(tag for tag in tags.get(architecture, ()) if tag != first)]:
            config = timm.get_pretrained_cfg(f"{architecture}.{tag}" if tag else architecture)
            published[tag] = _timm_entry(config, groups)
        models[architecture] = published
    return {"preprocessing": groups.listed(), "models": models}


def _timm_entry(config: Any, groups: _Groups) -> dict[str, Any]:
    channels, height, width = config.input_size
    crop_mode = config.crop_mode or "center"
    for unsupported, what in (
        (channels != 3 or len(config.mean) != 3 or len(config.std) != 3, f"{channels} channels"),
        # timm scales to cover a crop that is not square, which is none of our resizes.
        (height != width and crop_mode != "squash", f"{height} x {width} pixels"),
        (config.interpolation not in INTERPOLATIONS, f"interpolation {config.interpolation}"),
        (crop_mode not in {"center", "squash", "border"}, f"crop mode {crop_mode}"),
    ):
        if unsupported:
            return {"unsupported": what}
    sides = math.floor(height / config.crop_pct), math.floor(width / config.crop_pct)
    resize: Resize = sides[0]
    if crop_mode == "squash":
        resize = sides
    elif crop_mode == "border":
        red, green, blue = (round(255 * level) for level in config.mean)
        resize = Fit(sides, fill=(red, green, blue))
    entry: dict[str, Any] = {
        "preprocessing": groups.number_of(
            resize=resize_to_json(resize),
            crop=height if height == width else [height, width],
            interpolation=config.interpolation,
            mean=list(config.mean),
            std=list(config.std),
        )
    }
    if config.num_classes != IMAGENET_CLASSES:
        entry["classes"] = config.num_classes
    # Without a digest in it a file's name says nothing: a hundred are called pytorch_model.bin.
    file = _file_name(config.url if isinstance(config.url, str) else "")
    if re.search(r"-[0-9a-f]{8,64}\.", file):
        entry["file"] = file
    return entry


def _file_name(url: str) -> str:
    return Path(urlsplit(url).path).name


def presets_text() -> str:
    """The content of presets.json, one model a line."""
    tables = {"timm": timm_presets(), "torchvision": torchvision_presets()}
    lines = ["{"]
    for library, table in tables.items():
        lines += [f' "{library}": {{', '  "preprocessing": [']
        lines.append(",\n".join(f"   {json.dumps(group)}" for group in table["preprocessing"]))
        lines += ["  ],", '  "models": {']
        models = (f"   {json.dumps(name)}: {json.dumps(entry)}" for name, entry in table["models"].items())
        lines.append(",\n".join(models))
        lines += ["  }", " }," if library == "timm" else " }"]
    return "\n".join([*lines, "}"]) + "\n"


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    parser.add_argument("--output", type=Path, default=PRESETS_FILE, help="the file to write")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Write the presets."""
    return run(build_parser(), lambda arguments: write_text(arguments.output, presets_text()), argv)


if __name__ == "__main__":
    sys.exit(main())
