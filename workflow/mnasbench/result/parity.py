"""The parity certificate: how far a way of preparing images is from torchvision's own, in pixels and in answers.

One request an image holds it as torchvision prepares it and as each other way does, so the model, the session and
the batch are the same for all, and what differs comes from the preprocessing alone. A way whose tensor is torchvision's
to the bit is not asked again.

Preparing images as torchvision does is dear, so the images may be a sample of a dataset; what is then said of the
dataset has an interval beside it.
"""

import math
import queue
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnasbench.build.package import CompiledModel
from mnasbench.build.vdsp_params import rounded_to_fp16
from mnasbench.data.image_keys import ImageKeys
from mnasbench.data.listed import ListedImage
from mnasbench.data.preprocess import decode_rgb, open_image, read_image
from mnasbench.errors import DatasetError, ModelError, SettingsError, one_line
from mnasbench.model.torchvision_import import import_timm, torchvision
from mnasbench.preprocessing import Fit, Preprocessing
from mnasbench.progress import SILENT, Progress
from mnasbench.result.answers import TOP, Answer, answers_table
from mnasbench.result.evaluation import accuracy
from mnasbench.result.statistics import wilson_interval
from mnasbench.run.inputs import Preprocessor, UInt8Array
from mnasbench.run.scores import best_classes
from mnasbench.run.session import ModelSession

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Way:
    """A way from an image to the model's input: its pixels, uint8 (3, height, width), and what is asked of them."""

    name: str
    pixels: Callable[[Path], UInt8Array]
    params: Preprocessing


@dataclass(frozen=True)
class _WayResult:
    """One image in one way: its answer, and how far its pixels and its input are from torchvision's.

    ``different``: pixels of the crop that differ. ``largest``, ``total``: of the crop's absolute differences, in
    levels of 0 to 255. ``input_levels``: the largest difference of the normalised input, in the same levels.
    """

    answer: Answer
    different: int = 0
    largest: int = 0
    total: int = 0
    input_levels: float = 0.0


def decoded(path: Path) -> UInt8Array:
    """The whole image, planar."""
    return np.ascontiguousarray(decode_rgb(path).transpose(2, 0, 1))


def from_npz(inputs: Mapping[str, ListedImage]) -> Callable[[Path], UInt8Array]:
    """Reads an image from the listed inputs, by its name; DatasetError where it is not among them."""
    images = ImageKeys(inputs)

    def pixels(path: Path) -> UInt8Array:
        key = images.find(str(path))
        if key is None:
            raise DatasetError(
                f"{one_line(path.name)}: has no npz among the listed inputs; give the lists of this dataset"
            )
        return inputs[key].pixels()

    return pixels


def usual_ways(reference: Preprocessing) -> list[Way]:
    """{short side, squeezed} x {Pillow, OpenCV}, and torchvision's own geometry with means rounded to fp16."""
    side = _short_side(reference)
    ways = [
        Way(f"{description}, {library}", decoded, replace(reference, resize=resize, library=library))
        for description, resize in ((f"short side {side}", side), (f"squeezed to {side} x {side}", (side, side)))
        for library in ("pillow", "opencv")
    ]
    rounded = replace(reference, mean=rounded_to_fp16(reference.mean), std=rounded_to_fp16(reference.std))
    return [*ways, Way(f"short side {side}, pillow, fp16 means", decoded, rounded)]


def _geometry(reference: Preprocessing) -> Any:  # of torchvision's and timm's transforms
    """The publisher's own resize and crop of a PIL image: torchvision's, or timm's for what torchvision cannot."""
    transforms = torchvision.transforms
    if isinstance(reference.resize, Fit):
        import_timm()
        from timm.data.transforms import CenterCropOrPad, ResizeKeepRatio

        options = {"longest": 1.0, "interpolation": reference.interpolation}
        fitted = ResizeKeepRatio(reference.resize.size, **options)  # type: ignore[no-untyped-call] # timm has no types
        return transforms.Compose([fitted, CenterCropOrPad(list(reference.size), fill=reference.resize.fill)])
    mode = transforms.InterpolationMode(reference.interpolation)
    resize = transforms.Resize(_torchvision_resize(reference), interpolation=mode)
    return transforms.Compose([resize, transforms.CenterCrop(reference.size)])


def _torchvision_resize(reference: Preprocessing) -> int | list[int]:
    """What torchvision's ``Resize`` takes: the short side, or height and width."""
    sides = reference.short_side or list(reference.fixed_size or ())
    if not sides or reference.library != "pillow" or reference.colours != "RGB":
        raise SettingsError(
            f"the model was built for images prepared by {reference.label} as {reference.colours}, which "
            "torchvision does not do; name torchvision's short side with --resize"
        )
    return sides


def _short_side(reference: Preprocessing) -> int:
    if reference.short_side is None:
        raise SettingsError(
            f"the model was built for images prepared by {reference.label}, which keeps no proportions; name a short "
            "side with --resize, or what is to be compared with --datalist and --vdsp_params"
        )
    return reference.short_side


def certificate(
    compiled: CompiledModel,
    reference: Preprocessing,
    ways: Sequence[Way],
    images: Sequence[tuple[Path, int]],
    *,
    drawn_from: int | None = None,
    workers: int = 1,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """What each way changes against torchvision's ``Resize``, ``CenterCrop``, ``ToTensor``, ``Normalize`` on PIL.

    ``compiled``: an fp32 model. ``reference``: what torchvision does for it. ``images``: files and their classes,
    a sample of ``drawn_from`` images where that is given (then the shares of images and answers that differ have
    95 % intervals; that of the accuracies' drop, which takes the dataset itself for a sample, is always there).
    Percent for accuracies and shares, levels of 0 to 255 for differences, SQNR in dB over the logits.
    """
    _geometry(reference)
    if compiled.info["precision"] != "fp32":
        raise ModelError(f"{one_line(compiled.prefix)}: is {compiled.info['precision']}; answers are compared on fp32")
    engines: queue.SimpleQueue[ModelSession] = queue.SimpleQueue()
    for _ in range(workers):
        engines.put(ModelSession(compiled))
    look = _Look(engines, reference, ways)
    with ThreadPoolExecutor(workers) as pool:
        rows = list(progress.loop("images", pool.map(look, images), len(images)))
    theirs = [row[0].answer for row in rows]
    drawn_from = len(rows) if drawn_from is None else drawn_from
    described = [
        _describe(way, [row[1 + place] for row in rows], theirs, reference, drawn_from)
        for place, way in enumerate(ways)
    ]
    return {
        "images": len(rows),
        "drawn_from": drawn_from,
        "model": {"name": compiled.info["name"], "precision": compiled.info["precision"], **compiled.digests},
        "torchvision": {
            "version": torchvision.__version__,
            "preprocessing": reference.to_json(),
            **accuracy(answers_table(theirs)),
        },
        "ways": described,
    }


class _Look:
    """Prepares an image in every way, has the model answer to all, and compares."""

    def __init__(
        self, engines: "queue.SimpleQueue[ModelSession]", reference: Preprocessing, ways: Sequence[Way]
    ) -> None:
        engine = engines.get()
        engines.put(engine)
        self._engines, self._ways, self._reference = engines, ways, reference
        self._preprocessors = [Preprocessor(way.params, engine.format) for way in ways]
        self._levels = 255 * np.array(reference.std, dtype=np.float32)[:, None, None]
        transforms = torchvision.transforms
        self._geometry = _geometry(reference)
        self._values = transforms.Compose([transforms.ToTensor(), transforms.Normalize(reference.mean, reference.std)])

    def __call__(self, image: tuple[Path, int]) -> list[_WayResult]:
        """The image as torchvision prepares it, then in each way."""
        path, label = image
        prepared = self._geometry(open_image(read_image(path), path).convert("RGB"))
        crop = np.asarray(prepared).transpose(2, 0, 1).astype(np.int16)
        expected: Float32Array = self._values(prepared).numpy()
        crops = [
            preprocess.geometry(way.pixels(path))
            for way, preprocess in zip(self._ways, self._preprocessors, strict=True)
        ]
        inputs = [preprocess.tensor([pixels])[0] for preprocess, pixels in zip(self._preprocessors, crops, strict=True)]
        others = [tensor for tensor in inputs if not np.array_equal(tensor, expected)]
        answered = iter(self._infer(np.stack([expected, *others])))
        own = next(answered)
        logits = own.astype(np.float64)
        signal = float(np.square(logits).sum())
        results = [_WayResult(Answer(path.name, label, _best(own)))]
        for pixels, tensor in zip(crops, inputs, strict=True):
            row = own if np.array_equal(tensor, expected) else next(answered)
            difference = np.abs(self._in_levels(pixels) - crop)
            noise = float(np.square(logits - row).sum())
            results.append(
                _WayResult(
                    answer=Answer(path.name, label, _best(row), signal, noise),
                    different=int(difference.any(axis=0).sum()),
                    largest=int(difference.max()),
                    total=int(difference.sum()),
                    input_levels=float((np.abs(tensor - expected) * self._levels).max()),
                )
            )
        return results

    def _in_levels(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Pixels as they are; of the input that a user's own code made, those that the publisher would make it of."""
        if pixels.dtype == np.uint8:
            return pixels
        levels = pixels * self._levels + 255 * np.array(self._reference.mean, dtype=np.float32)[:, None, None]
        # As far off as any pixel can be, whatever the net's input is.
        rounded: npt.NDArray[Any] = np.clip(np.rint(levels), -255, 510).astype(np.int16)
        return rounded

    def _infer(self, tensor: Float32Array) -> Float32Array:
        engine = self._engines.get()
        try:
            return engine.infer(tensor)
        finally:
            self._engines.put(engine)


def _best(scores: Float32Array) -> tuple[int, ...]:
    return tuple(best_classes(scores[None], TOP)[0].tolist())


def _describe(
    way: Way, rows: Sequence[_WayResult], theirs: Sequence[Answer], reference: Preprocessing, drawn_from: int
) -> dict[str, Any]:
    figures = accuracy(answers_table(one.answer for one in rows), answers_table(theirs))
    pixels = len(rows) * math.prod(reference.size)
    different = {
        "images": sum(one.different > 0 for one in rows),
        "answers": sum(one.answer.classes[0] != their.classes[0] for one, their in zip(rows, theirs, strict=True)),
    }
    shares = {what: _share(count, len(rows), drawn_from) for what, count in different.items()}
    return {
        "way": way.name,
        "preprocessing": way.params.to_json(),
        **{f"different_{what}": count for what, count in different.items()},
        **{f"different_{what}_{part}": value for what, share in shares.items() for part, value in share.items()},
        "different_pixels": 100 * sum(one.different for one in rows) / pixels,
        "mean_difference": sum(one.total for one in rows) / (3 * pixels),
        "max_difference": max(one.largest for one in rows),
        "max_input_difference": max(one.input_levels for one in rows),
        # Which images were lost or gained is a list as long as the dataset may be.
        **{key: value for key, value in figures.items() if key not in ("lost", "gained")},
    }


def _share(count: int, images: int, drawn_from: int) -> dict[str, float]:
    """Percent of the dataset, with its 95 % interval where ``images`` are a sample of it."""
    share = count / images
    low, high = wilson_interval(count, images) if images < drawn_from else (share, share)
    return {"share": 100 * share, "low": 100 * low, "high": 100 * high}
