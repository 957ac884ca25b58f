"""Performance and accuracy runs of a compiled model on the CPU, with vamp's flags and report.

Without --path_output the model's speed is measured; with it, every input of --datalist is run through the model
and its scores are written to that folder.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

from mnasbench.build.package import CompiledModel, read_package
from mnasbench.build.vdsp_params import read_vdsp_params
from mnasbench.commands.arguments import MOST_IMAGES, MOST_SESSIONS, HelpfulFormatter, OneLineParser, real, whole
from mnasbench.commands.command_line import run
from mnasbench.commands.progress import Shown, waiting
from mnasbench.cpus import usable_cpus
from mnasbench.data.datalist import read_datalist
from mnasbench.errors import InputError, did_you_mean
from mnasbench.files import write_json
from mnasbench.preprocessing import Preprocessing
from mnasbench.run.accuracy import run_accuracy
from mnasbench.run.inputs import UInt8Array, sample_of_list, synthetic_images
from mnasbench.run.measurement import find_peak, measure_performance
from mnasbench.run.performance import SCENARIOS, Load
from mnasbench.run.report_text import report_text
from mnasbench.run.session import input_format
from mnasbench.run.tune import SEARCH_SECONDS, tune

# 10 MB of different 224 x 224 images: more than the L2 caches of the cores that work on them hold.
DISTINCT_INPUTS = 64


def shape(text: str) -> tuple[int, int, int]:
    """``[3,224,224]`` or ``3,224,224`` as three numbers."""
    parts = text.strip().removeprefix("[").removesuffix("]").split(",")
    try:
        channels, height, width = (int(part) for part in parts)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a shape such as [3,224,224]") from None
    if channels != 3 or height < 1 or width < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected three channels and a positive height and width")
    return channels, height, width


def count_or_auto(text: str) -> int | str:
    """A positive number, or ``auto``."""
    if text == "auto":
        return text
    try:
        return whole(1, MOST_SESSIONS)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, and not 'auto'") from None


class VampParser(OneLineParser):
    """Says what the vendor's documents get wrong: ``-i 1 p 1`` lacks a dash."""

    def error(self, message: str) -> NoReturn:
        """End with the message; a bare letter among the unknown arguments gets a hint."""
        words = message.removeprefix("unrecognized arguments: ").split() if "unrecognized" in message else []
        options = {option for action in self._actions for option in action.option_strings}
        forgotten = next((word for word in words if f"-{word}" in options), None)
        if forgotten:
            message += f"; a dash was forgotten: -{forgotten}"
        elif words:
            message += did_you_mean(words[0].partition("=")[0], options)
        super().error(message)


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command: vamp's, then those of the embedded engine."""
    parser = VampParser(prog="ort-vamp", description=__doc__, formatter_class=HelpfulFormatter, allow_abbrev=False)
    add = parser.add_argument
    add("-m", "--model", type=Path, required=True, metavar="PREFIX", help="compiled model, without a suffix")
    add("--vdsp_params", type=Path, required=True, metavar="FILE", help="preprocessing, any of the three forms")
    add("-i", "--instance", type=count_or_auto, default=1, metavar="N", help="sessions in each process, or auto")
    add("-p", "--processes", type=whole(1, MOST_SESSIONS), default=1, metavar="N", help="processes")
    add("-b", "--batch_size", type=whole(1, MOST_IMAGES), default=1, metavar="N", help="images a request")
    add("-s", "--shape", type=shape, metavar="[3,H,W]", help="shape of made-up inputs; default: the model's")
    add("-d", "--device", default="0", metavar="N", help="said back in the report; a CPU is one device")
    add("--iterations", type=whole(), metavar="N", help="requests in all; default: as many as fit into --seconds")
    add("--datalist", type=Path, metavar="FILE", help="npz inputs, one path a line")
    add(
        "--path_output",
        type=Path,
        metavar="DIR",
        help="accuracy run: folder for the scores of each input, or FILE.npz for all of them",
    )
    for flag in ("--dtype", "--forward_mode", "--backend", "--hwconfig", "-t"):
        add(flag, dest="ignored", action="append", metavar="X", help="the card's; accepted, without effect here")
    own = parser.add_argument_group("of the embedded engine")
    own.add_argument("--json", type=Path, metavar="FILE", help="write the full report")
    own.add_argument("--threads", type=whole(1, MOST_SESSIONS), default=1, metavar="N", help="threads of each session")
    own.add_argument("--retune", action="store_true", help="-i auto: search again, whatever is remembered")
    own.add_argument("--scenario", choices=SCENARIOS, help="how requests arrive; default: offline")
    own.add_argument(
        "--rate", type=real(above=True), metavar="R", help="open loop: requests a second, Poisson arrivals"
    )
    own.add_argument("--find-peak", action="store_true", help="search the highest rate that meets --latency-bound")
    own.add_argument(
        "--latency-bound", type=real(above=True), metavar="US", help="p99 in microseconds, for --find-peak"
    )
    own.add_argument("--seconds", type=real(above=True), default=10.0, metavar="S", help="length of a measurement")
    own.add_argument("--warmup", type=real(), default=1.0, metavar="S", help="seconds of load before it")
    own.add_argument("--retries", type=whole(0), default=0, metavar="N", help="measure again while not VALID")
    own.add_argument("--seed", type=whole(0), default=0, metavar="N", help="of arrivals and made-up inputs")
    return parser


def vamp(arguments: argparse.Namespace) -> None:
    """Measure, or compute scores."""
    compiled = read_package(arguments.model)
    params = read_vdsp_params(arguments.vdsp_params)
    if arguments.ignored:
        print("ort-vamp: some of the card's flags were given; they have no effect here", file=sys.stderr)
    if arguments.path_output is not None:
        report = accuracy(arguments, compiled, params)
    elif arguments.find_peak:
        report = peak(arguments, compiled, params)
    else:
        report = performance(arguments, compiled, params)
    if arguments.json is not None:
        write_json(arguments.json, report)


def accuracy(arguments: argparse.Namespace, compiled: CompiledModel, params: Preprocessing) -> dict[str, Any]:
    """Run every listed input through the model."""
    if arguments.datalist is None:
        raise InputError("--path_output needs --datalist, the list of inputs")
    inputs = read_datalist(arguments.datalist)
    run = run_accuracy(
        compiled,
        params,
        inputs,
        arguments.path_output,
        instances=load_of(arguments).sessions,
        batch=arguments.batch_size,
        threads=arguments.threads,
        progress=Shown(),
    )
    return {**asdict(run), "throughput_qps": run.throughput_qps}


def inputs_of(arguments: argparse.Namespace, compiled: CompiledModel) -> tuple[list[UInt8Array], str]:
    """The images that a measurement cycles through, and where they come from."""
    if arguments.datalist is not None:
        return sample_of_list(read_datalist(arguments.datalist), DISTINCT_INPUTS), "datalist"
    return synthetic_images(
        arguments.shape or (3, *input_format(compiled.info).size), DISTINCT_INPUTS, arguments.seed
    ), "noise"


def load_of(arguments: argparse.Namespace) -> Load:
    """The load that the flags describe; ``-i auto`` stands for one session of one thread on each usable CPU."""
    instances = arguments.instance
    if instances == "auto":
        one = arguments.scenario == "single_stream"
        instances = 1 if one else max(1, usable_cpus() // (arguments.threads * arguments.processes))
    return Load(
        scenario=arguments.scenario or ("open_loop" if arguments.rate is not None else "offline"),
        instances=instances,
        processes=arguments.processes,
        batch=arguments.batch_size,
        threads=arguments.threads,
        seconds=arguments.seconds,
        requests=arguments.iterations,
        rate=arguments.rate,
        warmup_seconds=arguments.warmup,
        seed=arguments.seed,
    )


def tuned_load(
    arguments: argparse.Namespace, compiled: CompiledModel, params: Preprocessing, images: list[UInt8Array]
) -> tuple[Load, dict[str, Any] | None]:
    """The load to measure, and what ``-i auto`` found (None where the flags said it all)."""
    load = load_of(arguments)
    if arguments.instance != "auto":
        return load, None
    with waiting("searching sessions and threads", SEARCH_SECONDS):
        best = tune(compiled, params, images, load, again=arguments.retune)
    return replace(load, instances=best.instances, threads=best.threads), asdict(best)


def performance(arguments: argparse.Namespace, compiled: CompiledModel, params: Preprocessing) -> dict[str, Any]:
    """Measure once, print the vendor's report."""
    images, source = inputs_of(arguments, compiled)
    load, tuned = tuned_load(arguments, compiled, params, images)
    with waiting("measuring", load.warmup_seconds + load.seconds):
        report = measure_performance(compiled, params, images, load, arguments.retries)
    report["inputs"]["source"] = source
    report["tuned"] = tuned
    print(report_text(report, arguments.device), end="")
    verdict = report["verdict"]
    for reason, advice in zip(verdict["reasons"], verdict["advice"], strict=True):
        print(f"ort-vamp: {verdict['status']}: {reason}; {advice}", file=sys.stderr)
    return report


def peak(arguments: argparse.Namespace, compiled: CompiledModel, params: Preprocessing) -> dict[str, Any]:
    """Search the highest rate within the latency bound, print the curve."""
    if arguments.latency_bound is None:
        raise InputError("--find-peak needs --latency-bound, the p99 in microseconds that must hold")
    images, _ = inputs_of(arguments, compiled)
    load, _ = tuned_load(arguments, compiled, params, images)
    # One run at saturation and eight at other rates.
    with waiting("searching the peak rate", 12 * (load.warmup_seconds + load.seconds)):
        search = find_peak(compiled, params, images, load, arguments.latency_bound)
    for point in search["curve"]:
        p99 = "-" if point["p99_us"] is None else f"{point['p99_us']:.0f}"
        print(f"rate (requests/s): {point['rate']:.2f}, p99 (us): {p99}, {'met' if point['met'] else 'missed'}")
    peak_rate = "none" if search["peak_rps"] is None else f"{search['peak_rps']:.2f}"
    print(f"peak rate with p99 within {arguments.latency_bound:.0f} us (requests/s): {peak_rate}")
    # By these the report sees that the curve is of the build that it reports.
    return {**search, "digests": compiled.digests}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure a compiled model, or compute its scores."""
    return run(build_parser(), vamp, argv)


if __name__ == "__main__":
    sys.exit(main())
