"""Write what the compiler and the performance tool read: the build file and the preprocessing file.

The build file is in the layout of the given generation; the preprocessing file in one of the vendor's three forms.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.build.config import BuildConfig, build_file
from mnasbench.build.vdsp_params import VARIANTS, vdsp_params
from mnasbench.build.vendor import for_the_card
from mnasbench.card_options import unpublished
from mnasbench.commands.arguments import parser_for, whole
from mnasbench.commands.command_line import run
from mnasbench.errors import ModelError
from mnasbench.files import read_json, write_json, write_yaml
from mnasbench.precisions import PRECISIONS
from mnasbench.preprocessing import Preprocessing, as_pair, sides_from_json
from mnasbench.runtimes import AUTO, RUNTIMES


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    parser.add_argument("--name", required=True, help="name of the model")
    parser.add_argument("--model", type=Path, required=True, help="the .json that the export wrote beside its graph")
    parser.add_argument("--precision", choices=PRECISIONS, required=True, help="what to build")
    parser.add_argument("--engine", choices=("ort", "vacc"), default="ort", help="who will read the files")
    parser.add_argument("--generation", type=int, choices=(1, 2), default=1, help="layout of the build file")
    parser.add_argument("--preprocessing", type=json.loads, required=True, help="resize, crop, mean, ... as JSON")
    parser.add_argument("--runtime", choices=(AUTO, *RUNTIMES), default=AUTO, help="what will run it (ort)")
    parser.add_argument("--quantize", type=json.loads, default={}, help="settings of the quantizer as JSON")
    purpose = "the card's own options as JSON, by section: compile, quantize"
    parser.add_argument("--card_options", type=json.loads, default={}, metavar="JSON", help=purpose)
    parser.add_argument("--softmax", action="store_true", help="have the compiler add a softmax behind the logits")
    parser.add_argument("--calibration", type=Path, help="folder of calibration images (int8)")
    parser.add_argument("--images", type=whole(), help="how many of them")
    parser.add_argument("--work_dir", type=Path, required=True, help="folder that the compiler writes to")
    parser.add_argument("--npz", choices=("preprocessed", "original"), default="preprocessed", help="what the npz hold")
    parser.add_argument("--vdsp_variant", choices=VARIANTS, default="current", help="form of the preprocessing file")
    parser.add_argument("--build_file", type=Path, required=True, help="build file to write")
    parser.add_argument("--vdsp_params", type=Path, required=True, help="preprocessing file to write")
    return parser


def write(arguments: argparse.Namespace) -> None:
    """Write both files."""
    exported = read_json(arguments.model)
    if not isinstance(exported, dict) or not {"file", "size"} <= set(exported):
        raise ModelError(f"{arguments.model}: is not the description that the export writes; export the model again")
    preprocessing = Preprocessing.from_json(arguments.preprocessing)
    config = BuildConfig(
        generation=arguments.generation,
        name=arguments.name,
        checkpoint=arguments.model.with_name(exported["file"]),
        input_name="input",
        shape=(1, 3, *as_pair(sides_from_json(exported["size"], f"{arguments.model}: size"))),
        precision=arguments.precision,
        preprocessing=preprocessing,
        dataset=arguments.calibration,
        suffix="JPEG",
        images=arguments.images,
        work_dir=arguments.work_dir,
        backend=arguments.engine,
        per_channel=arguments.quantize.get("per_channel", True),
        skip_layers=tuple(arguments.quantize.get("skip_layers", ())),
        equalize=arguments.quantize.get("equalize", True),
        bias_correction=arguments.quantize.get("bias_correction", True),
        max_drop=arguments.quantize.get("max_drop"),
        percentile=arguments.quantize.get("percentile", 99.9999),
        headroom=arguments.quantize.get("headroom", 10.0),
        gptq=arguments.quantize.get("gptq", True),
        # Without quotes YAML reads off as false.
        reconstruct=arguments.quantize.get("reconstruct") or "off",
        reconstruct_seconds=arguments.quantize.get("reconstruct_seconds", 120.0),
        weight_bits=arguments.quantize.get("weight_bits", "auto"),
        runtime=arguments.runtime,
        # Else logits, on the card, too: SQNR is measured on them, and probabilities in fp16 round low ranks to ties.
        softmax=arguments.softmax,
        compile_options=arguments.card_options.get("compile", {}),
        quantize_options=arguments.card_options.get("quantize", {}),
    )
    for line in unpublished(arguments.card_options):
        print(f"write_build_config.py: {line}", file=sys.stderr)
    on_card = arguments.engine == "vacc"
    write_yaml(arguments.build_file, build_file(for_the_card(config) if on_card else config))
    content = vdsp_params(preprocessing, arguments.vdsp_variant, resized=arguments.npz == "preprocessed", fp16=on_card)
    write_json(arguments.vdsp_params, content)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the build file and the preprocessing file."""
    return run(build_parser(), write, argv)


if __name__ == "__main__":
    sys.exit(main())
