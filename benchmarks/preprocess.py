"""Images per second from JPEG to the pixels that a model sees: ours, torchvision's, and an OpenCV loop.

One core, files in the page cache, the contenders in turn within each round; ratios are medians over rounds.
torchvision is Resize + CenterCrop on PIL, to uint8, and the pixels are compared bit for bit first. The OpenCV loop is
what vendors' scripts do (imread, resize to a square, crop): other pixels, so a yardstick of speed only.
`two_cores` is the speed-up of writing npz files with two processes over one, on the disk that temporary files are on;
`two_cores_in_memory` is the same where the file system is memory, which shows what the disk's share is, and
`two_cores_of_the_machine` is that of counting, in turns with them: the cores of a virtual machine share a clock and a
host, so what it falls short of 2 no other work can be expected to reach. Each time into a new folder, and on the disk
nothing is removed before the end: on ext4 without a journal a new file takes 12 us, but up to 800 us in the minutes
after thousands were removed, whose inodes it passes over one by one. Last line: one JSON object.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "workflow"))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from mnasbench.cpus import usable_cpus  # noqa: E402
from mnasbench.data.layouts import Dataset  # noqa: E402
from mnasbench.data.manifest import index_dataset  # noqa: E402
from mnasbench.data.npz_inputs import write_npz_inputs  # noqa: E402
from mnasbench.data.parallel import map_in_processes  # noqa: E402
from mnasbench.data.preprocess import decode_rgb, pixels_of  # noqa: E402
from mnasbench.model.torchvision_import import torchvision  # noqa: E402
from mnasbench.preprocessing import Preprocessing  # noqa: E402

P = Preprocessing()
_MEMORY = Path("/dev/shm")  # noqa: S108
_COUNTED = 10_000
_SCALING_IMAGES = 3000  # long enough that starting the processes does not count


def with_torchvision(path: Path) -> np.ndarray:
    transforms = torchvision.transforms
    compose = transforms.Compose([transforms.Resize(P.resize), transforms.CenterCrop(P.crop)])
    return np.asarray(compose(Image.open(path).convert("RGB"))).transpose(2, 0, 1)


def with_opencv(path: Path) -> np.ndarray:
    pixels = cv2.resize(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), (256, 256))
    return np.ascontiguousarray(pixels[16:240, 16:240].transpose(2, 0, 1))


def convert_all(convert: Callable[[Path], np.ndarray], paths: Sequence[Path]) -> None:
    for path in paths:
        convert(path)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def count(up_to: int) -> None:
    """Work of the processor alone, half as long as an image's."""
    total = 0
    for number in range(up_to):
        total += number * number


def counted(workers: int) -> None:
    for _ in map_in_processes(count, [_COUNTED] * _SCALING_IMAGES, workers):
        pass


def scaling(paths: Sequence[Path], rounds: int, where: Path | None) -> dict[str, list[float]]:
    """Speed-up from one process to two in each round: of npz writing, and of counting."""
    with tempfile.TemporaryDirectory(dir=where) as folder:
        repeated = Path(folder) / "dataset"
        (repeated / "val" / "all").mkdir(parents=True)
        for number in range(_SCALING_IMAGES):
            (repeated / "val" / "all" / f"{number}.JPEG").symlink_to(paths[number % len(paths)].resolve())
        images = index_dataset(Dataset(repeated), Path(folder) / "manifest.csv")
        times: dict[str, dict[int, list[float]]] = {name: {1: [], 2: []} for name in ("npz", "counting")}
        for number in range(rounds):
            for workers in (1, 2) if number % 2 else (2, 1):  # so that a machine that slows down favours neither
                times["counting"][workers].append(seconds(partial(counted, workers)))
                target = Path(folder) / f"npz-{workers}-{number}"
                os.sync()  # what the round before wrote is not this one's to wait for
                write = partial(write_npz_inputs, repeated, images, target, P, workers=workers)
                times["npz"][workers].append(seconds(write))
                if where == _MEMORY:
                    shutil.rmtree(target)
    for workers, spent in times["npz"].items():
        print(f"npz by {workers} processes: {_SCALING_IMAGES / statistics.median(spent):.0f} images/s")
    return {name: [one / two for one, two in zip(spent[1], spent[2], strict=True)] for name, spent in times.items()}


def median_and_range(name: str, ratios: Sequence[float]) -> dict[str, object]:
    return {
        name: round(statistics.median(ratios), 3),
        f"{name}_range": [round(min(ratios), 3), round(max(ratios), 3)],
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("MNASBENCH_REAL", REPOSITORY.parent / "shared" / "real")
    parser.add_argument("--root", type=Path, default=Path(default), help="dataset with val/ and val_label.txt")
    parser.add_argument("--images", type=int, default=300, help="images a round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args(argv)

    paths = sorted(path for path in (arguments.root / "val").rglob("*") if path.is_file())[: arguments.images]
    differing = sum(not np.array_equal(pixels_of(path, P), with_torchvision(path)) for path in paths)
    cv2.setNumThreads(1)
    contenders: dict[str, Callable[[Path], np.ndarray]] = {
        "ours": lambda path: pixels_of(path, P),
        "torchvision": with_torchvision,
        "opencv": with_opencv,
        "decode_only": decode_rgb,
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(arguments.rounds):
        for name, convert in contenders.items():
            times[name].append(seconds(partial(convert_all, convert, paths)))
    for name, spent in times.items():
        print(f"{name}: {len(paths) / statistics.median(spent):.0f} images/s on one core")

    def ratio(name: str) -> float:
        return statistics.median(other / ours for other, ours in zip(times[name], times["ours"], strict=True))

    scalings: dict[str, object] = {"two_cores": None}
    if usable_cpus() > 1:
        print("on the disk")
        speedups = scaling(paths, arguments.rounds, None)
        scalings = median_and_range("two_cores", speedups["npz"])
        machine = speedups["counting"]
        if _MEMORY.is_dir():
            print("in memory")
            speedups = scaling(paths, arguments.rounds, _MEMORY)
            scalings |= median_and_range("two_cores_in_memory", speedups["npz"])
            machine += speedups["counting"]
        scalings |= median_and_range("two_cores_of_the_machine", machine)
    result = {
        "images": len(paths),
        "differing_from_torchvision": differing,
        "images_per_second_per_core": round(len(paths) / statistics.median(times["ours"]), 1),
        "vs_torchvision": round(ratio("torchvision"), 3),
        "vs_vendor": round(ratio("opencv"), 3),
        "decoding_share": round(ratio("decode_only"), 3),
        **scalings,
    }
    print(json.dumps(result))
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
