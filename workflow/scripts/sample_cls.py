"""Classify images straight from their files, and write the vendor's result text (five lines an image).

The second road to the accuracies that the npz runs give: images -> sample_cls.py -> eval_topk.py. Without
arguments it takes the demo set and the int8 build of mnasnet0_5, as `make run` leaves them. Called as the vendor's
scripts of 2023 (sample_cls.py) and 2025 (classification.py) are: --save_dir is the result text, where its name ends in
.txt, or the folder for it. Of a single image the folder gets <image>.txt, with every class above 1 percent.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.build.package import read_package
from mnasbench.build.vdsp_params import read_vdsp_params
from mnasbench.build.vendor import prefix_of_model_info
from mnasbench.commands.arguments import MOST_IMAGES, MOST_SESSIONS, parser_for, whole
from mnasbench.commands.command_line import run
from mnasbench.commands.progress import Shown
from mnasbench.data.class_names import read_class_names
from mnasbench.data.manifest import look_at_folder
from mnasbench.errors import SettingsError, one_line
from mnasbench.files import write_text
from mnasbench.preprocessing import Preprocessing
from mnasbench.run.classify import classify, result_lines, score_text, write_result_text

_DEMO = Path("results/data/demo/images")
_DEMO_MODEL = Path("results/build/mnasnet0_5/int8-percentile/mnasnet0_5-int8-percentile-3_224_224-ort/mnasnet0_5")


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command: the vendor's of both its versions."""
    parser = parser_for(__doc__)
    purpose = "folder for the result text, or the text itself: a name that ends in .txt"
    parser.add_argument("--save_dir", type=Path, default=Path("output"), metavar="PATH", help=purpose)
    purpose = "the text's name in the folder; default: result.txt"
    parser.add_argument("--save_result_txt", type=Path, metavar="NAME", help=purpose)
    parser.add_argument("--file_path", type=Path, default=_DEMO / "val", help="an image or a folder of them")
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--model_prefix_path", type=Path, default=_DEMO_MODEL, help="compiled model, without suffix")
    model.add_argument("--model_info", type=Path, metavar="FILE", help="JSON that names the compiled model's files")
    parser.add_argument(
        "--vdsp_params_info", type=Path, metavar="FILE", help="preprocessing; default: what the model was built with"
    )
    parser.add_argument("--label_txt", type=Path, default=_DEMO / "classes.txt", help="class names, one a line")
    parser.add_argument("--task", choices=("topk", "run"), default="topk", help="run: print the classes of one image")
    parser.add_argument("--topk", type=whole(), default=5, metavar="N", help="classes an image in the result text")
    parser.add_argument("--batch", type=whole(1, MOST_IMAGES), default=1, help="images a request")
    parser.add_argument("--threads", type=whole(1, MOST_SESSIONS), default=1, help="threads of the session")
    parser.add_argument("--device_id", "--device", help="the card's; accepted, without effect here")
    parser.add_argument("--infer_mode", choices=("sync", "async"), help="the card's; accepted, without effect here")
    return parser


def result_text_of(arguments: argparse.Namespace) -> Path | None:
    """The result text to write; None where a folder is given for the classes of a single image."""
    folder: Path = arguments.save_dir
    is_text = folder.suffix == ".txt" and not folder.is_dir()
    if is_text and arguments.save_result_txt is None:
        return folder
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"--save_dir: {one_line(folder)} is a file, and --save_result_txt names one in a folder")
    if arguments.file_path.is_file():
        return None
    return folder / (arguments.save_result_txt or "result.txt")


def sample(arguments: argparse.Namespace) -> None:
    """Classify and write."""
    prefix = prefix_of_model_info(arguments.model_info) if arguments.model_info else arguments.model_prefix_path
    compiled = read_package(prefix)
    if arguments.vdsp_params_info:
        params = read_vdsp_params(arguments.vdsp_params_info)
    else:
        params = Preprocessing.from_json(compiled.info["preprocessing"])
    names = read_class_names(arguments.label_txt)
    shape = compiled.info["outputs"][0]["shape"]
    classes = shape[-1] if isinstance(shape[-1], int) else len(names)  # or a name: then it is not known
    if len(names) != classes:
        raise SettingsError(
            f"{one_line(arguments.label_txt)}: names {len(names)} classes, but the model has {classes}; give the names "
            "that belong to it, one a line"
        )
    single = not arguments.file_path.is_dir()
    if arguments.task == "run" and not single:
        raise SettingsError(f"--task run is about one image, but {one_line(arguments.file_path)} is a folder")
    images = [arguments.file_path]
    if not single:
        images = [arguments.file_path / image.name for image in look_at_folder(arguments.file_path, None)]
    target = result_text_of(arguments)
    k = classes if target is None else arguments.topk
    predictions = classify(compiled, params, images, batch=arguments.batch, threads=arguments.threads, k=k)
    if not single:
        assert target is not None  # see result_text_of
        write_result_text(target, Shown().loop("images", predictions, len(images)), names)
        print(f"{target}: {len(images)} images")
        return
    (prediction,) = predictions
    if arguments.task == "run":
        print(result_lines(prediction.first(arguments.topk), names), end="")
    elif target is None:
        target = arguments.save_dir / f"{arguments.file_path.stem}.txt"
        write_text(target, score_text(prediction, names))
        print(f"{result_lines(prediction.first(arguments.topk), names)}{target}: 1 image")
    else:
        write_result_text(target, [prediction], names)
        print(f"{target}: 1 image")


def main(argv: Sequence[str] | None = None) -> int:
    """Classify images."""
    return run(build_parser(), sample, argv)


if __name__ == "__main__":
    sys.exit(main())
