"""Top-1 and top-5 from a result text, as sample_cls.py and the vendor's tools write it (five lines an image).

Labels are compared by class index. They come from --label; else from the label file of the dataset that the text's
images lie in, or from their class folders: ids of ImageNet have ImageNet's indices, unless no answer is above their
number.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mnasbench.commands.arguments import parser_for
from mnasbench.commands.command_line import run
from mnasbench.data.class_order import IMAGENET_CLASSES, NUMBERINGS, ClassRule, require_answers_of
from mnasbench.data.labels import TINY_IMAGENET
from mnasbench.files import write_json
from mnasbench.result.evaluation import accuracy
from mnasbench.result.pairing import label_file_near, labels_left_out, labels_of_file, labels_of_folders, wnids_near
from mnasbench.result.result_text import answers_from_text, read_result_text


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    parser.add_argument("result", type=Path, help="the result text")
    parser.add_argument("--label", type=Path, help="label file (<name> <class>), CSV or manifest")
    parser.add_argument("--wnids", type=Path, help="class folders' names, or the labels' words, in class order")
    parser.add_argument("--classes", choices=NUMBERINGS, help="what numbers classes that are named")
    parser.add_argument("--json", type=Path, help="JSON to write: the accuracies with their intervals")
    return parser


def _labels_of(arguments: argparse.Namespace) -> tuple[dict[str, int], Path]:
    """Class indices by image key, and where they come from."""
    answered = read_result_text(arguments.result)
    images = [Path(image) for image in answered]
    greatest = max(max(classes) for classes in answered.values())
    rule = ClassRule(arguments.wnids, numbering=arguments.classes)
    label_file = arguments.label or label_file_near(images[0])
    if label_file is not None:
        if rule.wnids is None:
            rule = replace(rule, wnids=wnids_near(label_file), is_given=label_file.name == TINY_IMAGENET)
        labels, order = labels_of_file(label_file, rule)
        if order is not None and order.numbering == "imagenet" and greatest < len(order.indices):
            labels, order = labels_of_file(label_file, replace(rule, outputs=frozenset({len(order.indices)})))
        if order is not None and order.is_guess:
            require_answers_of(order, greatest, label_file)
            print(f"eval_topk.py: {label_file}: {len(order.indices)} classes {order.reason}", file=sys.stderr)
        return labels, label_file
    # Nothing else says how many classes the model has: of ten folders and no answer above 9 it has ten.
    folders = len({image.parent.name for image in images})
    rule = replace(rule, outputs=frozenset({folders if greatest < folders else max(IMAGENET_CLASSES, greatest + 1)}))
    labels, order = labels_of_folders(images, rule)
    require_answers_of(order, greatest, images[0].parents[1])
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
