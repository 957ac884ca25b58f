"""Branches of training: fused before the export, counted as they are run, and left alone where fusing is not exact."""

import pytest
import torch

from mnasbench.model import architecture, complexity, export
from mnasbench.model.fusion import fuse_branches


@pytest.mark.parametrize(
    ("name", "layers", "macs"),
    [
        # As their authors publish them: 275 M and 1.36 G (RepVGG's 1.4 B).
        ("mobileone_s0", 44, 0.275e9),
        ("repvgg_a0", 23, 1.36e9),
    ],
)
def test_branches_become_one_convolution(name: str, layers: int, macs: float) -> None:
    model = architecture.create("timm", name)
    fused, line = fuse_branches(model, 64)
    assert line is not None and f"layers with weights are {layers})" in line and "the fused net's" in line
    assert complexity.multiply_adds(fused, 224) == pytest.approx(macs, rel=0.005)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fused.modules())
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(images)
        torch.testing.assert_close(fused(images), expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


def test_a_net_without_branches_stays_itself() -> None:
    model = architecture.create("torchvision", "shufflenet_v2_x0_5")
    assert fuse_branches(model, 64) == (model, None)


class _Wrong(torch.nn.Module):
    """A part whose fusion forgets its bias."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(12, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images.flatten(1)[:, :12])  # type: ignore[no-any-return]

    def fuse(self) -> torch.nn.Module:
        torch.nn.init.zeros_(self.layer.bias)
        return self


def test_a_fusion_that_is_not_exact_is_left_out_and_said() -> None:
    model = torch.nn.Sequential(_Wrong()).eval()
    same, line = fuse_branches(model, 32)
    assert same is model and line is not None and line.startswith("branches are not fused: timm's fusion changes")


class _Cancelling(torch.nn.Module):
    """What is added to large numbers that then cancel: float32 keeps a third of its digits."""

    def __init__(self, large: float, wrong: float = 0.0) -> None:
        super().__init__()
        self.large, self.wrong = large, wrong
        self.weight = torch.nn.Parameter(torch.linspace(-1, 1, 60).reshape(12, 5))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        sums = torch.matmul(images.flatten(1)[:, :12], self.weight)
        return torch.sin(sums * self.large) / 3 + torch.sin(sums) + self.wrong


def test_an_export_is_as_exact_as_torch_itself_is() -> None:
    # The two sum in other orders, and the sine of a large angle shows it.
    model = _Cancelling(3e3).eval()
    export._compare_with_torch(model, export._to_onnx(model, 32), 32)
    with pytest.raises(export.BuildError, match="torch's own float32 differs by"):
        export._compare_with_torch(model, export._to_onnx(_Cancelling(3e3, wrong=0.02).eval(), 32), 32)
