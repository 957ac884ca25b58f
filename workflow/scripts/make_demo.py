"""Draw the demo dataset in ImageNet's layout: val/, train/, their label files, classes.txt."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.commands.arguments import parser_for, whole
from mnasbench.commands.command_line import run
from mnasbench.commands.progress import Shown
from mnasbench.data.demo import make_demo


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    parser.add_argument("--target_path", type=Path, required=True, help="folder to fill")
    parser.add_argument("--validation", type=whole(), default=1000, help="images in val/")
    parser.add_argument("--training", type=whole(), default=2000, help="images in train/")
    parser.add_argument("--seed", type=whole(0), default=0, help="another seed draws other images")
    parser.add_argument("--workers", type=whole(), default=None, help="processes; default: one a core")
    return parser


def draw(arguments: argparse.Namespace) -> None:
    """Draw the images."""
    make_demo(
        arguments.target_path,
        validation=arguments.validation,
        training=arguments.training,
        seed=arguments.seed,
        workers=arguments.workers,
        progress=Shown(),
    )
    print(f"{arguments.target_path}: {arguments.validation} images to validate, {arguments.training} to train on")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(build_parser(), draw, argv)


if __name__ == "__main__":
    sys.exit(main())
