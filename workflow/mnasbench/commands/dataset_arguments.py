"""The arguments that say where a dataset is, alike in every command that reads one."""

import argparse
from pathlib import Path

from mnasbench.commands.arguments import whole
from mnasbench.data.class_order import NUMBERINGS
from mnasbench.data.layouts import Dataset


def add_dataset_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --root, --part, --labels, --wnids and --limit."""
    parser.add_argument("--root", type=Path, required=True, help="folder that holds the folder of images")
    parser.add_argument(
        "--part", help="the folder of images; default: val, validation, valid, test, or the root itself"
    )
    parser.add_argument("--labels", type=Path, help="label file; default: <part>_label.txt in the root, if there")
    parser.add_argument("--wnids", type=Path, help="class folders' names in class order; default: wnids.txt, if there")
    purpose = "what numbers classes: ImageNet's ids, their names' order, or the file; default: see config/README.md"
    parser.add_argument("--classes", choices=NUMBERINGS, help=purpose)
    parser.add_argument("--limit", type=whole(), help="take only this many images")


def dataset_of(arguments: argparse.Namespace) -> Dataset:
    """The dataset that the arguments describe."""
    return Dataset(
        arguments.root, arguments.labels, arguments.part, arguments.wnids, arguments.classes, arguments.limit
    )
