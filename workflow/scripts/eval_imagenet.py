"""Top-1 and top-5 from the outputs of an accuracy run (key output_0), and what changed against a reference's.

Outputs are paired with labels, inputs and the reference's by name; each image must have one. They are one npz an
image, or shards of many with their names. Prints both accuracies; writes the answer to each image with --answers.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.commands.arguments import parser_for
from mnasbench.commands.command_line import run
from mnasbench.files import write_json
from mnasbench.result.answers import write_answers
from mnasbench.result.evaluation import accuracy, evaluate_outputs
from mnasbench.result.outputs import read_outputs
from mnasbench.result.pairing import excluded_images, labels_by_key, labels_left_out, labels_of, listed_inputs


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command: the vendor's, and files to write."""
    parser = parser_for(__doc__)
    add = parser.add_argument
    add("--result_path", type=Path, nargs="+", required=True, help="outputs: a folder of npz files, or npz of many")
    add("--datalist", type=Path, help="the list of inputs that the run was given; default: all that have a label")
    add("--label", type=Path, required=True, help="label file (<name> <class>), CSV or manifest")
    add("--reference_path", type=Path, nargs="*", default=[], help="outputs of the fp32 model on the same inputs")
    add("--answers", type=Path, help="CSV to write: the answer to each image")
    add("--json", type=Path, help="JSON to write: the accuracies with their intervals")
    return parser


def evaluate(arguments: argparse.Namespace) -> None:
    """Pair, rank, count."""
    all_labels, excluded = labels_by_key(arguments.label), excluded_images(arguments.label)
    labels = all_labels
    if arguments.datalist is not None:
        labels = labels_of(listed_inputs(arguments.datalist), all_labels, arguments.label)
    outputs = read_outputs(arguments.result_path)
    reference = read_outputs(arguments.reference_path) if arguments.reference_path else None
    answers, theirs = evaluate_outputs(outputs, labels, reference)
    left_out, message = labels_left_out(labels, all_labels, arguments.label)
    figures = accuracy(answers, theirs)
    if arguments.answers:
        write_answers(arguments.answers, answers)
    if arguments.json:
        write_json(arguments.json, {**figures, "labels_left_out": left_out, "excluded": excluded})
    if message:
        print(f"eval_imagenet.py: {message}", file=sys.stderr)
    print(f"images: {figures['images']}, top1: {figures['top1']:.3f}, top5: {figures['top5']:.3f}")


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate one run."""
    return run(build_parser(), evaluate, argv)


if __name__ == "__main__":
    sys.exit(main())
