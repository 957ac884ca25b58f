"""The manifest of a dataset from those of its shards."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.commands.arguments import parser_for
from mnasbench.commands.command_line import run
from mnasbench.data.class_file import gather_class_files
from mnasbench.data.manifest import gather_manifests


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    parser.add_argument("--shards", type=Path, nargs="+", required=True, help="manifests of the shards, in their order")
    parser.add_argument("--manifest", type=Path, required=True, help="CSV file to write")
    return parser


def gather(arguments: argparse.Namespace) -> None:
    """Put them together and say what was found."""
    images = gather_manifests(arguments.shards, arguments.manifest)
    gather_class_files(arguments.shards, arguments.manifest)
    classes, excluded = len({p.class_index for p in images}), sum(bool(p.fault) for p in images)
    print(f"{arguments.manifest}: {len(images)} images of {classes} classes, {excluded} excluded")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(build_parser(), gather, argv)


if __name__ == "__main__":
    sys.exit(main())
