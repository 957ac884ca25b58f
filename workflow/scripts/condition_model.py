"""Condition an exported graph: the same function, made robust to int8, with its description and a certificate.

condition_model.py NET.json --calibration FOLDER --target vamc --output CONDITIONED.onnx
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.commands.arguments import parser_for, whole
from mnasbench.commands.command_line import run
from mnasbench.commands.progress import Shown
from mnasbench.errors import ModelError
from mnasbench.files import read_json, sha256_of_file, write_json
from mnasbench.preprocessing import Preprocessing


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    parser.add_argument("description", type=Path, help="the .json that the export wrote beside its graph")
    parser.add_argument("--preprocessing", type=json.loads, required=True, help="resize, crop, mean, ... as JSON")
    parser.add_argument("--calibration", type=Path, required=True, help="folder of calibration images")
    parser.add_argument("--images", type=whole(), help="how many of them; default: all")
    parser.add_argument("--target", required=True, help="whose it will be: vamc, onnxruntime, openvino, tflite")
    parser.add_argument("--output", type=Path, required=True, help="the graph to write, .onnx")
    return parser


def act(arguments: argparse.Namespace) -> None:
    """Condition, describe, say what the certificate holds."""
    from mnasbench.build.conditioned_files import condition_files, config_of_graph, lines_of

    description = read_json(arguments.description)
    if not isinstance(description, dict) or "file" not in description:
        raise ModelError(f"{arguments.description}: is not the description that the export writes; export it again")
    graph = arguments.description.with_name(description["file"])
    preprocessing = Preprocessing.from_json(arguments.preprocessing)
    config = config_of_graph(graph, arguments.calibration, arguments.images, preprocessing)
    certificate = condition_files(config, arguments.output, arguments.target, progress=Shown())
    digest = sha256_of_file(arguments.output)
    changed = {"file": arguments.output.name, "sha256": digest, "conditioned_for": arguments.target}
    write_json(arguments.output.with_suffix(".json"), description | changed)
    print("\n".join(lines_of(certificate, arguments.output)))


def main(argv: Sequence[str] | None = None) -> int:
    """Condition one model."""
    return run(build_parser(), act, argv)


if __name__ == "__main__":
    sys.exit(main())
