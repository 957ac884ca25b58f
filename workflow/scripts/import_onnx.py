"""Make your own ONNX file what the exporter would have written: a graph that the compiler takes, with the same answers.

Writes SAVE_DIR/{name}_{size}.onnx and, beside it, .json with what is known of the model. Both graphs are run beside
each other; where their answers differ, nothing is written.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.commands.arguments import parser_for, sides
from mnasbench.commands.command_line import run
from mnasbench.files import sha256_of_file, write_json, written_atomically
from mnasbench.onnx_file import files_of_onnx
from mnasbench.preprocessing import Preprocessing, resize_to_json, sides_label
from mnasbench.weight_shards import digest_of_files, require_digest


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    parser.add_argument("--model", type=Path, required=True, metavar="FILE", help="the ONNX file")
    parser.add_argument("--name", help="name of the files to write; default: the file's")
    parser.add_argument("--save_dir", type=Path, required=True, help="folder to write to")
    parser.add_argument("--size", type=sides, help="side of the image, or HEIGHTxWIDTH, where the graph leaves it free")
    parser.add_argument("--output", metavar="NAME", help="which of several outputs has the scores")
    purpose = "resize, crop, mean, ... as JSON, to be told where the graph normalises by itself"
    parser.add_argument("--preprocessing", type=json.loads, metavar="JSON", help=purpose)
    parser.add_argument("--sha256", metavar="DIGEST", help="digest that the file must have")
    return parser


def act(arguments: argparse.Namespace) -> None:
    """Import, describe."""
    from mnasbench.model.onnx_import import import_onnx, multiply_adds, parameter_count

    preprocessing = None if arguments.preprocessing is None else Preprocessing.from_json(arguments.preprocessing)
    imported = import_onnx(arguments.model, arguments.size, arguments.output, preprocessing)
    digest = digest_of_files(files_of_onnx(arguments.model))
    require_digest(str(arguments.model), digest, arguments.sha256)
    size = imported.size[0] if imported.size[0] == imported.size[1] else imported.size
    name = arguments.name or arguments.model.stem
    path = arguments.save_dir / f"{name}_{sides_label(size)}.onnx"
    with written_atomically(path) as temporary:
        temporary.write_bytes(imported.model.SerializeToString(deterministic=True))
    macs, parameters = multiply_adds(imported.model), parameter_count(imported.model)
    description = {
        "library": "onnx",
        "name": name,
        "size": resize_to_json(size),
        "classes": imported.classes,
        "params": parameters,
        "macs": macs,
        "card_flops": None,
        "weights": {"sha256": digest},
        "notes": [*imported.notes, "it has no publisher, so there is no parity certificate"],
        "file": path.name,
        "sha256": sha256_of_file(path),
    }
    write_json(path.with_suffix(".json"), description)
    for note in imported.notes:
        print(note)
    counted = "an unknown number of multiply-adds" if macs is None else f"{macs / 1e9:.3f} G multiply-adds"
    print(f"{path}: {counted}, {parameters / 1e6:.3f} M parameters, {imported.classes} classes")


def main(argv: Sequence[str] | None = None) -> int:
    """Import one model."""
    return run(build_parser(), act, argv)


if __name__ == "__main__":
    sys.exit(main())
