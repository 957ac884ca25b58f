"""Lay ImageNet's validation images out in class folders: TARGET/val/<wnid>/<image>.

The images stay where they are, unless --mode move says otherwise. --undo takes back what an earlier call did.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.commands.arguments import parser_for
from mnasbench.commands.command_line import run
from mnasbench.data.layouts import Dataset
from mnasbench.data.valprep import make_class_folders, undo, write_labels_of_devkit
from mnasbench.errors import SettingsError


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    parser.add_argument("--dataset_path", type=Path, help="folder that holds val/ with the images")
    parser.add_argument("--target_path", type=Path, required=True, help="folder for val/<wnid>/ and for the journal")
    labels = parser.add_mutually_exclusive_group()
    labels.add_argument("--labels", type=Path, help="label file; default: val_label.txt in the dataset's folder")
    labels.add_argument("--devkit", type=Path, help="the unpacked ILSVRC2012_devkit_t12, whose ground truth is used")
    parser.add_argument("--wnids", type=Path, help="WordNet ids in class order; default: ImageNet's")
    parser.add_argument("--mode", choices=("link", "copy", "move"), default="link", help="how an image gets there")
    parser.add_argument("--undo", action="store_true", help="take back what is in TARGET_PATH")
    return parser


def prepare(arguments: argparse.Namespace) -> None:
    """Place the images, or take them back."""
    target = arguments.target_path
    if arguments.undo:
        print(f"{target}: {undo(target)} images taken back")
        return
    if arguments.dataset_path is None:
        raise SettingsError("--dataset_path is missing: the folder that holds val/")
    labels = arguments.labels
    if arguments.devkit is not None:
        labels = target / "val_label.txt"
        write_labels_of_devkit(arguments.devkit, arguments.dataset_path, "val", labels)
    dataset = Dataset(arguments.dataset_path, labels, wnids=arguments.wnids)
    print(f"{target}: {make_class_folders(dataset, target, arguments.mode)} images in class folders")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(build_parser(), prepare, argv)


if __name__ == "__main__":
    sys.exit(main())
