"""The options of the card's compiler that the embedded one does without, and what settings may pass through to it.

The names are those of all 342 build files that the vendor publishes. Newer tools may have others, so the settings
``vacc.compile`` and ``vacc.quantize`` take any name, except one that reads like a slip of the pen.
"""

import difflib
from collections.abc import Mapping
from typing import Any

from mnasbench.errors import SettingsError, one_line

COMPILE = frozenset(
    {
        "attention_split_num",
        "cluster_mode",
        "data_transport_mode",
        "data_type",
        "dense_special_config",
        "enable_dense_to_matmul",
        "enable_float_to_half",
        "enable_graph_partition",
        "enable_groundingdino_axis_change",
        "enable_groundingdino_cut_layernorm",
        "enable_inputs_align",
        "enable_transform_vision_language_pan",
        "ffn_split_num",
        "fullatt_block_indexes",
        "gather_data_vccl_dsp_enable",
        "llm_build",
        "mem_inplace",
        "nearest_interpol_on_dsp",
        "opt_level",
        "output_ddr",
        "output_layout",
        "partition_convergence_dsp_enable",
        "real_output_shape",
        "split_convergence_points",
        "stream_mode",
        "switch_lhs_rhs",
    }
)
QUANTIZE = frozenset(
    {
        "calibrate_chunk_by",
        "calibrate_range",
        "dense_special_config",
        "nearest_interpol_on_dsp",
        "ops_usingfp",
        "output_ddr",
        "overflow_adaptive",
        "quantize_dsp_ops",
        "quantize_mode",
        "quantize_operators",
        "requant_suppress",
        "skip_matmul_layers",
        "stream_mode",
        "weight_scale",
    }
)
# What the embedded compiler reads, too, and the workflow does not write unless it is asked to.
_LAYERS = frozenset({"exclude_layers", "skip_conv_layers"})
_PUBLISHED = {"compile": COMPILE, "quantize": QUANTIZE | _LAYERS}
# What the workflow says itself, in the words of either generation, and the setting that decides it.
_OURS = {
    "do_quantization": "precisions",
    "dtype": "precisions",
    "quant_mode": "precisions",
    "calibrate_mode": "precisions",
    "per_channel": "quantize.per_channel",
    "quantize_per_channel": "quantize.per_channel",
}
# `alibrate_mode` for `calibrate_mode` is 0.96, `enable_half_to_float` for `enable_float_to_half` 0.8.
_SLIP = 0.87


def check_options(options: Mapping[str, Mapping[str, Any]], skip_layers: bool) -> None:
    """SettingsError for an option that the workflow writes itself, or whose name is nearly that of another.

    ``options``: those of the sections ``compile`` and ``quantize``. ``skip_layers``: whether the settings name layers
    that stay in float.
    """
    for section, names in options.items():
        other = "quantize" if section == "compile" else "compile"
        for name, value in names.items():
            where = f"vacc.{section}.{one_line(name)}"
            if name in _OURS:
                raise SettingsError(f"{where}: the workflow writes it from '{_OURS[name]}'; set that, and remove this")
            if name in _LAYERS and skip_layers:
                raise SettingsError(f"{where}: contradicts quantize.skip_layers; remove one of them")
            if name in _LAYERS and not isinstance(value, list):
                raise SettingsError(f"{where} is {one_line(repr(value))}, expected a list of numbers or names")
            if name in _PUBLISHED[section]:
                continue
            if name in _PUBLISHED[other]:
                raise SettingsError(f"{where}: belongs to vacc.{other} in the vendor's files; move it there")
            near = difflib.get_close_matches(name, {*_PUBLISHED[section], *_OURS}, n=1, cutoff=_SLIP)
            if near:
                raise SettingsError(f"{where}: no file of the vendor's has this option; did you mean '{near[0]}'?")


def unpublished(options: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each option that no published build file has: it is passed on, and only the card can judge it."""
    return [
        f"vacc.{section}.{one_line(name)}: no build file that the vendor publishes has this option; it is passed on"
        for section, names in options.items()
        for name in names
        if name not in _PUBLISHED[section]
    ]
