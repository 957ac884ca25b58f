"""Parameters and multiply-adds of a model.

Multiply-adds are counted by torch's own FlopCounterMode (which gives two operations each) on one image, as
torchvision publishes them; they are what stands in the summary.
"""

import torch
from torch.utils.flop_counter import FlopCounterMode

# thop, which the model card's script uses, counts four operations for each value that a BatchNorm gives
# (two for the normalization, doubled for its affine part); the script then doubles all and divides by 0.9e9.
_THOP_PER_NORMALIZED_VALUE = 4
_CARD_FACTOR = 2 / 0.9


def parameter_count(model: torch.nn.Module) -> int:
    """Number of trainable values."""
    return sum(parameter.numel() for parameter in model.parameters())


def multiply_adds(model: torch.nn.Module, size: int) -> int:
    """Multiply-adds of convolutions and matrix products for one image of ``size`` x ``size`` pixels."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, size, size))
    return int(counter.get_total_flops()) // 2


def card_flops(model: torch.nn.Module, size: int) -> int:
    """What the model card calls FLOPs: (multiply-adds + 4 x normalized values) x 2 / 0.9.

    0.259 G for mnasnet0_5 and 0.747 G for mnasnet1_0, as the card's table has them.
    """
    normalized = 0

    def count(_module: torch.nn.Module, _inputs: object, output: torch.Tensor) -> None:
        nonlocal normalized
        normalized += output.numel()

    hooks = [
        module.register_forward_hook(count) for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)
    ]
    try:
        multiplied = multiply_adds(model, size)
    finally:
        for hook in hooks:
            hook.remove()
    return round((multiplied + _THOP_PER_NORMALIZED_VALUE * normalized) * _CARD_FACTOR)
