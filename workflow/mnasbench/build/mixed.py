"""Layers back to float: what no kernel has in int8, what a budget asks for, and what int8 would make useless.

Layers go back in the order of what int8 costs at the logits, measured with each quantized alone, over the time that
float takes longer for them. Each step takes half of the error that is left, by these measurements; the steps between
the last that does not hold and the first that does are then halved.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from onnx import ModelProto

from mnasbench.build.gate import agreement, computed_in_float, logits_of, sqnr_db
from mnasbench.build.graph import layers, macs_by_layer
from mnasbench.build.quantize import float_closure
from mnasbench.build.ranges import Range
from mnasbench.build.sensitivity import sensitivities
from mnasbench.build.sequential import Corrected
from mnasbench.errors import BuildError
from mnasbench.progress import Progress

# SQNR of the logits below which int8 is of no use (half of what they say is error), and from which it is of some.
_USELESS_DB, _USEFUL_DB = 3.0, 10.0
# Images on which layers are ranked, and by which they are timed: enough for each kernel to work at its speed.
_RANKING_IMAGES, _TIMED_IMAGES = 32, 8
# Halvings between the last step that does not hold and the first that does; each is a whole quantization.
_HALVINGS = 3
# Float that was not measured to be slower is taken to be by this share of its time, so that none counts as free.
_LEAST_SLOWER = 0.05

# Seconds that a runtime spends in each node for the given images, float32 (n, 3, H, W), by its own counters.
NodeSeconds = Callable[[ModelProto, np.ndarray], dict[str, float]]


@dataclass(frozen=True)
class Int8:
    """An int8 graph, the weights and ranges it was made with, and the names of the nodes that stay in float."""

    model: ModelProto
    corrected: Corrected
    ranges: dict[str, Range]
    floats: frozenset[str]


# The int8 graph in which the nodes of these names stay in float.
Quantize = Callable[[frozenset[str]], Int8]


@dataclass(frozen=True)
class Point:
    """One choice of layers on the front of loss against speed.

    ``layers``: how many were put back. ``macs_share``: of the multiply-adds, what float does. ``speed``: fp32's time
    over this graph's, by the runtime's counters; None where there are none or no second choice was tried. ``sqnr_db``
    (None: no error at all) and ``agreement`` (percent): on the images that the choice is made by.
    """

    layers: int
    macs_share: float
    speed: float | None
    sqnr_db: float | None
    agreement: float


@dataclass
class _Tried:
    """The graphs that were judged, by how many layers went back, and how far each misses what it is to hold."""

    made: dict[int, Int8] = field(default_factory=dict)
    points: dict[int, Point] = field(default_factory=dict)
    misses: dict[int, float] = field(default_factory=dict)


class Mixed:
    """The choice of layers that stay in float, of one float graph.

    ``floats``: those that were asked for. ``images``: of the calibration, float32 (n, 3, H, W), to rank layers by.
    ``notes``: what there is to say; ``reasons``: why a layer stays in float, by its name.
    """

    def __init__(
        self,
        model: ModelProto,
        floats: frozenset[str],
        quantize: Quantize,
        images: np.ndarray,
        progress: Progress,
        node_seconds: NodeSeconds | None = None,
    ) -> None:
        self.model, self.quantize, self.progress, self.node_seconds = model, quantize, progress, node_seconds
        self.images, self.macs = images, macs_by_layer(model)
        self.notes: list[str] = []
        self.reasons = {name: "asked" for name in self.macs if name in floats}
        self.front: list[dict[str, Any]] = []
        self._seconds: dict[str, float] = {}

    def leave_to_float(self, made: Int8, fused: frozenset[str]) -> Int8:
        """Keep in float, and say so, what ONNX Runtime has no int8 kernel for where it stands.

        ``fused``: convolutions that another runtime has a kernel for.
        """
        asked = [n.name for n in layers(self.model) if n.op_type == "Conv" and n.name not in made.floats | fused]
        left = computed_in_float(made.model, asked)
        if not left:
            return made
        self.notes.append(f"kept in float, because no int8 kernel computes them where they stand: {', '.join(left)}")
        self.reasons |= dict.fromkeys(left, "kernel")
        return self.quantize(float_closure(self.model, made.floats | set(left)))

    def keep_budget(self, made: Int8, limit: float, held_out: np.ndarray) -> tuple[Int8, dict[str, Any]]:
        """Put layers back to float until no more than ``limit`` points of agreement are lost on ``held_out``.

        Where that is not to be had, the graph that loses least is kept and a note says so.
        """
        reference = logits_of(self.model, held_out)
        made, put_back, point = self._put_back(made, held_out, reference, lambda p: 100 - p.agreement - limit, "budget")
        lost = 100 - point.agreement
        if lost > limit:
            self.notes.append(
                f"the budget is not kept: {lost:.2f} points of agreement are lost at best, allowed are {limit:g}; "
                "this is the model that loses least"
            )
        return made, {"max_drop": limit, "drop": lost, "images": len(held_out), "put_back": put_back}

    def keep_answers(self, made: Int8, images: np.ndarray, reference: np.ndarray) -> tuple[Int8, dict[str, Any]]:
        """Hold int8 to what is of use at all: where its error comes near to the logits themselves, layers go back."""
        kept_db = sqnr_db(reference, logits_of(made.model, images))
        if not kept_db >= _USELESS_DB:
            before = kept_db
            made, put_back, point = self._put_back(made, images, reference, lambda p: _USEFUL_DB - _decibel(p), "use")
            kept_db = _decibel(point)
            if kept_db < _USEFUL_DB:
                raise BuildError(
                    f"gate: int8 stands {before:.1f} dB from fp32, and with the layers in float {kept_db:.1f} dB; "
                    f"expected at least {_USEFUL_DB:g} dB; build this model as fp32"
                )
            self.notes.append(
                f"int8 stood {before:.1f} dB from fp32 on {len(images)} calibration images, less than {_USELESS_DB:g} "
                f"dB is of no use: {len(put_back)} layers were put back to float, {kept_db:.1f} dB now"
            )
        same = agreement(reference, logits_of(made.model, images))
        if kept_db < _USEFUL_DB:
            self.notes.append(
                f"int8 is far from fp32: {kept_db:.1f} dB, {same:.1f} % of the answers of {len(images)} calibration "
                "images; max_drop puts layers back to float"
            )
        if not set(self.macs) - made.floats:
            self.notes.append("no layer is left in int8: fp32 gives the same answers at the same speed")
        kept = {"sqnr_db": kept_db if np.isfinite(kept_db) else None, "agreement": same, "images": len(images)}
        return made, kept

    def _put_back(
        self, made: Int8, images: np.ndarray, reference: np.ndarray, miss: Callable[[Point], float], reason: str
    ) -> tuple[Int8, list[str], Point]:
        """Put layers back until ``miss`` of the point is 0 or less, or keep what misses by least.

        Gives the graph, the layers that went back, and where it stands on the front.
        """
        tried, before, ranked = _Tried(), made, list[str]()

        def holds(back: int) -> bool:
            graph = before
            if back:
                graph = self.quantize(float_closure(self.model, before.floats | set(ranked[:back])))
            point = self._judge(graph, back, images, reference)
            tried.made[back], tried.points[back], tried.misses[back] = graph, point, miss(point)
            return tried.misses[back] <= 0

        if not holds(0):
            ranked, shares = self._ranked(before)
            failed = 0
            for back in _steps(shares):
                if holds(back):
                    self._halve(failed, back, holds)
                    break
                failed = back
        # Of those that hold, the one with the fewest layers in float; where none does, what misses by least.
        kept = min(tried.made, key=lambda back: (max(tried.misses[back], 0.0), back))
        for back in sorted(tried.points):
            speed = self._speed(tried.made[back].model) if len(tried.points) > 1 else None
            self.front.append(asdict(replace(tried.points[back], speed=speed)) | {"kept": back == kept})
        self.reasons |= dict.fromkeys(ranked[:kept], reason)
        return tried.made[kept], ranked[:kept], tried.points[kept]

    @staticmethod
    def _halve(failed: int, held: int, holds: Callable[[int], bool]) -> None:
        for _ in range(_HALVINGS):
            middle = (failed + held) // 2
            if middle == failed:
                break
            if holds(middle):
                held = middle
            else:
                failed = middle

    def _judge(self, made: Int8, back: int, images: np.ndarray, reference: np.ndarray) -> Point:
        logits = logits_of(made.model, images)
        decibel = sqnr_db(reference, logits)
        share = sum(macs for name, macs in self.macs.items() if name in made.floats) / sum(self.macs.values())
        kept_db = decibel if np.isfinite(decibel) else None
        return Point(back, share, None, kept_db, agreement(reference, logits))

    def _speed(self, model: ModelProto) -> float | None:
        if self.node_seconds is None:
            return None
        return sum(self._float_seconds().values()) / sum(self._measured(model).values())

    def _measured(self, model: ModelProto) -> dict[str, float]:
        assert self.node_seconds is not None
        return self.node_seconds(model, self.images[:_TIMED_IMAGES])

    def _float_seconds(self) -> dict[str, float]:
        if not self._seconds:
            self._seconds = self._measured(self.model)
        return self._seconds

    def _ranked(self, made: Int8) -> tuple[list[str], list[float]]:
        """Layers that are in int8, those that bring most for their time first, and the share of the error of each."""
        self.progress.step("ranking layers by what int8 costs them")
        few = self.images[:_RANKING_IMAGES]
        kept_db = sensitivities(self.model, made.corrected.values, made.ranges, few)
        noise = {name: 10 ** (-decibel / 10) for name, decibel in kept_db.items() if name not in made.floats}
        cost = self._cost(made)
        ranked = sorted(noise, key=lambda name: -noise[name] / cost[name])
        total = sum(noise.values()) or 1.0
        return ranked, [noise[name] / total for name in ranked]

    def _cost(self, made: Int8) -> dict[str, float]:
        """How much longer float takes for a layer: measured, or its multiply-adds where a runtime tells no times."""
        if self.node_seconds is None:
            return {name: float(macs) for name, macs in self.macs.items()}
        in_float, in_int8 = self._float_seconds(), self._measured(made.model)
        shortest = min(filter(None, in_float.values()), default=1.0)
        return {
            name: max(
                in_float.get(name, shortest) - in_int8.get(name, 0.0), _LEAST_SLOWER * in_float.get(name, shortest)
            )
            or shortest
            for name in self.macs
        }


def _decibel(point: Point) -> float:
    return np.inf if point.sqnr_db is None else point.sqnr_db


def _steps(shares: Sequence[float]) -> list[int]:
    """How many layers to put back at each step, so that each takes half of the error that is left; all at last."""
    left = 1 - np.cumsum(shares)
    steps, most = [], 0.5
    for back, rest in enumerate(left, start=1):
        if rest <= most:
            steps.append(back)
            while most >= rest > 0:
                most /= 2
            if rest <= 0:
                break
    return steps if not len(shares) or steps[-1:] == [len(shares)] else [*steps, len(shares)]
