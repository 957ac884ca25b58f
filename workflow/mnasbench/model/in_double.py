"""A net's logits in double precision: what they are, where float32's own rounding hides it."""

import copy

import torch

from mnasbench.errors import BuildError
from mnasbench.preprocessing import Size, as_pair

_IMAGES = 3
# A colour for each so many parts of a side: photographs are smooth, and on noise some nets' own rounding is a
# thousandfold of that on photographs.
_COLOURS = 9


def check_images(size: int | Size) -> torch.Tensor:
    """Smooth images that look like none of a class, float32 (3, 3, H, W) of ``size``, normalised; always the same."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.randn(_IMAGES, 3, _COLOURS, _COLOURS, generator=generator)
    smooth = torch.nn.functional.interpolate(colours, as_pair(size), mode="bicubic", align_corners=False)
    return smooth + 0.1 * torch.randn(smooth.shape, generator=generator)  # no pixel is just its neighbour


def logits_in_double(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Logits, float64 (n, classes), of ``images``, float32 (n, 3, H, W).

    Raises BuildError for a model that cannot compute in double precision.
    """
    try:
        with torch.no_grad():
            logits: torch.Tensor = copy.deepcopy(model).double()(images.double())
    except RuntimeError as error:
        reason = (str(error).splitlines() or ["RuntimeError"])[0]
        raise BuildError(f"the net does not compute in double precision ({reason})") from error
    return logits
