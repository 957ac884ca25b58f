"""Classify images straight from their files, and write the vendor's result text (five lines an image).

The second road to the accuracies that the npz runs give: images -> sample_cls.py -> eval_topk.py. Without
arguments it takes the demo set and the int8 build of mnasnet0_5, as `make run` leaves them.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.build.package import read_package
from mnasbench.build.vdsp_params import read_vdsp_params
from mnasbench.commands.arguments import MOST_IMAGES, MOST_SESSIONS, parser_for, whole
from mnasbench.commands.command_line import run
from mnasbench.commands.progress import Shown
from mnasbench.data.class_order import read_class_names
from mnasbench.data.manifest import look_at_folder
from mnasbench.preprocessing import Preprocessing
from mnasbench.run.classify import classify, write_result_text

_DEMO = Path("results/data/demo/images")
_DEMO_MODEL = Path("results/build/mnasnet0_5/int8-percentile/mnasnet0_5-int8-percentile-3_224_224-ort/mnasnet0_5")


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command: the vendor's of both its versions."""
    parser = parser_for(__doc__)
    parser.add_argument("--save_dir", type=Path, required=True, metavar="FILE", help="result text to write")
    parser.add_argument("--file_path", type=Path, default=_DEMO / "val", help="an image or a folder of them")
    parser.add_argument("--model_prefix_path", type=Path, default=_DEMO_MODEL, help="compiled model, without suffix")
    parser.add_argument(
        "--vdsp_params_info", type=Path, metavar="FILE", help="preprocessing; default: what the model was built with"
    )
    parser.add_argument("--label_txt", type=Path, default=_DEMO / "classes.txt", help="class names, one a line")
    parser.add_argument("--batch", type=whole(1, MOST_IMAGES), default=1, help="images a request")
    parser.add_argument("--threads", type=whole(1, MOST_SESSIONS), default=1, help="threads of the session")
    for flag in ("--device_id", "--infer_mode"):
        parser.add_argument(flag, help="the card's; accepted, without effect here")
    return parser


def sample(arguments: argparse.Namespace) -> None:
    """Classify and write."""
    compiled = read_package(arguments.model_prefix_path)
    if arguments.vdsp_params_info:
        params = read_vdsp_params(arguments.vdsp_params_info)
    else:
        params = Preprocessing.from_json(compiled.info["preprocessing"])
    names = read_class_names(arguments.label_txt)
    if arguments.file_path.is_dir():
        images = [arguments.file_path / image.name for image in look_at_folder(arguments.file_path, None)]
    else:
        images = [arguments.file_path]
    predictions = classify(compiled, params, images, batch=arguments.batch, threads=arguments.threads)
    write_result_text(arguments.save_dir, Shown().loop("images", predictions, len(images)), names)
    print(f"{arguments.save_dir}: {len(images)} images")


def main(argv: Sequence[str] | None = None) -> int:
    """Classify images."""
    return run(build_parser(), sample, argv)


if __name__ == "__main__":
    sys.exit(main())
