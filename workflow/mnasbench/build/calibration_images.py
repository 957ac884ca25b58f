"""The calibration images as a stream of batches that can be read again and again in constant memory."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from mnasbench.data.image_files import images_among
from mnasbench.data.listing import walk
from mnasbench.data.parallel import map_in_processes
from mnasbench.data.preprocess import normalise, pixels_of
from mnasbench.errors import DatasetError, one_line
from mnasbench.files import refusal_named
from mnasbench.preprocessing import Preprocessing
from mnasbench.progress import SILENT, Progress

Pixels = npt.NDArray[np.uint8]
# Of 224 x 224 float32 images this is 5 MB: large enough to keep the cores busy, small beside the activations.
BATCH = 8


def find_images(folder: Path, suffix: str | None, images: int | None) -> list[Path]:
    """The first ``images`` images (all, if None) below ``folder`` whose names end in ``suffix``, in sorted order.

    ``suffix`` in any case; None takes every image. Raises DatasetError where there are fewer.
    """
    if not folder.is_dir():
        raise DatasetError(f"{one_line(folder)}: no such folder of calibration images; check dataset.path")
    present, _ = images_among(name for name, _ in walk(folder))
    ending = "" if suffix is None else "." + suffix.lower().lstrip(".")
    matching = sorted(folder / name for name in present if name.lower().endswith(ending))
    expected = len(matching) if images is None else images
    if not matching or len(matching) < expected:
        others = f" and {len(present) - len(matching)} of other suffixes" if len(present) > len(matching) else ""
        raise DatasetError(
            f"{one_line(folder)}: holds {len(matching)} images named *{one_line(ending)}{others}, but "
            f"{max(expected, 1)} are wanted for calibration (dataset.sampler: suffix and get_data_num)"
        )
    return matching[:expected]


class ImageStream:
    """Preprocessed images, decoded once into a temporary file and read from there a batch at a time.

    Calling it gives an iterator over float32 batches (n, 3, H, W), normalised, in the preprocessing's order of colours,
    always in the same order. The file has no name, so nothing is left behind whatever happens; 1,000 images of
    224 x 224 take 150 MB of disk.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        preprocessing: Preprocessing,
        progress: Progress = SILENT,
    ) -> None:
        self.count = len(paths)
        self._preprocessing = preprocessing
        self._planes = slice(None, None, -1 if preprocessing.colours == "BGR" else 1)
        self._shape, self._dtype = preprocessing.shape, np.dtype(preprocessing.dtype)
        with refusal_named(Path(tempfile.gettempdir())):
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
            images = map_in_processes(partial(pixels_of, p=preprocessing), paths)
            for pixels in progress.loop("calibration images", images, len(paths)):
                self._file.write(pixels.tobytes())
            self._file.flush()  # pread sees nothing of what is still in Python's buffer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __call__(self) -> Iterator[npt.NDArray[np.float32]]:
        size = int(np.prod(self._shape)) * self._dtype.itemsize
        for start in range(0, self.count, BATCH):
            number = min(BATCH, self.count - start)
            # pread, so that two passes may run at once without moving each other's place.
            content = os.pread(self._file.fileno(), number * size, start * size)
            pixels = np.frombuffer(content, self._dtype).reshape(number, *self._shape)
            if self._preprocessing.code is not None:
                yield pixels
                continue
            yield normalise(np.ascontiguousarray(pixels[:, self._planes]), self._preprocessing)
