"""From vamp's outputs to the vendor's result text: five lines an input, as sample_cls.py writes them.

  vamp_npz_decode.py NPZ_LIST NPZ_DIR RESULT_TXT LABEL_TXT

Outputs are paired with the inputs of the list by name. LABEL_TXT holds the class names, one a line.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.commands.arguments import parser_for
from mnasbench.commands.command_line import run
from mnasbench.data.class_names import read_class_names, require_names_of
from mnasbench.data.image_keys import ImageKeys
from mnasbench.result.answers import TOP
from mnasbench.result.outputs import read_outputs, require_outputs_of
from mnasbench.result.pairing import listed_inputs
from mnasbench.run.classify import Prediction, write_result_text
from mnasbench.run.scores import best_classes, softmax


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command, in the vendor's order."""
    parser = parser_for(__doc__)
    parser.add_argument("npz_list", type=Path, help="the list of inputs that vamp was given")
    parser.add_argument("npz_dir", type=Path, help="its outputs: a folder, or one npz of many")
    parser.add_argument("result_txt", type=Path, help="result text to write")
    parser.add_argument("label_txt", type=Path, help="class names, one a line")
    parser.add_argument("--softmax", action="store_true", help="the outputs are logits: turn them into probabilities")
    return parser


def decode(arguments: argparse.Namespace) -> None:
    """Pair, rank, write."""
    inputs = listed_inputs(arguments.npz_list)
    names = read_class_names(arguments.label_txt)
    images = ImageKeys(inputs)
    predictions: dict[str, Prediction] = {}
    for part in read_outputs([arguments.npz_dir]):
        require_names_of(names, arguments.label_txt, part.scores.shape[1], str(arguments.npz_dir))
        keys = [images[name] for name in part.names]
        require_outputs_of(inputs.keys() & set(keys), keys)
        scores = softmax(part.scores) if arguments.softmax else part.scores
        for key, row, best in zip(keys, scores, best_classes(scores, TOP).tolist(), strict=True):
            predictions[key] = Prediction(inputs[key].path, tuple(best), tuple(float(row[i]) for i in best))
    require_outputs_of(inputs, predictions)
    write_result_text(arguments.result_txt, [predictions[key] for key in inputs], names)
    print(f"{arguments.result_txt}: {len(predictions)} inputs")


def main(argv: Sequence[str] | None = None) -> int:
    """Decode the outputs of one run."""
    return run(build_parser(), decode, argv)


if __name__ == "__main__":
    sys.exit(main())
