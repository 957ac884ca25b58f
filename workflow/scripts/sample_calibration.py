"""Choose the images that int8 ranges are taken from: every class present, by a seed, as a list and as a folder."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.commands.arguments import parser_for, whole
from mnasbench.commands.command_line import run
from mnasbench.commands.dataset_arguments import add_dataset_arguments, dataset_of
from mnasbench.data.calibration import sample_calibration, write_calibration
from mnasbench.data.class_order import NUMBERINGS
from mnasbench.data.layouts import Dataset, scan


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    add_dataset_arguments(parser)
    parser.add_argument("--images", type=whole(), default=1000, help="how many")
    parser.add_argument("--seed", type=whole(0), default=0, help="another seed chooses others")
    group = parser.add_argument_group("the dataset whose classes must all be present; default: the one chosen from")
    group.add_argument("--classes_root", type=Path, help="its folder")
    group.add_argument("--classes_labels", type=Path, help="its label file, where that is not in the folder")
    group.add_argument("--classes_wnids", type=Path, help="its file of WordNet ids in class order")
    group.add_argument("--classes_classes", choices=NUMBERINGS, help="what numbers its classes")
    group.add_argument("--classes_limit", type=whole(), help="only this many images of it count")
    parser.add_argument("--on_fault", choices=("error", "exclude"), default="error", help="what a bad image means")
    parser.add_argument("--list", type=Path, required=True, help="file to write: an absolute path a line")
    parser.add_argument("--folder", type=Path, required=True, help="folder to write: a link for each image")
    parser.add_argument("--copy", action="store_true", help="copy the images instead of linking them")
    parser.add_argument("--workers", type=whole(), default=None, help="processes; default: one a core")
    return parser


def sample(arguments: argparse.Namespace) -> None:
    """Choose and write."""
    classes = None
    if arguments.classes_root is not None:
        scored = Dataset(
            arguments.classes_root,
            labels=arguments.classes_labels,
            wnids=arguments.classes_wnids,
            numbering=arguments.classes_classes,
            limit=arguments.classes_limit,
        )
        classes = {file.class_index for file in scan(scored).values()}
    names = sample_calibration(
        dataset_of(arguments),
        arguments.images,
        arguments.seed,
        expected_classes=classes,
        on_fault=arguments.on_fault,
        workers=arguments.workers,
    )
    write_calibration(arguments.root, names, arguments.list, arguments.folder, "copy" if arguments.copy else "link")
    print(f"{arguments.list}: {len(names)} images")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(build_parser(), sample, argv)


if __name__ == "__main__":
    sys.exit(main())
