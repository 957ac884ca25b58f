"""The parity certificate: what a way of preparing images changes against torchvision's own, in pixels and answers.

check_parity.py --model PREFIX --root DATASET                                  the table of the usual ways
check_parity.py --model PREFIX --root DATASET --datalist LIST --vdsp_params F  what a run with these files sees

With --images N a sample of the images is judged, and what is said of the whole dataset has a 95 % interval.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tabulate import tabulate

from mnasbench.build.package import read_package
from mnasbench.build.vdsp_params import read_vdsp_params
from mnasbench.commands.arguments import parser_for, whole
from mnasbench.commands.command_line import run
from mnasbench.commands.dataset_arguments import add_dataset_arguments, dataset_of
from mnasbench.commands.progress import Shown
from mnasbench.data.choice import sample_of
from mnasbench.data.layouts import scan
from mnasbench.data.manifest_file import read_manifest
from mnasbench.errors import SettingsError
from mnasbench.files import write_json
from mnasbench.preprocessing import Preprocessing, resize_from_json
from mnasbench.result.pairing import listed_inputs
from mnasbench.result.parity import Way, certificate, from_npz, usual_ways


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    parser.add_argument("--model", type=Path, required=True, metavar="PREFIX", help="compiled fp32 model, no suffix")
    parser.add_argument(
        "--resize",
        type=json.loads,
        metavar="JSON",
        help="torchvision's short side, or [height,width]; default: what the model was built with",
    )
    parser.add_argument(
        "--published",
        type=json.loads,
        metavar="JSON",
        help="the publisher's resize, crop, mean, ...; default: what the model was built with",
    )
    add_dataset_arguments(parser)
    parser.add_argument("--manifest", type=Path, help="take the images that this manifest of the dataset names")
    parser.add_argument("--images", type=whole(), help="a sample of so many images; default: all")
    parser.add_argument("--datalist", type=Path, nargs="+", help="lists of the npz inputs of a run")
    parser.add_argument("--vdsp_params", type=Path, help="preprocessing of that run, any of the three forms")
    parser.add_argument("--json", type=Path, help="certificate to write")
    parser.add_argument("--workers", type=whole(), default=2, help="images that are prepared at a time")
    return parser


def ways_of(arguments: argparse.Namespace, reference: Preprocessing) -> list[Way]:
    """The ways that the arguments ask for."""
    if arguments.datalist is None and arguments.vdsp_params is None:
        return usual_ways(reference)
    if arguments.datalist is None or arguments.vdsp_params is None:
        raise SettingsError("--datalist and --vdsp_params belong together")
    return [
        Way("the run's inputs", from_npz(listed_inputs(*arguments.datalist)), read_vdsp_params(arguments.vdsp_params))
    ]


def images_of(arguments: argparse.Namespace) -> tuple[list[tuple[Path, int]], int]:
    """Files and their classes, and how many they were drawn from."""
    if arguments.manifest is not None:
        classes = {image.name: image.class_index for image in read_manifest(arguments.manifest)}
    else:
        classes = {name: file.class_index for name, file in scan(dataset_of(arguments)).items()}
    if arguments.images is not None and arguments.images < 1:
        raise SettingsError(f"--images is {arguments.images}, expected at least 1")
    names = sample_of(list(classes), len(classes) if arguments.images is None else arguments.images)
    return [(arguments.root / name, classes[name]) for name in names], len(classes)


def table(certified: dict[str, Any]) -> str:
    """The certificate's main figures, a way a line."""
    rows = [
        [
            way["way"],
            f"{way['different_pixels']:.2f}",
            f"{way['mean_difference']:.3f}",
            way["max_difference"],
            f"{way['max_input_difference']:.3f}",
            way["different_answers"],
            f"{way['different_answers_low']:.2f} to {way['different_answers_high']:.2f}",
            f"{way['top1']:.3f}",
            f"{way['top1_drop']:.3f} ({way['top1_drop_low']:.2f} to {way['top1_drop_high']:.2f})",
        ]
        for way in certified["ways"]
    ]
    headers = ["way", "pixels %", "mean", "max", "max input", "answers", "answers %", "top-1", "drop (95 %)"]
    return tabulate(rows, headers, disable_numparse=True, colalign=("left", *["right"] * 8))


def check(arguments: argparse.Namespace) -> None:
    """Compare, print, write."""
    compiled = read_package(arguments.model)
    reference = Preprocessing.from_json(arguments.published or compiled.info["preprocessing"])
    if arguments.resize is not None:
        resize = resize_from_json(arguments.resize, "--resize")
        reference = replace(reference, resize=resize, library="pillow", crop_at=None, code=None)
    images, drawn_from = images_of(arguments)
    certified = certificate(
        compiled,
        reference,
        ways_of(arguments, reference),
        images,
        drawn_from=drawn_from,
        workers=arguments.workers,
        progress=Shown(),
    )
    own = certified["torchvision"]
    sample = f" (a sample of {drawn_from})" if certified["images"] < drawn_from else ""
    print(f"{certified['images']} images{sample}; prepared by torchvision {own['version']}: top-1 {own['top1']:.3f}")
    print("differing pixels in %, differences in levels of 0 to 255, answers as numbers of images, and")
    print("as percent of the dataset: 95 % interval where the images are a sample\n")
    print(table(certified))
    if arguments.json is not None:
        write_json(arguments.json, certified)


def main(argv: Sequence[str] | None = None) -> int:
    """Write one certificate."""
    return run(build_parser(), check, argv)


if __name__ == "__main__":
    sys.exit(main())
