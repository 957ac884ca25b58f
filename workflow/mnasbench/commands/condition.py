"""ort-vamc condition: the same network as a float ONNX that any int8 compiler keeps, and a certificate beside it.

NETWORK is an ONNX, with --calibration, or a build file of either generation, which names everything. The certificate,
OUTPUT's name with .condition.json, says how far the answers moved and what each kind of compiler will make of both.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from mnasbench.build.config import read_build_config
from mnasbench.commands.arguments import whole
from mnasbench.commands.network_arguments import add_network_arguments, preprocessing_of
from mnasbench.commands.progress import Shown
from mnasbench.errors import SettingsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    add_network_arguments(parser, or_build_file=True)
    add = parser.add_argument
    add("-o", "--output", type=Path, required=True, metavar="ONNX", help="the conditioned graph")
    add("--target", default="onnxruntime", help="whose it will be: vamc, onnxruntime, openvino, tflite")
    add("--opset", type=whole(), help="opset to write; default: what the target reads")
    add("--batch", type=whole(), help="images of its input; default: as in the network")
    add("--kind", action="append", help="a kind of compiler to foresee, to be repeated; default: the target's")


def condition_network(arguments: argparse.Namespace) -> None:
    """Condition, write both files, say what they hold."""
    from mnasbench.build.conditioned_files import condition_files, config_of_graph, lines_of

    if arguments.network.suffix in (".yaml", ".yml"):
        config = replace(read_build_config(arguments.network), backend="ort")
        images = config.images if arguments.images is None else arguments.images
        config = replace(config, dataset=arguments.calibration or config.dataset, images=images)
    elif arguments.calibration is None:
        raise SettingsError("--calibration is missing; name the folder of the images that channels are judged by")
    else:
        config = config_of_graph(
            arguments.network, arguments.calibration, arguments.images, preprocessing_of(arguments)
        )
    certificate = condition_files(
        config,
        arguments.output,
        arguments.target,
        opset=arguments.opset,
        batch=arguments.batch,
        kinds=arguments.kind,
        progress=Shown(),
    )
    print("\n".join(lines_of(certificate, arguments.output)))
