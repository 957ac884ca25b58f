"""Write workflow/mnasbench/presets.json from the installed torchvision and timm (for maintainers).

Run it after raising the version of either library; a test fails until it was.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnasbench.commands.arguments import parser_for
from mnasbench.commands.command_line import run
from mnasbench.files import write_text
from mnasbench.presets import PRESETS_FILE

IMAGENET_CLASSES = 1000


class _Groups:
    """Numbers equal preprocessings once, so that a thousand models share a few dozen of them."""

    def __init__(self) -> None:
        self.found: dict[str, int] = {}

    def number_of(self, **preprocessing: Any) -> int:
        return self.found.setdefault(json.dumps(preprocessing), len(self.found))

    def listed(self) -> list[Any]:
        return [json.loads(text) for text in self.found]


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
            }
        if published:
            # V1 first: it is what a name without weights means here.
            models[name] = dict(sorted(published.items()))
    return {"preprocessing": groups.listed(), "models": models}


def timm_presets() -> dict[str, Any]:
    """Every timm classifier of square RGB images with the preprocessing of its default weights."""
    from mnasbench.model.torchvision_import import import_timm

    timm = import_timm()
    groups, models = _Groups(), {}
    for name in timm.list_models():
        config = timm.get_pretrained_cfg(name)
        if config is None or config.input_size[0] != 3 or config.input_size[1] != config.input_size[2]:
            continue
        if config.interpolation not in {"bilinear", "bicubic"} or config.crop_mode not in {"", None, "center"}:
            continue
        if len(config.mean) != 3 or len(config.std) != 3:
            continue
        size = config.input_size[1]
        number = groups.number_of(
            resize=math.floor(size / config.crop_pct),
            crop=size,
            interpolation=config.interpolation,
            mean=list(config.mean),
            std=list(config.std),
        )
        models[name] = {"": {"preprocessing": number}}
    return {"preprocessing": groups.listed(), "models": models}


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
