"""The arguments that name a float ONNX and what it is calibrated on, alike in every command that reads one."""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mnasbench.commands.arguments import sides, whole
from mnasbench.commands.progress import Shown
from mnasbench.errors import SettingsError, one_line
from mnasbench.preprocessing import Preprocessing, as_pair

if TYPE_CHECKING:
    from onnx import ModelProto

    from mnasbench.build.calibration_images import ImageStream

# torchvision's usual resize, in shares of the crop.
_RESIZE = 256 / 224


def add_network_arguments(parser: argparse.ArgumentParser, *, or_build_file: bool = False) -> None:
    """Add the network's file, --calibration, --images, --size, and what becomes of an image.

    ``or_build_file``: a build file may stand in place of the network; then it names the images.
    """
    what = "float ONNX of a classifier" + (", or a build file" if or_build_file else "")
    parser.add_argument("network", type=Path, help=what)
    purpose = "images to calibrate on"
    parser.add_argument("--calibration", type=Path, required=not or_build_file, metavar="FOLDER", help=purpose)
    parser.add_argument("--images", type=whole(), help="take the first so many of them; default: all")
    parser.add_argument("--size", type=sides, help="side, or HEIGHTxWIDTH, where the ONNX leaves it free")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--vdsp_params", type=Path, metavar="FILE", help="preprocessing, any of the three forms")
    purpose = (
        "resize, crop, mean, ... as in a receipt; default: resize to 8/7 of the input's side, ImageNet's mean and std"
    )
    way.add_argument("--preprocessing", metavar="JSON", help=purpose)


def preprocessing_of(arguments: argparse.Namespace) -> Preprocessing:
    """What the arguments say becomes of an image; SettingsError where that does not give the network's input."""
    from mnasbench.onnx_file import own_size

    asked = None if arguments.size is None else as_pair(arguments.size)
    if arguments.vdsp_params is not None:
        from mnasbench.build.vdsp_params import read_vdsp_params

        chosen = read_vdsp_params(arguments.vdsp_params)
    elif arguments.preprocessing is not None:
        chosen = Preprocessing.from_json(_fields(arguments.preprocessing))
    else:
        size = own_size(arguments.network, asked)
        return Preprocessing(resize=round(max(size) * _RESIZE), crop=size)
    size = own_size(arguments.network, asked or chosen.size)
    if size != chosen.size:
        raise SettingsError(
            f"{one_line(arguments.network)}: takes {size[0]} x {size[1]} pixels, the preprocessing gives "
            f"{chosen.size[0]} x {chosen.size[1]}; give the network's own preprocessing"
        )
    return chosen


def _fields(text: str) -> dict[str, object]:
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise SettingsError(
            f'--preprocessing: {one_line(text)[:80]} is no JSON object; expected {{"resize": 256, ...}}'
        )
    return fields


def read_network(path: Path, preprocessing: Preprocessing) -> "ModelProto":
    """A float ONNX as the compiler works with it; ModelError for what is none, or is quantized already."""
    from mnasbench.model.onnx_import import check_graph, import_onnx, is_exported
    from mnasbench.onnx_file import image_input, read_onnx

    model = read_onnx(path)
    image_input(model, one_line(path))
    if is_exported(model, preprocessing.size):
        check_graph(model, one_line(path))
        return model
    return import_onnx(path, preprocessing.size, None, preprocessing).model


@contextmanager
def images_below(folder: Path, count: int | None, preprocessing: Preprocessing) -> Iterator["ImageStream"]:
    """The images of a folder, preprocessed, as a stream of batches; DatasetError where there are too few."""
    from mnasbench.build.calibration_images import ImageStream, find_images

    with ImageStream(find_images(folder, None, count), preprocessing, Shown()) as stream:
        yield stream
