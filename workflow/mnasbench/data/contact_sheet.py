"""A contact sheet: a few images as a net is given them, each with its class below, in one file to look at."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mnasbench.data.preprocess import pixels_of
from mnasbench.errors import one_line
from mnasbench.preprocessing import Preprocessing

COLUMNS = 3
# Of the cells; an input may be as small as 32 pixels or as large as 1024.
_SIDE = 320
_LINES, _LINE, _MARGIN = 2, 18, 10


def contact_sheet(root: Path, images: Sequence[tuple[str, str]], p: Preprocessing) -> bytes:
    """A PNG of these images (name below ``root``, label), resized and cropped as ``p`` says.

    Normalisation is left out: what it does to a pixel, undone, is the pixel. Raises DatasetError for an image that
    cannot be read.
    """
    height, width = p.size
    scale = _SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    cell = _SIDE + 2 * _MARGIN, size[1] + _LINES * _LINE + 2 * _MARGIN
    rows = -(-len(images) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * cell[0], rows * cell[1]), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for place, (name, label) in enumerate(images):
        left, top = place % COLUMNS * cell[0] + _MARGIN, place // COLUMNS * cell[1] + _MARGIN
        pixels = np.ascontiguousarray(pixels_of(root / name, p).transpose(1, 2, 0))
        # Each pixel stays a square of one colour, so that what the net is given can be seen.
        image = Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)
        sheet.paste(image, (left, top))
        for line, text in enumerate((label, name.rpartition("/")[2])):
            fitted = _fitted(draw, font, one_line(text))
            draw.text((left, top + size[1] + 2 + line * _LINE), fitted, "black" if line == 0 else "gray", font)
    content = io.BytesIO()
    sheet.save(content, "PNG")
    return content.getvalue()


def _fitted(draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str) -> str:
    """``text``, or as much of it as there is room for."""
    if draw.textlength(text, font) <= _SIDE:
        return text
    while text and draw.textlength(f"{text}...", font) > _SIDE:
        text = text[:-1]
    return f"{text}..."
