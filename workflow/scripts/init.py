"""Write a configuration for a folder of images and a model, and a sheet of six images as the net will be given them.

Both are looked at first: what is wrong with one is said in a line, and nothing is written. Files are never overwritten.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.commands.arguments import parser_for
from mnasbench.commands.command_line import run
from mnasbench.errors import OutputError, SettingsError, one_line
from mnasbench.files import write_text, written_atomically

# `make run CONFIG="a.yaml b.yaml"` are two files, and the shell reads what else there is.
_NOT_PLAIN = re.compile(r"[^\w./@%+,:=-]")


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of a dataset, in a layout of docs/data.md; or a table of it")
    add("--model", required=True, help="an ONNX file, timm:NAME or torchvision:NAME")
    add("--weights", type=Path, help="file of weights of timm:NAME or torchvision:NAME; default: the published ones")
    add("--output", type=Path, default=Path("mine.yaml"), help="file to write; the sheet is beside it, as .png")
    return parser


def init(arguments: argparse.Namespace) -> None:
    """Look, decide, write."""
    output: Path = arguments.output
    sheet = output.with_suffix(".png")
    if _NOT_PLAIN.search(str(output)):
        raise SettingsError(f"{one_line(output)}: make takes no file of this name for CONFIG; give it a plain one")
    if output.suffix not in (".yaml", ".yml"):
        raise SettingsError(f"{output}: expected the name of a file that ends in .yaml (CONFIG, --output)")
    for path in (output, sheet):
        if path.exists() or path.is_symlink():
            raise OutputError(
                f"{one_line(path)}: is there already; remove it, or name another file with CONFIG (--output)"
            )
    if not output.resolve().parent.is_dir():
        raise OutputError(f"{one_line(output.parent)}: is no folder to write {one_line(output.name)} to")

    from mnasbench.plan.initial import initial_configuration

    made = initial_configuration(arguments.data, arguments.model, arguments.weights)
    with written_atomically(sheet) as temporary:
        temporary.write_bytes(made.sheet)
    try:
        write_text(output, made.text)
    except BaseException:
        sheet.unlink(missing_ok=True)
        raise
    for line in made.lines:
        print(line)
    print(f"{output}: the configuration, with the reason of every decision")
    print(f"{sheet}: six images as the net will be given them, with their classes")
    print(f"\nLook at both, then:\n\n  make check CONFIG={output}\n  make run CONFIG={output}")


def main(argv: Sequence[str] | None = None) -> int:
    """Write a first configuration."""
    return run(build_parser(), init, argv)


if __name__ == "__main__":
    sys.exit(main())
