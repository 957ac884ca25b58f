"""From vamp's outputs to the vendor's result text: five lines an input, as sample_cls.py writes them.

  vamp_npz_decode.py NPZ_LIST NPZ_DIR RESULT_TXT LABEL_TXT

Outputs are paired with the inputs of the list by name. LABEL_TXT holds the class names, one a line.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mnasbench.commands.arguments import parser_for
from mnasbench.commands.command_line import run
from mnasbench.commands.progress import Shown
from mnasbench.data.class_order import read_class_names
from mnasbench.data.npz import read_output
from mnasbench.result.pairing import find_outputs, listed_inputs
from mnasbench.run.classify import Prediction, write_result_text
from mnasbench.run.scores import best_classes, softmax


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command, in the vendor's order."""
    parser = parser_for(__doc__)
    parser.add_argument("npz_list", type=Path, help="the list of inputs that vamp was given")
    parser.add_argument("npz_dir", type=Path, help="folder of its outputs")
    parser.add_argument("result_txt", type=Path, help="result text to write")
    parser.add_argument("label_txt", type=Path, help="class names, one a line")
    parser.add_argument("--softmax", action="store_true", help="the outputs are logits: turn them into probabilities")
    return parser


def decode(arguments: argparse.Namespace) -> None:
    """Pair, rank, write."""
    inputs = listed_inputs(arguments.npz_list)
    outputs = find_outputs(arguments.npz_dir, inputs)
    names = read_class_names(arguments.label_txt)
    predictions = []
    for key, path in Shown().loop("decoding", inputs.items(), len(inputs)):
        scores = read_output(outputs[key])
        if arguments.softmax:
            scores = softmax(scores[np.newaxis])[0]
        best = best_classes(scores, 5)
        predictions.append(Prediction(path, best, tuple(float(scores[index]) for index in best)))
    write_result_text(arguments.result_txt, predictions, names)
    print(f"{arguments.result_txt}: {len(predictions)} inputs")


def main(argv: Sequence[str] | None = None) -> int:
    """Decode the outputs of one run."""
    return run(build_parser(), decode, argv)


if __name__ == "__main__":
    sys.exit(main())
