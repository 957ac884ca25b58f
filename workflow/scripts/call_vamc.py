"""Call the vendor's compiler on a build file, check what it leaves, and describe it.

call_vamc.py FILE.yaml --vamc vamc --json compiled.json --model_info model_info.json
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.build.vendor import compile_model, vendor_model_info
from mnasbench.commands.arguments import parser_for
from mnasbench.commands.command_line import run
from mnasbench.files import write_json


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    parser.add_argument("build_file", type=Path, help="the build file, of either generation")
    parser.add_argument("--vamc", default="vamc", help="the compiler, a name on PATH or a path")
    parser.add_argument("--hwconfig", help="the card's hardware configuration, for model_info")
    parser.add_argument("--json", type=Path, required=True, help="what was compiled, from what, with which digests")
    parser.add_argument("--model_info", type=Path, required=True, help="the same for the vendor's sample_cls.py")
    return parser


def act(arguments: argparse.Namespace) -> None:
    """Compile, describe."""
    compiled = compile_model(arguments.vamc, arguments.build_file, sys.stdout)
    write_json(arguments.model_info, vendor_model_info(compiled, arguments.hwconfig))
    write_json(arguments.json, compiled)


def main(argv: Sequence[str] | None = None) -> int:
    """Compile one model."""
    # The workflow ends a step by SIGTERM; as an interrupt it ends the vendor's tool, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return run(build_parser(), act, argv)


if __name__ == "__main__":
    sys.exit(main())
