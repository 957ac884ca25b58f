"""Layers back to float: what no kernel has in int8, what a budget asks for, and what int8 would make useless."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto

from mnasbench.build.gate import agreement, computed_in_float, logits_of, sqnr_db
from mnasbench.build.graph import layers
from mnasbench.build.quantize import float_closure
from mnasbench.build.ranges import Range
from mnasbench.build.sensitivity import sensitivities
from mnasbench.build.sequential import Corrected
from mnasbench.errors import BuildError
from mnasbench.progress import Progress

# SQNR of the logits below which int8 is of no use (half of what they say is error), and from which it is of some.
_USELESS_DB, _USEFUL_DB = 3.0, 10.0
# Held-out images on which layers are ranked.
_RANKING_IMAGES = 32


@dataclass(frozen=True)
class Int8:
    """An int8 graph, the weights and ranges it was made with, and the names of the nodes that stay in float."""

    model: ModelProto
    corrected: Corrected
    ranges: dict[str, Range]
    floats: frozenset[str]


# The int8 graph in which the nodes of these names stay in float.
Quantize = Callable[[frozenset[str]], Int8]


class Mixed:
    """The choice of layers that stay in float, of one float graph. ``notes``: what there is to say about it."""

    def __init__(self, model: ModelProto, quantize: Quantize, progress: Progress) -> None:
        self.model, self.quantize, self.progress = model, quantize, progress
        self.notes: list[str] = []

    def leave_to_float(self, made: Int8, fused: frozenset[str]) -> Int8:
        """Keep in float, and say so, what ONNX Runtime has no int8 kernel for where it stands.

        ``fused``: convolutions that another runtime has a kernel for.
        """
        asked = [n.name for n in layers(self.model) if n.op_type == "Conv" and n.name not in made.floats | fused]
        left = computed_in_float(made.model, asked)
        if not left:
            return made
        self.notes.append(f"kept in float, because no int8 kernel computes them where they stand: {', '.join(left)}")
        return self.quantize(float_closure(self.model, made.floats | set(left)))

    def keep_budget(self, made: Int8, limit: float, held_out: np.ndarray) -> tuple[Int8, dict[str, Any]]:
        """Put layers back to float until no more than ``limit`` points of agreement are lost."""
        reference = logits_of(self.model, held_out)
        made, lost, put_back = self._put_back(made, held_out, lambda logits: 100 - agreement(reference, logits), limit)
        if lost > limit:
            raise BuildError(f"budget: even with every layer in fp32 {lost:.2f} points are lost, allowed are {limit:g}")
        return made, {"max_drop": limit, "drop": lost, "images": len(held_out), "put_back": put_back}

    def keep_answers(self, made: Int8, images: np.ndarray, reference: np.ndarray) -> tuple[Int8, dict[str, Any]]:
        """Hold int8 to what is of use at all: where its error comes near to the logits themselves, layers go back."""
        kept_db = sqnr_db(reference, logits_of(made.model, images))
        if not kept_db >= _USELESS_DB:
            made, lost, put_back = self._put_back(made, images, lambda logits: -sqnr_db(reference, logits), -_USEFUL_DB)
            if not lost <= -_USEFUL_DB:
                raise BuildError(
                    f"gate: int8 stands {kept_db:.1f} dB from fp32, and with every layer in float {-lost:.1f} dB; "
                    f"expected at least {_USEFUL_DB:g} dB; build this model as fp32"
                )
            self.notes.append(
                f"int8 stood {kept_db:.1f} dB from fp32 on {len(images)} calibration images, less than {_USELESS_DB:g} "
                f"dB is of no use: {len(put_back)} layers were put back to float, {-lost:.1f} dB now"
            )
            kept_db = -lost
        same = agreement(reference, logits_of(made.model, images))
        if kept_db < _USEFUL_DB:
            self.notes.append(
                f"int8 is far from fp32: {kept_db:.1f} dB, {same:.1f} % of the answers of {len(images)} calibration "
                "images; max_drop puts layers back to float"
            )
        kept = {"sqnr_db": kept_db if np.isfinite(kept_db) else None, "agreement": same, "images": len(images)}
        return made, kept

    def _put_back(
        self, made: Int8, images: np.ndarray, loss: Callable[[np.ndarray], float], limit: float
    ) -> tuple[Int8, float, list[str]]:
        """Put the most sensitive layers back to float, twice as many each time, until ``loss`` of the logits holds.

        Gives the graph, the last loss and the layers that went back; all of them may not have been enough.
        """
        ranked: Sequence[str] = ()
        kept_float, back = made.floats, 0
        while not (lost := loss(logits_of(made.model, images))) <= limit:
            if not ranked:
                self.progress.step("ranking layers by what int8 costs them")
                few = images[:_RANKING_IMAGES]
                ranked = list(sensitivities(self.model, made.corrected.values, made.ranges, few))
            if back >= len(ranked):
                break
            back = min(max(1, 2 * back), len(ranked))
            made = self.quantize(float_closure(self.model, kept_float | set(ranked[:back])))
        return made, lost, list(ranked[:back])
