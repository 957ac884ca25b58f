"""Export a torchvision or timm classifier to ONNX (or TorchScript), and tell its multiply-adds and parameters.

Writes SAVE_DIR/{model_name}_{size}.onnx (or .pt) and, beside it, .json with what is known of the model. The
exported graph is run once beside torch; where their logits differ, nothing is written.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.commands.arguments import parser_for, whole
from mnasbench.commands.command_line import run
from mnasbench.errors import SettingsError
from mnasbench.files import sha256_of_file, write_json
from mnasbench.presets import LIBRARIES, preset


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command: the vendor's names, and --weights for published ones."""
    parser = parser_for(__doc__)
    parser.add_argument("--model_library", choices=LIBRARIES, required=True, help="where the architecture comes from")
    parser.add_argument("--model_name", required=True, help="its name there, e.g. mnasnet0_5")
    parser.add_argument("--save_dir", type=Path, required=True, help="folder to write to")
    parser.add_argument("--size", type=whole(), default=None, help="side of the square input; default: as published")
    weights = parser.add_mutually_exclusive_group(required=True)
    weights.add_argument("--pretrained_weights", type=Path, metavar="FILE", help="a state dict (.pth, .safetensors)")
    weights.add_argument("--checkpoint_path", type=Path, metavar="FILE", help="the same, by timm's name for it")
    weights.add_argument("--weights", metavar="NAME", help="published weights to download, e.g. IMAGENET1K_V1")
    purpose = "digest that the weights must have; the .json says which one they had"
    parser.add_argument("--sha256", metavar="DIGEST", help=purpose)
    parser.add_argument("--convert_mode", choices=("onnx", "pt"), default="onnx", help="what to write")
    return parser


def export(arguments: argparse.Namespace) -> None:
    """Load, export, describe."""
    name, library = arguments.model_name, arguments.model_library
    size = arguments.size or preset(library, name).size
    if not 32 <= size <= 1024:
        raise SettingsError(f"--size {size}: expected 32 to 1024 pixels")

    from mnasbench.model import architecture, complexity
    from mnasbench.model.export import export_onnx, export_torchscript

    file = arguments.pretrained_weights or arguments.checkpoint_path
    if file is not None:
        digest = sha256_of_file(file) if file.is_file() else ""
        architecture.require_digest(str(file), digest, arguments.sha256 if digest else None)
        model, classes = architecture.load(library, name, file)
    else:
        model, digest = architecture.download(library, name, arguments.weights)
        architecture.require_digest(f"{library} {name} {arguments.weights}", digest, arguments.sha256)
        classes = architecture.IMAGENET_CLASSES
    path = arguments.save_dir / f"{name}_{size}.{arguments.convert_mode}"
    (export_onnx if arguments.convert_mode == "onnx" else export_torchscript)(model, size, path)
    parameters, multiply_adds = complexity.parameter_count(model), complexity.multiply_adds(model, size)
    card = complexity.card_flops(model, size)
    description = {
        "library": library,
        "name": name,
        "size": size,
        "classes": classes,
        "params": parameters,
        "macs": multiply_adds,
        "card_flops": card,
        "weights": {"sha256": digest} | ({"published": arguments.weights} if file is None else {}),
        "file": path.name,
        "sha256": sha256_of_file(path),
    }
    write_json(path.with_suffix(".json"), description)
    print(
        f"{path}: {multiply_adds / 1e9:.3f} G multiply-adds ({card / 1e9:.3f} G as the model card counts FLOPs), "
        f"{parameters / 1e6:.3f} M parameters, {classes} classes"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Export one model."""
    return run(build_parser(), export, argv)


if __name__ == "__main__":
    sys.exit(main())
