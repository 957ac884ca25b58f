"""Top-1 and top-5 from the outputs of an accuracy run (one npz an input, key output_0).

Outputs are paired with inputs and labels by name. Prints both accuracies; writes the answer to each image with
--answers, which the gathering over shards and the comparison of precisions start from.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.commands.arguments import parser_for
from mnasbench.commands.command_line import run
from mnasbench.commands.progress import Shown
from mnasbench.files import write_json
from mnasbench.result.evaluation import accuracy, evaluate_outputs, write_answers
from mnasbench.result.pairing import find_outputs, labels_by_key, labels_left_out, labels_of, listed_inputs


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command: the vendor's, and files to write."""
    parser = parser_for(__doc__)
    parser.add_argument("--result_path", type=Path, required=True, help="folder of output npz files")
    parser.add_argument("--datalist", type=Path, required=True, help="the list of inputs that the run was given")
    parser.add_argument("--label", type=Path, required=True, help="label file (<name> <class>) or manifest")
    parser.add_argument("--reference_path", type=Path, help="outputs of another model on the same inputs, for SQNR")
    parser.add_argument("--answers", type=Path, help="CSV to write: the answer to each image")
    parser.add_argument("--json", type=Path, help="JSON to write: the accuracies with their intervals")
    return parser


def evaluate(arguments: argparse.Namespace) -> None:
    """Pair, rank, count."""
    inputs = listed_inputs(arguments.datalist)
    outputs = find_outputs(arguments.result_path, inputs)
    reference = find_outputs(arguments.reference_path, inputs) if arguments.reference_path else None
    all_labels = labels_by_key(arguments.label)
    labels = labels_of(inputs, all_labels, arguments.label)
    answers = evaluate_outputs(outputs, labels, reference, Shown())
    left_out, message = labels_left_out(inputs, all_labels, arguments.label)
    if arguments.answers:
        write_answers(arguments.answers, answers)
    figures = accuracy(answers)
    if arguments.json:
        write_json(arguments.json, {**figures, "labels_left_out": left_out})
    if message:
        print(f"eval_imagenet.py: {message}", file=sys.stderr)
    print(f"images: {figures['images']}, top1: {figures['top1']:.3f}, top5: {figures['top5']:.3f}")


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate one run."""
    return run(build_parser(), evaluate, argv)


if __name__ == "__main__":
    sys.exit(main())
