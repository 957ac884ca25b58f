"""Train an architecture on the demo dataset (ROOT/train), seeded, and save its state dict.

About a minute on one core for mnasnet1_0. The validation images are not looked at.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.commands.arguments import parser_for, whole
from mnasbench.commands.command_line import run
from mnasbench.commands.progress import Shown
from mnasbench.presets import LIBRARIES, preset


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    parser.add_argument("--model_library", choices=LIBRARIES, required=True, help="where the architecture comes from")
    parser.add_argument("--model_name", required=True, help="its name there, e.g. mnasnet0_5")
    parser.add_argument("--dataset_path", type=Path, required=True, help="the demo dataset: holds train/")
    parser.add_argument("--save_path", type=Path, required=True, help="file to write (.pth)")
    parser.add_argument("--seed", type=whole(0), default=0, help="another seed gives other weights")
    return parser


def train(arguments: argparse.Namespace) -> None:
    """Train and save."""
    preset(arguments.model_library, arguments.model_name)  # a misspelled name is told before torch is imported
    from mnasbench.model.train_demo import save_weights, train_demo

    state = train_demo(
        arguments.model_library,
        arguments.model_name,
        arguments.dataset_path,
        arguments.seed,
        Shown(),
    )
    save_weights(state, arguments.save_path)
    print(f"{arguments.save_path}: {arguments.model_library} {arguments.model_name}, trained on the demo set")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(build_parser(), train, argv)


if __name__ == "__main__":
    sys.exit(main())
