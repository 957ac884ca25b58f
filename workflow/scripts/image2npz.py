"""Images to npz files (key input_0, uint8, RGB, planar) and the list of them that vamp reads.

With --resize and --crop an array is what the model sees, (3, crop, crop), equal to torchvision's pixels; without,
it is the whole image, (3, height, width), as the vendor's tools prepare it themselves. Folders are kept. With
--shard_file all images stand in one npz, input_0 (images, 3, crop, crop) and names, which ort-vamp reads as well.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.commands.arguments import parser_for, sides, whole
from mnasbench.commands.command_line import run
from mnasbench.commands.progress import Shown
from mnasbench.data.datalist import write_datalist
from mnasbench.data.manifest import look_at_folder
from mnasbench.data.manifest_file import IndexedImage, read_manifest
from mnasbench.data.npz_inputs import write_input_shard, write_npz_inputs
from mnasbench.errors import SettingsError
from mnasbench.preprocessing import INTERPOLATIONS, LIBRARIES, Preprocessing, resize_from_json


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command: the vendor's three, and ours."""
    parser = parser_for(__doc__)
    parser.add_argument("--dataset_path", type=Path, required=True, help="folder of images (with --manifest: its root)")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--target_path", type=Path, help="folder for npz files of one image each, as vamp reads them")
    where.add_argument("--shard_file", type=Path, metavar="FILE.npz", help="one npz for all images, with their names")
    purpose = "list file to write: an absolute path a line"
    parser.add_argument("--text_path", type=Path, default=Path("npz.txt"), help=purpose)
    parser.add_argument("--manifest", type=Path, help="take the images that this manifest of the dataset names")
    parser.add_argument("--shard", type=whole(0), help="take one shard of the manifest (0-based)")
    size = "short side to resize to, or height and width"
    parser.add_argument("--resize", type=whole(), nargs="+", metavar="PIXELS", help=size)
    parser.add_argument("--crop", type=sides, help="side of the centre crop, or HEIGHTxWIDTH")
    parser.add_argument("--interpolation", choices=INTERPOLATIONS, default="bilinear", help="of the resize")
    parser.add_argument("--library", choices=LIBRARIES, default="pillow", help="whose resampling")
    parser.add_argument("--preprocessing", type=json.loads, metavar="JSON", help="resize, crop, ... in one, as JSON")
    parser.add_argument("--original", action="store_true", help="whole images (as without --resize and --crop)")
    parser.add_argument("--exact", action="store_true", help="remove other npz files from the target folder")
    parser.add_argument("--relative", action="store_true", help="list paths relative to the list's folder")
    parser.add_argument("--workers", type=whole(), default=None, help="processes; default: one a core")
    return parser


def preprocessing_of(arguments: argparse.Namespace) -> Preprocessing | None:
    """The preprocessing that the arguments describe; None for whole images."""
    ways = {"--original": arguments.original, "--preprocessing": arguments.preprocessing is not None}
    ways["--resize and --crop"] = arguments.resize is not None or arguments.crop is not None
    given = [flags for flags, is_given in ways.items() if is_given]
    if len(given) > 1:
        raise SettingsError(f"{given[0]} and {given[1]} exclude each other")
    if arguments.preprocessing is not None:
        return Preprocessing.from_json(arguments.preprocessing)
    if arguments.resize is None and arguments.crop is None:
        return None
    if arguments.resize is None or arguments.crop is None:
        raise SettingsError("--resize (one or two numbers) and --crop belong together")
    resize = resize_from_json(arguments.resize, "--resize")
    return Preprocessing(resize, arguments.crop, arguments.interpolation, arguments.library)


def images_of(arguments: argparse.Namespace) -> list[IndexedImage]:
    """The images to convert: the manifest's, or all files below the folder."""
    if arguments.manifest is not None:
        return read_manifest(arguments.manifest, arguments.shard)
    if arguments.shard is not None:
        raise SettingsError("--shard needs --manifest, which says what belongs to a shard")
    return look_at_folder(arguments.dataset_path, arguments.workers)


def convert(arguments: argparse.Namespace) -> None:
    """Convert the images and write their list."""
    preprocessing = preprocessing_of(arguments)
    images = images_of(arguments)
    if arguments.shard_file is not None:
        if preprocessing is None:
            raise SettingsError("--shard_file needs --resize and --crop: whole images differ in size")
        write_input_shard(
            arguments.dataset_path,
            images,
            arguments.shard_file,
            preprocessing,
            workers=arguments.workers,
            progress=Shown(),
        )
        files = [arguments.shard_file]
    else:
        files = write_npz_inputs(
            arguments.dataset_path,
            images,
            arguments.target_path,
            preprocessing,
            exact=arguments.exact,
            workers=arguments.workers,
            progress=Shown(),
        )
    write_datalist(arguments.text_path, files, relative=arguments.relative)
    print(f"{arguments.text_path}: {len(images)} images in {len(files)} npz files")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(build_parser(), convert, argv)


if __name__ == "__main__":
    sys.exit(main())
