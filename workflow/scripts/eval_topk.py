"""Top-1 and top-5 from a result text, as sample_cls.py and the vendor's tools write it (five lines an image).

Labels are compared by class index. They come from --label; else from val_label.txt in the folder above the images that
the text names, or from their class folders.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.commands.arguments import parser_for
from mnasbench.commands.command_line import run
from mnasbench.files import write_json
from mnasbench.result.evaluation import accuracy
from mnasbench.result.pairing import labels_by_key, labels_left_out, labels_of_folders
from mnasbench.result.result_text import answers_from_text, read_result_text


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    parser.add_argument("result", type=Path, help="the result text")
    parser.add_argument("--label", type=Path, help="label file (<name> <class>), CSV or manifest")
    parser.add_argument("--json", type=Path, help="JSON to write: the accuracies with their intervals")
    return parser


def _labels_of(arguments: argparse.Namespace) -> tuple[dict[str, int], Path]:
    """Class indices by image key, and where they come from."""
    if arguments.label:
        return labels_by_key(arguments.label), arguments.label
    images = [Path(image) for image in read_result_text(arguments.result)]
    for folder in list(images[0].parents)[1:3]:  # val/ itself, or the class folder below it
        if (folder / "val_label.txt").is_file():
            return labels_by_key(folder / "val_label.txt"), folder / "val_label.txt"
    labels, order = labels_of_folders(images)
    print(f"eval_topk.py: no label file; {len(order.indices)} class folders {order.reason}", file=sys.stderr)
    return labels, images[0].parents[1]


def evaluate(arguments: argparse.Namespace) -> None:
    """Read, count."""
    labels, label_file = _labels_of(arguments)
    answers = answers_from_text(arguments.result, labels)
    figures = accuracy(answers)
    left_out, message = labels_left_out(answers["name"], labels, label_file)
    if arguments.json:
        write_json(arguments.json, {**figures, "labels_left_out": left_out})
    if message:
        print(f"eval_topk.py: {message}", file=sys.stderr)
    print(f"images: {figures['images']}, top1: {figures['top1']:.3f}, top5: {figures['top5']:.3f}")


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate one result text."""
    return run(build_parser(), evaluate, argv)


if __name__ == "__main__":
    sys.exit(main())
