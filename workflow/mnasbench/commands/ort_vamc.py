"""The embedded compiler: reads the vendor's build file and writes the three files of a compiled model.

ort-vamc build FILE.yaml     layout of generation 1 (2023)
ort-vamc compile FILE.yaml   layout of generation 2 (2025)
ort-vamc check FILE.yaml     say whether the file is right, and build nothing
ort-vamc inspect PREFIX      say what a compiled model is and where it came from
ort-vamc portable MODEL      foretell what an int8 model answers on other CPUs
ort-vamc condition NET.onnx  write the same network as a float ONNX that any int8 compiler keeps
ort-vamc foresee NET.onnx    say what int8 compilers of each kind will make of a float ONNX
"""

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mnasbench.build.config import read_build_config
from mnasbench.build.package import read_package
from mnasbench.commands import condition, foresee
from mnasbench.commands.arguments import MOST_IMAGES, parser_for, whole
from mnasbench.commands.command_line import run
from mnasbench.commands.progress import Shown
from mnasbench.errors import one_line
from mnasbench.files import write_json, write_text

_GENERATIONS = {"build": 1, "compile": 2, "check": None}


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    parser.prog = "ort-vamc"
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, purpose in (
        ("build", "build from a file of generation 1"),
        ("compile", "build from a file of generation 2"),
        ("check", "validate a build file of either generation"),
    ):
        command = commands.add_parser(name, help=purpose, description=purpose)
        command.add_argument("file", type=Path, help="the build file")
        if name != "check":
            command.add_argument("--json", type=Path, help="what was compiled: model_info and the prefix of its files")
    purpose = "describe a compiled model"
    commands.add_parser("inspect", help=purpose, description=purpose).add_argument(
        "prefix", type=Path, help="the path that its three files share, without suffix"
    )
    purpose = "foretell what a compiled int8 model answers on other CPUs, computed exactly on this one"
    portable = commands.add_parser("portable", help=purpose, description=purpose)
    portable.add_argument("model", type=Path, help="its build file, or the path that its three files share")
    portable.add_argument("--images", type=Path, help="a folder of images (default: those that a build file names)")
    portable.add_argument("--count", type=whole(most=MOST_IMAGES), default=32, help="images, evenly spaced")
    portable.add_argument("--json", type=Path, help="where the figures go as well")
    command = commands.add_parser("foresee", help="foretell other compilers' int8", description=foresee.__doc__)
    foresee.add_arguments(command)
    command = commands.add_parser("condition", help="make a float ONNX robust to int8", description=condition.__doc__)
    condition.add_arguments(command)
    return parser


def act(arguments: argparse.Namespace) -> None:
    """Check, build, inspect, foresee or condition."""
    if arguments.command == "condition":
        condition.condition_network(arguments)
        return
    if arguments.command == "foresee":
        foresee.foresee_network(arguments)
        return
    # Imported late: `check` needs no runtime, and the runtime takes half a second.
    if arguments.command == "inspect":
        from mnasbench.build.vamc import describe

        print("\n".join(describe(read_package(_without_suffix(arguments.prefix)))))
        return
    if arguments.command == "portable":
        _portable(arguments)
        return
    # The vendor's own files name the card's backend; whoever calls this command wants the embedded one.
    config = replace(read_build_config(arguments.file, _GENERATIONS[arguments.command]), backend="ort")
    for name in config.ignored:
        print(f"ort-vamc: option '{name}' is the card's and has no effect here", file=sys.stderr)
    for line in config.assumed:
        print(f"ort-vamc: {arguments.file}: {line}", file=sys.stderr)
    if arguments.command == "check":
        if config.checkpoint.exists():
            from mnasbench.build.vamc import read_checkpoint

            for note in read_checkpoint(config)[1]:
                print(f"{one_line(config.checkpoint)}: {note}")
        print(f"{arguments.file}: generation {config.generation}, {config.name} {config.precision} -> {config.prefix}")
        return
    from mnasbench.build.vamc import build, layers_file

    compiled, layers = build(config, progress=Shown())
    if layers:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(layers[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(layers)
        write_text(layers_file(compiled.prefix), text.getvalue())
    if arguments.json is not None:
        write_json(arguments.json, {**compiled.info, "prefix": str(compiled.prefix)})
    print(f"{compiled.prefix}: {config.precision}, {compiled.size_bytes / 1e6:.2f} MB")


def _portable(arguments: argparse.Namespace) -> None:
    from mnasbench.run.portable import described, foretold

    config, prefix = None, _without_suffix(arguments.model)
    if arguments.model.suffix in {".yaml", ".yml"}:
        config = replace(read_build_config(arguments.model), backend="ort")
        prefix = config.prefix
    figures = foretold(read_package(prefix), config, arguments.images, arguments.count)
    if arguments.json is not None:
        write_json(arguments.json, figures)
    print("\n".join(described(figures)))


def _without_suffix(prefix: Path) -> Path:
    return prefix.with_suffix("") if prefix.suffix in {".onnx", ".params", ".json"} else prefix


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the commands."""
    return run(build_parser(), act, argv)


if __name__ == "__main__":
    sys.exit(main())
