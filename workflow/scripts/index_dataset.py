"""Look at every image of a dataset and write its manifest: class, size, digest, shard, and what is wrong with it.

The dataset is ROOT/val/*.JPEG with ROOT/val_label.txt, ROOT/val/<class>/*.JPEG, or what a CSV of path and label
names. A second call reads only the files that changed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.commands.arguments import parser_for, whole
from mnasbench.commands.command_line import run
from mnasbench.commands.dataset_arguments import add_dataset_arguments, dataset_of
from mnasbench.commands.progress import Shown
from mnasbench.data.class_file import write_class_file
from mnasbench.data.layouts import labelled
from mnasbench.data.manifest import index_dataset


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    add_dataset_arguments(parser)
    parser.add_argument("--manifest", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--shards", type=whole(), default=1, help="parts that later steps work on one by one")
    parser.add_argument("--shard", type=whole(0), help="only the images of this part (0-based)")
    parser.add_argument("--on_fault", choices=("error", "exclude"), default="error", help="what a bad image means")
    parser.add_argument("--rehash", action="store_true", help="read every file again")
    parser.add_argument("--workers", type=whole(), default=None, help="processes; default: one a core")
    return parser


def index(arguments: argparse.Namespace) -> None:
    """Write the manifest and say what was found."""
    dataset = dataset_of(arguments)
    images_in_all = labelled(dataset)
    print(f"{arguments.root}: {images_in_all.message}")
    images = index_dataset(
        dataset,
        arguments.manifest,
        on_fault=arguments.on_fault,
        shards=arguments.shards,
        shard=arguments.shard,
        workers=arguments.workers,
        rehash=arguments.rehash,
        images_in_all=images_in_all,
        progress=Shown(),
    )
    write_class_file(arguments.manifest, images_in_all)
    excluded = [image for image in images if image.fault]
    for image in excluded:
        print(f"excluded: {image.name}: {image.fault}")
    classes = len({image.class_index for image in images})
    print(f"{arguments.manifest}: {len(images)} images of {classes} classes, {len(excluded)} excluded")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(build_parser(), index, argv)


if __name__ == "__main__":
    sys.exit(main())
