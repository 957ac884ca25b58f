"""Parameters and multiply-adds of a model.

Multiply-adds are counted by torch's own FlopCounterMode (which gives two operations each) on one picture. The
model card's "FLOPs" are thop's multiply-adds x 2 / 0.9: its script divides by 900,000,000, and thop also counts
BatchNorm and pooling. torchvision publishes plain multiply-adds, which is what stands in the summary here.
"""

import torch
from torch.utils.flop_counter import FlopCounterMode


def parameter_count(model: torch.nn.Module) -> int:
    """Number of trainable values."""
    return sum(parameter.numel() for parameter in model.parameters())


def multiply_adds(model: torch.nn.Module, size: int) -> int:
    """Multiply-adds of convolutions and matrix products for one picture of ``size`` x ``size`` pixels."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, size, size))
    return int(counter.get_total_flops()) // 2
