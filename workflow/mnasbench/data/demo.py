"""The demo dataset: images that the project draws itself, in ImageNet's layout.

A class is a hue and a pattern in that hue, on some shape. Shape, size, place, rotation, shade, lighting, background,
clutter, occlusion, noise and JPEG quality vary, so that a classifier has to look for both, and does not always find
them (a few images are greyscale, as in ImageNet).
"""

import colorsys
import io
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from mnasbench.data.parallel import map_in_processes
from mnasbench.errors import InputError, one_line
from mnasbench.files import TEMPORARY, write_text, written_atomically
from mnasbench.progress import SILENT, Progress

HUES = ("red", "yellow", "green", "cyan", "blue", "magenta")  # 60 degrees apart
# Each with the range of its period, as a share of the image's short side.
PATTERNS = {"plain": (1.0, 1.0), "striped": (0.03, 0.045), "chequered": (0.08, 0.12), "dotted": (0.06, 0.085)}
CLASSES = tuple(f"{pattern} {hue}" for hue in HUES for pattern in PATTERNS)
SHAPES = ("disc", "square", "triangle", "star", "cross", "ring")
# ImageNet's validation set has about 2 % greyscale images; a few more, so that small parts have some, too.
_GREYSCALE_SHARE = 0.05
# Standard deviation of an object's hue, in steps from one hue to the next: some end up nearer to their neighbour.
_HUE_SPREAD = 0.15
# How far a muted colour's channels are from its grey.
_MUTED = 25
# Masks are drawn at twice the size and averaged, which gives smooth edges.
_SUPERSAMPLING = 2

Float32Array = npt.NDArray[np.float32]
Colour = tuple[int, int, int]


def make_demo(
    root: Path,
    *,
    validation: int = 1000,
    training: int = 2000,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress = SILENT,
) -> None:
    """Write ``val/``, ``train/``, their label files and ``classes.txt`` below ``root``.

    Every image has its own random stream, so any number of workers writes the same files. The label files
    are written last: a root that has both is complete. Raises InputError where a part has too few images
    for every class to have one.
    """
    parts = {"train": training, "val": validation}
    if min(parts.values()) < len(CLASSES):
        raise InputError(f"{parts}: expected at least {len(CLASSES)} images a part, one for each class")
    for part in parts:
        _clear(root, part)
    jobs = [(part, index) for part, count in parts.items() for index in range(count)]
    for _ in progress.loop("drawing", map_in_processes(partial(_write_image, root, seed), jobs, workers), len(jobs)):
        pass
    for part, count in parts.items():
        labels = (f"{image_name(part, index)} {class_of(index)}\n" for index in range(count))
        write_text(root / f"{part}_label.txt", "".join(labels))
    write_text(root / "classes.txt", "".join(f"{name}\n" for name in CLASSES))


def _clear(root: Path, part: str) -> None:
    """Make an empty folder for a part; images of an earlier demo set are removed, anybody else's refused."""
    folder = root / part
    folder.mkdir(parents=True, exist_ok=True)
    (root / f"{part}_label.txt").unlink(missing_ok=True)
    files = list(folder.iterdir())
    strangers = [path for path in files if not path.name.startswith((f"demo_{part}_", TEMPORARY))]
    if strangers:
        raise InputError(f"{one_line(strangers[0])}: is no image of the demo set; give an empty folder")
    for path in files:
        path.unlink()


def image_name(part: str, index: int) -> str:
    """File name of image ``index`` (0-based) of a part, numbered from 1 as ImageNet's."""
    return f"demo_{part}_{index + 1:08d}.JPEG"


def class_of(index: int) -> int:
    """Class of image ``index``: every class equally often."""
    return index % len(CLASSES)


def _write_image(root: Path, seed: int, job: tuple[str, int]) -> None:
    part, index = job
    rng = np.random.default_rng([seed, part == "val", index])
    image = draw_image(rng, class_of(index))
    path = root / part / image_name(part, index)
    content = io.BytesIO()  # Pillow's own writing to a file does not notice that a nearly full disk took a part
    image.save(content, "JPEG", quality=int(rng.integers(60, 93)))
    with written_atomically(path) as temporary:
        temporary.write_bytes(content.getvalue())


def draw_image(rng: np.random.Generator, class_index: int) -> Image.Image:
    """One image of a class, RGB or (some) greyscale; sides of 240 to 500 pixels, aspect ratio up to 3:2."""
    short = int(rng.integers(240, 334))
    long = int(short * rng.uniform(1.0, 1.5))
    width, height = (long, short) if rng.random() < 0.75 else (short, long)
    hue = class_index // len(PATTERNS)
    pattern, periods = list(PATTERNS.items())[class_index % len(PATTERNS)]
    shape = SHAPES[rng.integers(len(SHAPES))]

    scene = _background(rng, width, height)
    for _ in range(rng.integers(0, 4)):
        scene.paste(_colour(rng), mask=_blob(rng, width, height, 0.04, 0.12))
    radius = short * rng.uniform(0.3, 0.48)
    centre = width / 2 + rng.uniform(-0.06, 0.06) * width, height / 2 + rng.uniform(-0.06, 0.06) * height
    mask = _mask(width, height, lambda draw, scale: _draw_shape(draw, rng, shape, centre, radius, scale))
    ink, paper = _ink_and_paper(rng, hue)
    filling = Image.new("RGB", (width, height), paper)
    filling.paste(ink, mask=_pattern(rng, pattern, width, height, short * rng.uniform(*periods)))
    scene.paste(filling, mask=mask)
    for _ in range(rng.integers(0, 3)):
        scene.paste(_colour(rng), mask=_blob(rng, width, height, 0.05, 0.16))
    pixels = np.asarray(scene, dtype=np.float32) * _light(rng, width, height)
    pixels += _noise(rng, pixels.shape)
    image = Image.fromarray(pixels.clip(0, 255, out=pixels).astype(np.uint8))
    return image.convert("L") if rng.random() < _GREYSCALE_SHARE else image


def _colour(rng: np.random.Generator) -> Colour:
    """A muted colour: nearer to grey than an object's."""
    grey = rng.uniform(20, 235)
    red, green, blue = (grey + rng.uniform(-_MUTED, _MUTED, 3)).clip(0, 255).astype(int).tolist()
    return red, green, blue


def _ink_and_paper(rng: np.random.Generator, hue: int) -> tuple[Colour, Colour]:
    """A colour of the hue, and a muted one that differs enough in brightness for the pattern to show."""
    angle = (hue + rng.normal(0, _HUE_SPREAD)) / len(HUES)
    ink = tuple(int(255 * part) for part in colorsys.hsv_to_rgb(angle % 1, rng.uniform(0.6, 1), rng.uniform(0.5, 1)))
    while True:
        paper = _colour(rng)
        if abs(sum(ink) - sum(paper)) > 200:
            return (ink[0], ink[1], ink[2]), paper


def _background(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Smooth random colours: a coarse grid of them, enlarged."""
    cells = int(rng.integers(2, 9))
    spread = rng.uniform(3, 14)
    grid = (_colour(rng) + rng.normal(0, spread, (cells, cells, 3))).clip(0, 255).astype(np.uint8)
    return Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)


def _mask(width: int, height: int, draw_on: Callable[[ImageDraw.ImageDraw, int], None]) -> Image.Image:
    canvas = Image.new("L", (width * _SUPERSAMPLING, height * _SUPERSAMPLING))
    draw_on(ImageDraw.Draw(canvas), _SUPERSAMPLING)
    return canvas.reduce(_SUPERSAMPLING)


def _blob(rng: np.random.Generator, width: int, height: int, smallest: float, largest: float) -> Image.Image:
    """Mask of a random ellipse or quadrangle: clutter behind the object, or something in front of it."""
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    a, b = rng.uniform(smallest, largest, 2) * min(width, height)
    slope = rng.uniform(0.3, 1, 2)
    corners = [(x - a, y - b), (x + a, y - b * slope[0]), (x + a, y + b), (x - a, y + b * slope[1])]
    ellipse = rng.random() < 0.5

    def draw_on(draw: ImageDraw.ImageDraw, scale: int) -> None:
        if ellipse:
            draw.ellipse([(x - a) * scale, (y - b) * scale, (x + a) * scale, (y + b) * scale], fill=255)
        else:
            draw.polygon([(cx * scale, cy * scale) for cx, cy in corners], fill=255)

    return _mask(width, height, draw_on)


def _draw_shape(
    draw: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    shape: str,
    centre: tuple[float, float],
    radius: float,
    scale: int,
) -> None:
    x, y, r = centre[0] * scale, centre[1] * scale, radius * scale
    if shape in ("disc", "ring"):
        draw.ellipse([x - r, y - r, x + r, y + r], fill=255)
        if shape == "ring":
            hole = r * rng.uniform(0.25, 0.4)
            draw.ellipse([x - hole, y - hole, x + hole, y + hole], fill=0)
        return
    turn = rng.uniform(0, 2 * math.pi)
    outline = [(rho * r, math.radians(angle) + turn) for rho, angle in _OUTLINES[shape]]
    draw.polygon([(x + rho * math.cos(angle), y + rho * math.sin(angle)) for rho, angle in outline], fill=255)


def _cross() -> list[tuple[float, float]]:
    arm = 0.42  # half an arm's width, of the radius
    corners = [(1.0, arm), (arm, arm), (arm, 1.0)]
    quarter = [(math.hypot(x, y), math.degrees(math.atan2(y, x))) for x, y in corners]
    return [(rho, angle + 90 * turn) for turn in range(4) for rho, angle in quarter]


# Corners as (radius, angle in degrees).
_OUTLINES = {
    "square": [(1.0, 90.0 * k) for k in range(4)],
    "triangle": [(1.25, 120.0 * k) for k in range(3)],
    "star": [(1.1 if k % 2 == 0 else 0.6, 36.0 * k) for k in range(10)],
    "cross": _cross(),
}


def _pattern(rng: np.random.Generator, pattern: str, width: int, height: int, period: float) -> Image.Image:
    """Mask of where the ink of a pattern is; ``period`` in pixels."""
    if pattern == "plain":
        return Image.new("L", (width, height), 255)
    turn = rng.uniform(0, math.pi)
    frequency = 2 * math.pi / period
    along = np.float32(frequency * math.cos(turn)), np.float32(frequency * math.sin(turn))
    x = np.arange(width, dtype=np.float32)[None]
    y = np.arange(height, dtype=np.float32)[:, None]
    wave = np.sin(x * along[0] + y * along[1])
    if pattern != "striped":
        across = np.sin(y * along[0] - x * along[1])
        wave = wave * across if pattern == "chequered" else wave + across - np.float32(0.7)
    # A steep ramp through zero: two colours with an edge about a pixel wide.
    return Image.fromarray((wave * np.float32(1024) + np.float32(128)).clip(0, 255).astype(np.uint8))


def _light(rng: np.random.Generator, width: int, height: int) -> Float32Array:
    """Brightness, with a gradient of it across the image: factors, float32 (height, width, 1)."""
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None] * np.float32(rng.uniform(-0.35, 0.35))
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None, None] * np.float32(rng.uniform(-0.35, 0.35))
    return x + y + np.float32(rng.uniform(0.6, 1.15))


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Float32Array:
    """Uniform noise around zero, of an amplitude that differs from image to image."""
    noise = rng.integers(0, 256, shape, dtype=np.uint8).astype(np.float32)
    noise -= np.float32(127.5)
    noise *= np.float32(rng.uniform(0, 15) / 128)
    return noise
