"""Parameters and multiply-adds of a model.

Multiply-adds are those of convolutions and matrix products on one image, as torchvision publishes them; they are what
stands in the summary. torch's own FlopCounterMode counts them (two operations each) operator by operator.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from mnasbench.errors import BuildError
from mnasbench.preprocessing import Size, as_pair

# thop, which the model card's script uses, counts four operations for each value that a BatchNorm gives
# (two for the normalization, doubled for its affine part); the script then doubles all and divides by 0.9e9.
_THOP_PER_NORMALIZED_VALUE = 4
_CARD_FACTOR = 2 / 0.9

_aten = torch.ops.aten


def _dot_operations(a: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * a.numel()


def _mv_operations(matrix: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * matrix.numel()


def _addmv_operations(_bias: torch.Size, matrix: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * matrix.numel()


def _addbmm_operations(_bias: torch.Size, a: torch.Size, b: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * a.numel() * b[-1]


# Products that FlopCounterMode passes over.
_MORE_PRODUCTS: dict[Any, Callable[..., int]] = {
    _aten.dot: _dot_operations,
    _aten.vdot: _dot_operations,
    _aten.mv: _mv_operations,
    _aten.addmv: _addmv_operations,
    _aten.addbmm: _addbmm_operations,
}

# Operators without a product of two tensors summed up: by convention they count nothing. Those that torch tags as
# pointwise, and views, need no mention.
_COUNTING_NOTHING = """
    _adaptive_avg_pool2d _adaptive_avg_pool3d _fused_dropout _local_scalar_dense _log_softmax _native_batch_norm_legit
    _native_batch_norm_legit_no_training _pdist_forward _reshape_alias _safe_softmax _softmax _to_copy _unsafe_index
    _unsafe_view _upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_nearest_exact2d adaptive_max_pool2d all amax
    amin aminmax any arange argmax argmin argsort as_strided avg_pool1d avg_pool2d avg_pool3d batch_norm bernoulli
    bincount bucketize cat channel_shuffle col2im constant_pad_nd copy cummax cummin cumprod cumsum empty empty_like
    empty_permuted empty_strided equal eye fill flip full full_like gather glu histc im2col index index_add index_copy
    index_fill index_put index_select isin item kthvalue lift_fresh linspace logcumsumexp logsumexp masked_fill
    masked_scatter masked_select max max_pool1d max_pool2d max_pool2d_with_indices max_pool3d_with_indices mean median
    min mode multinomial nansum native_batch_norm native_channel_shuffle native_dropout native_group_norm
    native_layer_norm new_empty new_empty_strided new_full new_ones new_zeros nonzero norm linalg_vector_norm normal
    one_hot ones ones_like pixel_shuffle pixel_unshuffle prod rand rand_like randint randn randn_like randperm
    reflection_pad1d reflection_pad2d repeat repeat_interleave replication_pad1d replication_pad2d resize roll rot90
    scalar_tensor scatter scatter_add scatter_reduce searchsorted select_scatter slice_scatter softmax sort split
    split_with_sizes stack std std_mean sum topk tril tril_indices triu triu_indices unfold unique_dim _unique2
    upsample_bicubic2d upsample_bilinear2d upsample_nearest2d upsample_linear1d upsample_nearest1d var var_mean zeros
    zeros_like embedding clone rrelu_with_noise _fused_rms_norm zero hardswish hardsigmoid hardtanh leaky_relu elu
    log_sigmoid_forward unsafe_split unsafe_split_with_sizes _prelu_kernel softplus softshrink hardshrink
"""
_COUNT_NOTHING = frozenset(_COUNTING_NOTHING.split())


def parameter_count(model: torch.nn.Module) -> int:
    """Number of trainable values."""
    return sum(parameter.numel() for parameter in model.parameters())


class UncountedError(BuildError):
    """An operator of the net may multiply and add, and how much is not known."""


def multiply_adds(model: torch.nn.Module, size: int | Size) -> int:
    """Multiply-adds of convolutions and matrix products for one image of ``size``, (height, width) or a side.

    Raises UncountedError, naming the operators, where the net has others that may multiply and add: the number is
    unknown then, and no wrong one is given.
    """
    # Attention is run as the plain products that it is: the fused kernels that torch otherwise takes on a CPU are
    # operators of their own, which the counter passes over.
    others = _OtherOperators()
    counter = FlopCounterMode(display=False, custom_mapping=_MORE_PRODUCTS)
    with torch.no_grad(), _plain_attention(), others, counter:
        model(torch.zeros(1, 3, *as_pair(size), device=next(model.parameters()).device))
    if others.names:
        names = ", ".join(sorted(others.names))
        raise UncountedError(f"multiply-adds are not known: it is not known how to count {names}")
    return int(counter.get_total_flops()) // 2


@contextmanager
def _plain_attention() -> Iterator[None]:
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class _OtherOperators(TorchDispatchMode):
    """Notes the operators of which nobody knows whether they multiply and add."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch's
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        namespace, _, base = name.partition("::")
        counted = func._overloadpacket in flop_registry or func._overloadpacket in _MORE_PRODUCTS
        silent = (
            torch.Tag.pointwise in func.tags
            or func.is_view
            or (namespace in {"aten", "prims", "prim"} and base.rstrip("_") in _COUNT_NOTHING)
            or namespace == "profiler"
        )
        if not counted and not silent:
            self.names.add(name)
        return func(*args, **(kwargs or {}))


def card_flops(model: torch.nn.Module, size: int | Size) -> int:
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
