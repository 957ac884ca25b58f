"""Export a torchvision or timm classifier to ONNX (or TorchScript), and tell its multiply-adds and parameters.

Writes SAVE_DIR/{model_name}_{size}.onnx (or .pt) and, beside it, .json with what is known of the model. The
exported graph is run once beside torch; where their logits differ, nothing is written.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.commands.arguments import parser_for, sides
from mnasbench.commands.command_line import run
from mnasbench.errors import SettingsError, one_line
from mnasbench.files import sha256_of_file, write_json
from mnasbench.preprocessing import as_pair, resize_to_json, sides_label
from mnasbench.presets import LIBRARIES, TIMM_PRETRAINED, preset, preset_of_file
from mnasbench.weight_shards import digest_of_weights, require_digest


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command: the vendor's names, and --weights for published ones."""
    parser = parser_for(__doc__)
    parser.add_argument("--model_library", choices=LIBRARIES, required=True, help="where the architecture comes from")
    parser.add_argument("--model_name", required=True, help="its name there, e.g. mnasnet0_5")
    parser.add_argument("--save_dir", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--size", type=sides, default=None, help="side of the input, or HEIGHTxWIDTH; default: as published"
    )
    weights = parser.add_mutually_exclusive_group(required=True)
    weights.add_argument(
        "--pretrained_weights", type=Path, metavar="FILE", help="a state dict or checkpoint (.pth, .safetensors, ...)"
    )
    weights.add_argument("--checkpoint_path", type=Path, metavar="FILE", help="the same, by timm's name for it")
    weights.add_argument("--weights", metavar="NAME", help="published weights to download, e.g. IMAGENET1K_V1")
    purpose = "where in the file the weights stand, e.g. state_dict_ema; default: those that are no average"
    parser.add_argument("--weights_key", metavar="KEY", help=purpose)
    purpose = "googlenet, inception_v3: leave out the change of the input that torchvision's published weights expect"
    parser.add_argument("--no_transform_input", action="store_true", help=purpose)
    purpose = "digest that the weights must have; the .json says which one they had"
    parser.add_argument("--sha256", metavar="DIGEST", help=purpose)
    parser.add_argument("--convert_mode", choices=("onnx", "pt"), default="onnx", help="what to write")
    return parser


def export(arguments: argparse.Namespace) -> None:
    """Load, export, describe."""
    name, library = arguments.model_name, arguments.model_library
    file = arguments.pretrained_weights or arguments.checkpoint_path
    if file is None:
        named = None if arguments.weights == TIMM_PRETRAINED else arguments.weights
        published = preset(library, name, named)
    else:
        published = preset_of_file(library, name, file, arguments.sha256)
    size = arguments.size or published.size
    if not all(8 <= side <= 1024 for side in as_pair(size)):
        raise SettingsError(f"--size {sides_label(size)}: expected 8 to 1024 pixels")

    from mnasbench.model import architecture, complexity
    from mnasbench.model.export import export_onnx, export_torchscript
    from mnasbench.model.fusion import fuse_branches

    transformed, notes = not arguments.no_transform_input, []
    if file is not None:
        digest = digest_of_weights(file) if file.is_file() else ""
        require_digest(str(file), digest, arguments.sha256 if digest else None)
        loaded = architecture.load_file(library, name, file, size, arguments.weights_key, transformed)
        model, notes = loaded.model, [f"{one_line(file)}: {note}" for note in loaded.notes]
    else:
        model, digest = architecture.download(library, name, arguments.weights, size, transformed)
        require_digest(f"{library} {name} {arguments.weights}", digest, arguments.sha256)
    classes = architecture.require_size(library, name, model, size)
    model, fused = fuse_branches(model, size)
    notes += [f"{library} {name}: {fused}"] if fused else []
    path = arguments.save_dir / f"{name}_{sides_label(size)}.{arguments.convert_mode}"
    (export_onnx if arguments.convert_mode == "onnx" else export_torchscript)(model, size, path)
    multiply_adds, card = None, None
    try:
        multiply_adds, card = complexity.multiply_adds(model, size), complexity.card_flops(model, size)
    except complexity.UncountedError as error:
        notes.append(f"{library} {name}: {error}")
    parameters = complexity.parameter_count(model)
    description = {
        "library": library,
        "name": name,
        "size": resize_to_json(size),
        "classes": classes,
        "params": parameters,
        "macs": multiply_adds,
        "card_flops": card,
        "weights": {"sha256": digest} | ({"published": arguments.weights} if file is None else {}),
        "preset": {"entry": published.entry, "reason": published.reason, "is_guess": published.is_guess},
        "notes": notes,
        "file": path.name,
        "sha256": sha256_of_file(path),
    }
    write_json(path.with_suffix(".json"), description)
    print(f"{library} {name}: preprocessing of {published.entry or 'the published weights'} ({published.reason})")
    for note in notes:
        print(note)
    counted = "an unknown number of multiply-adds"
    if multiply_adds is not None and card is not None:
        counted = f"{multiply_adds / 1e9:.3f} G multiply-adds ({card / 1e9:.3f} G as the model card counts FLOPs)"
    print(f"{path}: {counted}, {parameters / 1e6:.3f} M parameters, {classes} classes")


def main(argv: Sequence[str] | None = None) -> int:
    """Export one model."""
    return run(build_parser(), export, argv)


if __name__ == "__main__":
    sys.exit(main())
