"""Call the vendor's performance tool with the flags of ort-vamp, and write what ort-vamp would.

Without --path_output the card's speed is measured (vamp itself takes no list then); with it, vamp writes the scores
of every input of --datalist, which are gathered in one npz.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.commands.arguments import parser_for, sides, whole
from mnasbench.commands.command_line import run
from mnasbench.errors import SettingsError
from mnasbench.files import write_json
from mnasbench.preprocessing import as_pair
from mnasbench.result.pairing import listed_inputs
from mnasbench.run.vendor import Vamp, measure_performance, run_accuracy


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    add = parser.add_argument
    add("--vamp", default="vamp", help="the tool, a name on PATH or a path")
    add("-m", "--model", type=Path, required=True, metavar="PREFIX", help="compiled model, without a suffix")
    add("--vdsp_params", type=Path, required=True, metavar="FILE", help="the preprocessing on the card")
    add("-i", "--instance", type=whole(), default=1, metavar="N", help="instances on each device")
    add("-p", "--processes", type=whole(), default=1, metavar="N", help="processes")
    add("-b", "--batch_size", type=whole(), default=1, metavar="N", help="images a request")
    add("--size", type=sides, required=True, metavar="PIXELS", help="side of the model's input, or HEIGHTxWIDTH")
    add("-d", "--device", default="0", metavar="ID", help="device, as vamp takes it")
    add("--hwconfig", metavar="FILE", help="the card's hardware configuration")
    add("--iterations", type=whole(), metavar="N", help="requests in all")
    add("--datalist", type=Path, metavar="FILE", help="npz inputs, one path a line")
    add("--path_output", type=Path, metavar="FILE.npz", help="accuracy run: npz for the scores of all inputs")
    add("--json", type=Path, metavar="FILE", help="report to write")
    return parser


def act(arguments: argparse.Namespace) -> None:
    """Measure, or have scores computed."""
    vamp = Vamp(
        tool=arguments.vamp,
        prefix=arguments.model,
        vdsp_params=arguments.vdsp_params,
        instances=arguments.instance,
        processes=arguments.processes,
        batch=arguments.batch_size,
        shape=(3, *as_pair(arguments.size)),
        device=arguments.device,
        hwconfig=arguments.hwconfig,
    )
    if arguments.path_output is None:
        report = measure_performance(vamp, arguments.iterations, sys.stdout)
    elif arguments.datalist is None:
        raise SettingsError("--path_output needs --datalist, the list of inputs")
    else:
        inputs = [image.path for image in listed_inputs(arguments.datalist).values()]
        report = run_accuracy(vamp, inputs, arguments.path_output, sys.stdout)
    if arguments.json is not None:
        write_json(arguments.json, report)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure or score one compiled model on the card."""
    # The workflow ends a step by SIGTERM; as an interrupt it ends the vendor's tool, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return run(build_parser(), act, argv)


if __name__ == "__main__":
    sys.exit(main())
