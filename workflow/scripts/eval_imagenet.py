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
from mnasbench.data.changes import read_digests
from mnasbench.data.manifest_file import is_manifest
from mnasbench.errors import InputError, SettingsError, one_line
from mnasbench.files import read_text, write_json
from mnasbench.result.answers import write_answers
from mnasbench.result.evaluation import accuracy, evaluate_outputs, held_out, held_out_figures
from mnasbench.result.outputs import read_outputs
from mnasbench.result.pairing import (
    excluded_images,
    images_of_contents,
    labels_left_out,
    labels_of,
    labels_of_file,
    listed_inputs,
)


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command: the vendor's, and files to write."""
    parser = parser_for(__doc__)
    add = parser.add_argument
    add("--result_path", type=Path, nargs="+", required=True, help="outputs: a folder of npz files, or npz of many")
    add("--datalist", type=Path, help="the list of inputs that the run was given; default: all that have a label")
    add("--label", type=Path, required=True, help="label file (<name> <class>), CSV or manifest")
    add("--reference_path", type=Path, nargs="*", default=[], help="outputs of the fp32 model on the same inputs")
    add(
        "--calibration",
        type=Path,
        help="digests of the calibration images (calibration.sha256): counts the judged ones",
    )
    add("--split", action="store_true", help="judge no image that is a calibration image, too")
    purpose = "the outputs are behind a softmax, the reference's are not: SQNR, which is of logits, stays unknown"
    add("--probabilities", action="store_true", help=purpose)
    add("--answers", type=Path, help="CSV to write: the answer to each image")
    add("--json", type=Path, help="JSON to write: the accuracies with their intervals")
    return parser


def evaluate(arguments: argparse.Namespace) -> None:
    """Pair, rank, count."""
    (all_labels, order), excluded = labels_of_file(arguments.label), excluded_images(arguments.label)
    if order is not None and order.is_guess:
        print(f"eval_imagenet.py: {arguments.label}: {len(order.indices)} classes {order.reason}", file=sys.stderr)
    labels = all_labels
    if arguments.datalist is not None:
        labels = labels_of(listed_inputs(arguments.datalist), all_labels, arguments.label)
    outputs = read_outputs(arguments.result_path)
    reference = read_outputs(arguments.reference_path) if arguments.reference_path else None
    answers, theirs = evaluate_outputs(outputs, labels, reference, probabilities=arguments.probabilities)
    left_out, message = labels_left_out(labels, all_labels, arguments.label)
    calibration = _calibration_images(arguments)
    before = len(answers)
    if arguments.split:
        answers, theirs = held_out(answers, theirs, calibration or ())
        if answers.empty:
            raise SettingsError(
                f"calibration.split leaves no image to judge: all {before} are calibration images, too; give "
                "calibration.source, or fewer calibration.images"
            )
    figures = accuracy(answers, theirs)
    if calibration is not None:
        left = {"calibration_left_out": before - len(answers)}
        figures |= left | held_out_figures(answers, theirs, calibration)
    if arguments.answers:
        write_answers(arguments.answers, answers)
    if arguments.json:
        write_json(arguments.json, {**figures, "labels_left_out": left_out, "excluded": excluded})
    if message:
        print(f"eval_imagenet.py: {message}", file=sys.stderr)
    print(f"images: {figures['images']}, top1: {figures['top1']:.3f}, top5: {figures['top5']:.3f}")


def _calibration_images(arguments: argparse.Namespace) -> set[str] | None:
    """Keys of the images that are calibration images by their content; None where nobody says which those are."""
    if arguments.calibration is None:
        return None
    if not is_manifest(read_text(arguments.label)):
        raise InputError(
            f"{one_line(arguments.label)}: is no manifest, which --calibration needs for the digests in it"
        )
    return images_of_contents(arguments.label, set(read_digests(arguments.calibration).values()))


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate one run."""
    return run(build_parser(), evaluate, argv)


if __name__ == "__main__":
    sys.exit(main())
