"""Branches that a net was trained with and is not run with: RepVGG's, MobileOne's, FastViT's, LeViT's.

Such a net computes the same with each block's branches summed into one convolution, and its publisher runs it so.
"""

import copy
from typing import Any

import torch

from mnasbench.errors import BuildError, one_line
from mnasbench.model.in_double import check_images, logits_in_double
from mnasbench.model.torchvision_import import import_timm
from mnasbench.preprocessing import Size

# What timm asks a module for when it fuses a model.
_FUSING = ("fuse", "reparameterize", "switch_to_deploy")
# Some fused layers keep their weights in float32: over a hundred layers that rounding stays tenfold below this.
_TOLERANCE = 1e-4


def fuse_branches(model: torch.nn.Module, size: int | Size) -> tuple[torch.nn.Module, str | None]:
    """``model`` as it is run, and a line on what was fused; the same model and None where nothing can be.

    By timm's own ``reparameterize_model``. The logits for images of ``size`` must be those of before;
    where they are not, the model stays as it is, and the line says so.
    """
    parts = [module for module in model.modules() if module is not model]
    if not any(callable(getattr(module, name, None)) for module in parts for name in _FUSING):
        return model, None
    images = check_images(size)
    try:
        fused, change = _fused(model, images)
    except (AttributeError, BuildError, RuntimeError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return model, f"branches are not fused: timm's fusion ends in an error ({one_line(reason)})"
    before, after = _layers(model), _layers(fused)
    if not change <= _TOLERANCE:
        return model, f"branches are not fused: timm's fusion changes the logits by {change:.0e} of the largest"
    return fused, (
        f"branches are fused by timm's reparameterize_model ({before} layers with weights are {after}); logits change "
        f"by {change:.0e} of the largest; multiply-adds and parameters are the fused net's"
    )


def _fused(model: torch.nn.Module, images: torch.Tensor) -> tuple[torch.nn.Module, float]:
    """The fused model, and by how much its logits differ, in shares of the largest."""
    import_timm()
    from timm.utils.model import reparameterize_model

    # Summed in double precision: where a net makes much of small differences, rounded weights are another net's.
    exact: Any = reparameterize_model(copy.deepcopy(model).double()).double().eval()
    fused: torch.nn.Module = copy.deepcopy(exact).float()
    with torch.no_grad():
        change = _change(model(images), fused(images))
    if not change <= _TOLERANCE:  # by float32's own rounding, or by more?
        change = _change(logits_in_double(model, images[:1]), logits_in_double(exact, images[:1]))
    return fused, change


def _change(before: torch.Tensor, after: torch.Tensor) -> float:
    """The largest change of a logit in shares of the largest."""
    if before.shape != after.shape:
        return float("inf")
    return float((after - before).abs().max()) / (float(before.abs().max()) or 1.0)


def _layers(model: torch.nn.Module) -> int:
    """How many layers with weights of their own a model has."""
    return sum(next(module.parameters(recurse=False), None) is not None for module in model.modules())
