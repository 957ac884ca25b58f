"""What each piece of code that is clever for speed buys: its time beside that of its plain twin, on one core.

The answers are compared bit for bit first. Beside each module that holds such code stands which of these figures is
its own; what none of them justifies any more should go. Contenders run in turns within each round; ratios (plain over
clever) are medians over rounds, with their range. Last line: one JSON object.

resample        data/resample.py: resize and crop at once, against Pillow's resize of the whole image
resample_lanes  data/resample.py: its LLVM vectors for the rows, against the same loop left to numba
kernels_blocks  run/kernels.py: pixels straight to the blocks that an int8 session reads, against NumPy
kernels_line    run/kernels.py: the same to interleaved bytes
import_jit      jit.py: loading numba without its look for a BLAS
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "workflow"))

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from mnasbench.data import resample  # noqa: E402
from mnasbench.data.preprocess import normalise, pixels_of  # noqa: E402
from mnasbench.jit import jit  # noqa: E402
from mnasbench.preprocessing import Preprocessing  # noqa: E402
from mnasbench.run.inputs import Preprocessor  # noqa: E402
from mnasbench.runtimes.base import InputFormat  # noqa: E402
from mnasbench.runtimes.onnxruntime_layout import FastInput  # noqa: E402
from mnasbench.runtimes.openvino_layout import InterleavedInput  # noqa: E402

P = Preprocessing(resize=256, crop=224)
Pair = tuple[Callable[[], object], Callable[[], object]]


@jit()
def _plain_rows(pixels, width, firsts, weights, resized):
    """As resample._resize_rows, a pixel at a time."""
    count, taps = weights.shape
    for row in range(resized.shape[0]):
        for x in range(count):
            first = (row * width + firsts[x]) * 4
            for byte in range(4):
                total = np.int32(1 << 21)
                for tap in range(taps):
                    total = np.int32(total + np.int32(pixels[first + tap * 4 + byte]) * weights[x, tap])
                resized[row, x * 4 + byte] = np.uint8(min(max(total >> np.int32(22), np.int32(0)), np.int32(255)))


def of_resampling(images: Sequence[Image.Image]) -> Pair:
    sources = [np.asarray(image.convert("RGBX")) for image in images]
    sizes = [P.resized_size(image.height, image.width) for image in images]

    def clever() -> list[np.ndarray]:
        pairs = zip(sources, sizes, strict=True)
        return [resample.resize_to_crop(rgbx, size, P.crop_offset(size), P.size, False) for rgbx, size in pairs]

    def plain() -> list[np.ndarray]:
        results = []
        for image, (height, width) in zip(images, sizes, strict=True):
            resized = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
            (top, left), (rows, columns) = P.crop_offset((height, width)), P.size
            results.append(resized[top : top + rows, left : left + columns].transpose(2, 0, 1))
        return results

    return clever, plain


def of_lanes(image: Image.Image) -> Pair:
    rgbx = np.asarray(image.convert("RGBX"))
    height, width = rgbx.shape[:2]
    resized = P.resized_size(height, width)
    firsts, weights = resample._weights(width, resized[1], P.crop_offset(resized)[1], P.size[1], False)

    def rows(function: Callable[..., None]) -> np.ndarray:
        out = np.empty((height, firsts.size * 4), np.uint8)
        function(rgbx.reshape(-1), width, firsts, weights, out)
        return out

    return lambda: rows(resample._resize_rows), lambda: rows(_plain_rows)


def of_kernels(images: Sequence[np.ndarray], target: InputFormat, plain: Callable[[np.ndarray], np.ndarray]) -> Pair:
    preprocessor = Preprocessor(P, target)
    return lambda: preprocessor.tensor(images), lambda: plain(normalise(np.stack(images), P))


def seconds_to_import(program: str) -> float:
    """CPU seconds, of the best of three: other work on the machine only adds to it."""
    command = [
        sys.executable,
        "-c",
        f"import sys, time; sys.path.insert(0, {str(REPOSITORY / 'workflow')!r}); {program}",
    ]
    program_ends = "; print(time.process_time())"
    command[-1] += program_ends
    return min(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(3))


def seconds(work: Callable[[], object]) -> float:
    started = time.process_time()  # one thread; other work on the machine adds nothing to it
    work()
    return time.process_time() - started


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("MNASBENCH_REAL", REPOSITORY.parent / "shared" / "real")
    parser.add_argument("--root", type=Path, default=Path(default), help="dataset with photographs in val/")
    parser.add_argument("--images", type=int, default=60, help="images a round")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args(argv)

    paths = sorted(path for path in (arguments.root / "val").rglob("*") if path.is_file())[: arguments.images]
    images = [Image.open(path).convert("RGB") for path in paths]
    cropped = [pixels_of(path, P) for path in paths]
    blocks = FastInput(scale=0.0187, zero_point=114, size=224, rows=112, parts=1)
    line = InterleavedInput(0.0187, 114)

    def interleaved(tensor: np.ndarray) -> np.ndarray:
        steps = np.rint(tensor / np.float32(line.scale)) + line.zero_point
        return np.clip(steps, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)

    pairs: dict[str, Pair] = {
        "resample": of_resampling(images),
        "resample_lanes": of_lanes(images[0]),
        "kernels_blocks": of_kernels(cropped, InputFormat("input", (224, 224), blocks), blocks.quantize),
        "kernels_line": of_kernels(cropped, InputFormat("input", (224, 224), None, interleaved=line), interleaved),
    }
    result: dict[str, object] = {"images": len(paths)}
    for name, (clever, plain) in pairs.items():
        if any(not np.array_equal(one, other) for one, other in zip(clever(), plain(), strict=True)):  # type: ignore[call-overload]
            print(f"{name}: the two differ")
            return 1
        ratios = []
        for number in range(arguments.rounds):
            # By turns the one or the other first, so that a machine that slows down favours neither.
            spent = {work: seconds(work) for work in ((clever, plain) if number % 2 else (plain, clever))}
            ratios.append(spent[plain] / spent[clever])
        result[name] = [round(value, 2) for value in (statistics.median(ratios), min(ratios), max(ratios))]
        print(name, *result[name])  # type: ignore[misc]
    plain_import = seconds_to_import("import numba, numba.np.arraymath")
    result["import_jit"] = round(plain_import / seconds_to_import("import mnasbench.jit"), 2)
    print("import_jit", result["import_jit"], f"of {plain_import:.2f} s")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
