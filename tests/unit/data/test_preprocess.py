"""Pixels and tensors equal torchvision's, and whatever is no image is one clear error."""

import io
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mnasbench.data.preprocess import decode_rgb, normalise, pixels_of, resize_and_crop
from mnasbench.errors import DatasetError
from mnasbench.model.torchvision_import import import_timm, torchvision
from mnasbench.preprocessing import INTERPOLATIONS, OPENCV_INTERPOLATIONS, PADS, Fit, Preprocessing

MODES = {mode.value: mode for mode in torchvision.transforms.InterpolationMode if mode.value in INTERPOLATIONS}


def pixels_of_torchvision(image: Image.Image, p: Preprocessing) -> np.ndarray:
    transforms = torchvision.transforms
    resize = transforms.Resize(p.resize, interpolation=MODES[p.interpolation])
    compose = transforms.Compose([resize, transforms.CenterCrop(p.crop), transforms.PILToTensor()])
    return compose(image.convert("RGB")).numpy()


@pytest.mark.parametrize("resize", [224, 232, 256, 384, (256, 256), (230, 301)])
def test_pixels_equal_torchvisions_on_photographs(real: Path, resize: int | tuple[int, int]) -> None:
    p = Preprocessing(resize=resize)
    photographs = sorted((real / "val").iterdir())
    for path in photographs if resize == 256 else photographs[::5]:
        assert np.array_equal(pixels_of(path, p), pixels_of_torchvision(Image.open(path), p)), path.name


@settings(max_examples=60)
@given(
    size=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    crop=st.tuples(st.integers(1, 64), st.integers(1, 64)) | st.integers(1, 64).map(lambda side: (side, side)),
    more=st.tuples(st.integers(0, 60), st.integers(0, 60)),
    squeezed=st.booleans(),
    interpolation=st.sampled_from(sorted(MODES)),
    seed=st.integers(0, 2**32 - 1),
)
def test_pixels_equal_torchvisions_on_any_size(
    size: tuple[int, int], crop: tuple[int, int], more: tuple[int, int], squeezed: bool, interpolation: str, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    resize = (crop[0] + more[0], crop[1] + more[1]) if squeezed else max(crop) + more[0]
    p = Preprocessing(resize=resize, crop=crop, interpolation=interpolation)
    expected = pixels_of_torchvision(Image.fromarray(pixels), p)
    assert np.array_equal(resize_and_crop(pixels, p), expected)


@settings(max_examples=80)
@given(
    size=st.tuples(st.integers(20, 300), st.integers(20, 300)),
    crop=st.integers(4, 64),
    more=st.integers(0, 60),
    subsampling=st.sampled_from(["444", "422", "420", "440", "411", "Gray"]),
    quality=st.integers(5, 99),
    damage=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=2),
    seed=st.integers(0, 2**32 - 1),
)
def test_pixels_of_any_jpeg_equal_torchvisions(
    tmp_path_factory: pytest.TempPathFactory,
    size: tuple[int, int],
    crop: int,
    more: int,
    subsampling: str,
    quality: int,
    damage: list[tuple[float, int]],
    seed: int,
) -> None:
    """Damaged ones, too, where Pillow makes something of them; where it refuses, so do we."""
    content = bytearray(simplejpeg.encode_jpeg(smooth(size, seed), quality, colorsubsampling=subsampling))
    scan = content.index(b"\xff\xda") + 14
    for place, value in damage:
        content[scan + int(place * (len(content) - scan - 3))] = value
    path = tmp_path_factory.getbasetemp() / "any.JPEG"
    path.write_bytes(content)
    p = Preprocessing(resize=crop + more, crop=crop)
    try:
        expected = pixels_of_torchvision(Image.open(path), p)
    except OSError:
        with pytest.raises(DatasetError, match="cut short or damaged"):
            pixels_of(path, p)
        return
    assert np.array_equal(pixels_of(path, p), expected)


def fitted_by_pillow(image: Image.Image, fit: Fit, interpolation: str) -> np.ndarray:
    """Pillow alone: the longer side becomes the canvas's, what is left has the colour."""
    (rows, columns), (height, width) = fit.size, (image.height, image.width)
    if height * columns >= width * rows:
        size = (max(1, round(width / (height / rows))), rows)
    else:
        size = (columns, max(1, round(height / (width / columns))))
    canvas = Image.new("RGB", (columns, rows), fit.fill)
    resized = image.convert("RGB").resize(size, Image.Resampling[interpolation.upper()])
    spare = (columns - size[0], rows - size[1])
    canvas.paste(resized, (0, 0) if fit.pad == "right-bottom" else (spare[0] // 2, spare[1] // 2))
    return np.asarray(canvas).transpose(2, 0, 1)


@settings(max_examples=60)
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    canvas=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    pad=st.sampled_from(PADS),
    fill=st.tuples(*[st.integers(0, 255)] * 3),
    interpolation=st.sampled_from(sorted(MODES)),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_fitted_image_is_pillows_resize_and_paste(
    size: tuple[int, int], canvas: tuple[int, int], pad: str, fill: tuple[int, int, int], interpolation: str, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    fit = Fit(canvas, pad, fill)
    made = resize_and_crop(pixels, Preprocessing(resize=fit, crop=canvas, interpolation=interpolation))
    assert np.array_equal(made, fitted_by_pillow(Image.fromarray(pixels), fit, interpolation))


@pytest.mark.parametrize("size", [(375, 500), (500, 375), (91, 640), (64, 64)])
def test_a_fitted_image_is_timms_of_its_crop_mode_border(size: tuple[int, int]) -> None:
    import_timm()
    from timm.data import create_transform

    pixels = smooth(size, 3)
    theirs = create_transform((3, 96, 96), interpolation="bicubic", crop_mode="border", crop_pct=0.9, normalize=False)
    fill = tuple(round(255 * value) for value in Preprocessing().mean)
    p = Preprocessing(resize=Fit((106, 106), fill=fill), crop=96, interpolation="bicubic")
    assert np.array_equal(resize_and_crop(pixels, p), theirs(Image.fromarray(pixels)).numpy())


def test_an_image_that_is_not_resized_is_cropped_or_has_the_size(tmp_path: Path) -> None:
    pixels = smooth((50, 64), 4)
    path = tmp_path / "one.png"
    Image.fromarray(pixels).save(path)
    cropped = Preprocessing(resize="none", crop=(32, 48))
    assert np.array_equal(pixels_of(path, cropped), pixels[9:41, 8:56].transpose(2, 0, 1))
    exact = Preprocessing(resize="exact", crop=(50, 64))
    assert np.array_equal(pixels_of(path, exact), pixels.transpose(2, 0, 1))
    for p, what in (
        (Preprocessing(resize="exact", crop=(32, 48)), r"takes 32 x 48"),
        (Preprocessing(resize="none", crop=64), r"takes at least 64 x 64"),
    ):
        with pytest.raises(DatasetError, match=rf"one\.png: is 50 x 64 pixels .*{what}"):
            pixels_of(path, p)


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1), (2, 30_000), (65_500, 1)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_thin_image_is_made_without_the_memory_of_its_whole(size: tuple[int, int], interpolation: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    p = Preprocessing(interpolation=interpolation)
    made = resize_and_crop(pixels, p)
    assert made.shape == (3, 224, 224)
    # The middle alone, whose neighbours are the same: its scale is another by rounding.
    long = size.index(max(size))
    middle = size[long] // 2
    part = pixels.take(range(middle - 50, middle + 50), axis=long)
    expected = pixels_of_torchvision(Image.fromarray(part), p)
    assert np.abs(made.astype(int) - expected).max() <= 1


def test_a_thin_image_that_would_fill_the_memory_is_named(tmp_path: Path) -> None:
    path = tmp_path / "thin.png"
    Image.new("RGB", (20_000, 1)).save(path)
    with pytest.raises(DatasetError, match=r"thin\.png: is 1 x 20000 pixels .* so thin that lanczos resampling"):
        pixels_of(path, Preprocessing(interpolation="lanczos"))


@pytest.mark.parametrize("interpolation", OPENCV_INTERPOLATIONS)
def test_opencvs_resampling_fits_too(interpolation: str) -> None:
    pixels = smooth((90, 150), 5)
    p = Preprocessing(resize=Fit((64, 96), "right-bottom", (1, 2, 3)), crop=(64, 96), interpolation=interpolation)
    method = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC, "nearest": cv2.INTER_NEAREST}[interpolation]
    expected = np.empty((64, 96, 3), np.uint8)
    expected[...] = (1, 2, 3)
    expected[:58] = cv2.resize(pixels, (96, 58), interpolation=method)
    assert np.array_equal(resize_and_crop(pixels, replace(p, library="opencv")), expected.transpose(2, 0, 1))


def smooth(size: tuple[int, int], seed: int) -> np.ndarray:
    """Colours that change slowly, as a photograph's, and some noise."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (size[0] // 8 + 2, size[1] // 8 + 2, 3), dtype=np.uint8)
    large = np.asarray(Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC))
    noise = generator.integers(-20, 21, large.shape)
    return np.clip(large + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "options", [{"progressive": True}, {"restart_marker_blocks": 3}, {"optimize": True}, {"dpi": (72, 72)}]
)
def test_other_jpegs_are_as_pillow_reads_them(tmp_path: Path, options: dict[str, object]) -> None:
    path, p = tmp_path / "one.JPEG", Preprocessing(resize=80, crop=64)
    Image.fromarray(smooth((240, 170), 1)).save(path, "JPEG", **options)
    assert np.array_equal(pixels_of(path, p), pixels_of_torchvision(Image.open(path), p))


def test_normalised_tensor_equals_torchvisions() -> None:
    p = Preprocessing()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8))
    transforms = torchvision.transforms
    expected = transforms.Compose([transforms.ToTensor(), transforms.Normalize(p.mean, p.std)])(image).numpy()
    tensor = normalise(np.asarray(image).transpose(2, 0, 1)[None], p)
    assert tensor.dtype == np.float32
    assert np.array_equal(tensor[0], expected)


def test_opencv_resampling_is_opencvs() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    expected = cv2.resize(pixels, (256, 256))[16:240, 16:240].transpose(2, 0, 1)
    assert np.array_equal(resize_and_crop(pixels, Preprocessing(resize=(256, 256), library="opencv")), expected)


def encoded(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def image(mode: str = "RGB", size: tuple[int, int] = (320, 260)) -> Image.Image:
    pixels = np.random.default_rng(2).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def exif_rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: rotate by 90 degrees
    return encoded(image(), exif=exif)


ACCEPTED = {
    "greyscale": encoded(image("L")),
    "cmyk": encoded(image("CMYK")),
    "png": encoded(image(), "PNG"),
    "palette": encoded(image("P"), "PNG"),
    "alpha": encoded(image("RGBA"), "PNG"),
    "bilevel": encoded(image("1"), "PNG"),
    "progressive": encoded(image(), progressive=True),
    "444": encoded(image(), subsampling=0),
    "exif": exif_rotated(),
    "rgb jpeg": encoded(image(), keep_rgb=True),
    "one pixel": encoded(image(size=(1, 1))),
}


@pytest.mark.parametrize("kind", ACCEPTED)
@pytest.mark.parametrize("name", ["image.JPEG", "odd 'name': \"ü\".JPEG"])
def test_odd_images_are_read_as_torchvision_reads_them(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(ACCEPTED[kind])
    p = Preprocessing()
    assert np.array_equal(decode_rgb(path), np.asarray(Image.open(path).convert("RGB")))
    assert np.array_equal(pixels_of(path, p), pixels_of_torchvision(Image.open(path), p))


def header_of_a_bomb() -> bytes:
    return encoded(Image.new("L", (20_000, 20_000)), "PNG")


REFUSED = {
    "empty": (lambda: b"", "empty file"),
    "text": (lambda: b"not an image at all", "unknown format"),
    "16 bits": (lambda: encoded(Image.new("I;16", (300, 300)), "PNG"), "mode I;16"),
    "float": (lambda: encoded(Image.new("F", (300, 300)), "TIFF"), "mode F"),
    "bomb": (header_of_a_bomb, "pixels"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_usable_image_is_named(tmp_path: Path, kind: str) -> None:
    content, message = REFUSED[kind]
    path = tmp_path / "image.JPEG"
    path.write_bytes(content())
    with pytest.raises(DatasetError, match=message) as error:
        pixels_of(path, Preprocessing())
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_vanished_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"gone\.JPEG: cannot be read"):
        pixels_of(tmp_path / "gone.JPEG", Preprocessing())


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_an_image_cut_anywhere_is_an_error(tmp_path: Path, options: dict[str, bool]) -> None:
    whole = encoded(image(size=(64, 64)), **options)
    path = tmp_path / "cut.JPEG"
    # The last two bytes only mark the end; without them every pixel is still there.
    for length in range(1, len(whole) - 8, max(1, len(whole) // 60)):
        path.write_bytes(whole[:length])
        with pytest.raises(DatasetError, match=r"cut\.JPEG"):
            decode_rgb(path)


def test_a_cache_of_compiled_code_that_a_power_cut_emptied_is_made_again(tmp_path: Path) -> None:
    program = "from mnasbench.data.resample import compile_now; compile_now()"
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    call = partial(subprocess.run, [sys.executable, "-c", program], env=environment, check=True)
    call()
    cached = [path for path in tmp_path.rglob("resample.*") if path.is_file()]
    assert cached
    for path in cached:
        path.write_bytes(b"")
    call()
    assert all(path.stat().st_size for path in tmp_path.rglob("resample.*") if path.suffix == ".nbi")


def test_without_a_place_for_compiled_code_each_process_compiles(tmp_path: Path) -> None:
    # As where a shared installation and the home are read-only; numba itself refuses there.
    program = """
        from numba.core import caching
        caching.CacheImpl._locator_classes = []
        import numpy as np
        from mnasbench.run import kernels
        out = np.empty((3, 1, 1), np.uint8)
        kernels.follow_line(np.ones((3, 1, 1), np.uint8), np.ones(3, np.float32), np.ones(3, np.float32), out)
        print(out.ravel().tolist())
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[2, 2, 2]\n"), done.stderr
