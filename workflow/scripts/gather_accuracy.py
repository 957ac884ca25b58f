"""Accuracies of one row from the answers of all its shards, and what changed against fp32.

The figures do not depend on the number of shards: answers are added up image by image.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.commands.arguments import parser_for
from mnasbench.commands.command_line import run
from mnasbench.data.manifest_file import read_manifest
from mnasbench.errors import PairingError, one_line
from mnasbench.files import write_json
from mnasbench.result.evaluation import accuracy, image_key, read_answers


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    parser.add_argument("--answers", type=Path, nargs="+", required=True, help="tables of answers, one a shard")
    parser.add_argument("--reference", type=Path, nargs="*", default=[], help="those of the fp32 model")
    parser.add_argument("--manifest", type=Path, required=True, help="the manifest of the dataset")
    parser.add_argument("--json", type=Path, required=True, help="JSON to write")
    return parser


def gather(arguments: argparse.Namespace) -> None:
    """Read, check against the manifest, count."""
    answers = read_answers(arguments.answers)
    reference = read_answers(arguments.reference) if arguments.reference else None
    images = read_manifest(arguments.manifest, with_faulty=True)
    expected = {image_key(image.name): image.class_index for image in images if not image.fault}
    answered = {answer.name: answer.label for answer in answers}
    if answered != expected:
        wrong = sorted(set(expected.items()) ^ set(answered.items()))[0][0]
        raise PairingError(
            f"{one_line(wrong)}: the answers ({len(answered)}) are not those of the manifest ({len(expected)} images); "
            "delete the results folder of this row and run again"
        )
    excluded = [image.name for image in images if image.fault]
    write_json(arguments.json, {**accuracy(answers, reference), "excluded": excluded})


def main(argv: Sequence[str] | None = None) -> int:
    """Gather one row."""
    return run(build_parser(), gather, argv)


if __name__ == "__main__":
    sys.exit(main())
