"""Multiply-adds against published figures, and against a count by brute force."""

from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from torch.nn import functional

from mnasbench.model import architecture, complexity
from mnasbench.model.torchvision_import import torchvision


class _Ones(nn.Module):
    """A product of ones: the sum over what comes out is the number of multiply-adds."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        for parameter in layer.parameters():
            nn.init.ones_(parameter)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.layer(torch.ones_like(images))
        return outputs


class _Einsum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.einsum("oc,bchw->bohw", self.weight, images)


class _Vector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[0, 0].mv(self.weight)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 4, 3, bias=False),
        nn.Conv2d(3, 6, (1, 3), stride=2, groups=3, bias=False),
        nn.Conv2d(3, 4, 3, dilation=2, bias=False),
        nn.ConvTranspose2d(3, 4, 3, bias=False),
        nn.ConvTranspose2d(3, 6, 2, stride=2, groups=3, bias=False),
        nn.Linear(8, 5, bias=False),
        _Einsum(),
        _Vector(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_the_count_is_that_of_brute_force(layer: nn.Module) -> None:
    net = _Ones(layer)
    with torch.no_grad():
        by_force = int(net(torch.zeros(1, 3, 8, 8)).sum())
    assert complexity.multiply_adds(net, 8) == by_force


class _Attention(nn.Module):
    """Tokens of 12 values, four heads: by nn.MultiheadAttention, or written out over scaled_dot_product_attention."""

    def __init__(self, fused: bool, encoder: bool = False) -> None:
        super().__init__()
        self.fused, self.encoder = fused, encoder
        self.whole = nn.MultiheadAttention(12, 4, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(12, 4, 24, batch_first=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = images.reshape(1, -1, 12)
        if self.encoder:
            return self.layer(tokens)  # type: ignore[no-any-return]
        if not self.fused:
            return self.whole(tokens, tokens, tokens, need_weights=False)[0]  # type: ignore[no-any-return]
        q, k, v = functional.linear(tokens, self.whole.in_proj_weight).reshape(1, -1, 3, 4, 3).permute(2, 0, 3, 1, 4)
        outputs = functional.scaled_dot_product_attention(q, k, v)
        return functional.linear(outputs.transpose(1, 2).flatten(2), self.whole.out_proj.weight)


@pytest.mark.parametrize("fused", [False, True])
def test_attention_is_counted_with_its_products_and_projections(fused: bool) -> None:
    tokens, width = 3 * 8 * 8 // 12, 12
    expected = tokens * width * 3 * width + 2 * tokens * tokens * width + tokens * width * width
    assert complexity.multiply_adds(_Attention(fused).eval(), 8) == expected


def test_torchs_fast_path_of_a_whole_encoder_layer_is_counted() -> None:
    tokens, width, hidden = 3 * 8 * 8 // 12, 12, 24
    attention = tokens * width * 3 * width + 2 * tokens * tokens * width + tokens * width * width
    expected = attention + 2 * tokens * width * hidden
    assert complexity.multiply_adds(_Attention(False, encoder=True).eval(), 8) == expected
    assert torch.backends.mha.get_fastpath_enabled(), "left as it was"


_ZOO = yaml.safe_load((Path(__file__).parents[3] / "config/zoo.yaml").read_text())["models"]


@pytest.mark.parametrize(
    "name", ["vit_b_16", "mnasnet0_5", "googlenet", *(n for n, m in _ZOO.items() if m["library"] == "torchvision")]
)
def test_counts_are_those_that_torchvision_publishes(name: str) -> None:
    published = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    with torch.device("meta"):
        model = architecture.create("torchvision", name)
    size = published.transforms().crop_size[0]
    # Published in thousandths of a G.
    counted = complexity.multiply_adds(model, size) / 1e9
    assert counted == pytest.approx(published.meta["_ops"], rel=0.006, abs=0.0006)


class _Bilinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Bilinear(8, 8, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images, images)  # type: ignore[no-any-return]


class _Fourier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfft2(images).abs() * self.weight


@pytest.mark.parametrize(("net", "operator"), [(_Bilinear(), "aten::_trilinear"), (_Fourier(), "aten::_fft_r2c")])
def test_an_operator_that_is_not_counted_is_named_and_gives_no_number(net: nn.Module, operator: str) -> None:
    with pytest.raises(complexity.UncountedError, match=f"not known how to count .*{operator}"):
        complexity.multiply_adds(net, 8)
