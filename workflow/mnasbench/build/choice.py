"""The recipe of int8-auto: ranges by tensor and whole recipes, chosen by their error on held-out calibration images.

A range's error is that of the layers that read the tensor, a recipe's that of the logits. Whatever is put together is
held against the plain recipe, the extremes and the nearest weights, on the same images, and the best is taken.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from mnasbench.build.calibration import run_chunks
from mnasbench.build.gate import logits_of, sqnr_db
from mnasbench.build.graph import constants, consumers, layers
from mnasbench.build.ranges import Range
from mnasbench.cpus import usable_cpus
from mnasbench.errors import BuildError
from mnasbench.runtimes.onnxruntime import open_session

# Images that a choice is made from, whatever their number, and every which of them judges: more cost time alone.
CHOICE_IMAGES, HELD_OUT = 64, 4
# With fewer there is nothing to be judged on, and the default recipe is taken.
LEAST_IMAGES = 8
# Decibels by which a recipe must be ahead of one before it in the list; less may be these images' own.
_AHEAD_DB = 0.3
# In place of an infinite SQNR.
_MOST_DB = 300.0
# A recipe that is behind by as much before weights are rounded with care will not come to the front by that.
_BEHIND_DB = 3.0
# Held-out images on which ranges are judged by tensor.
_RANGE_IMAGES = 12


@dataclass(frozen=True)
class Rule:
    """How a tensor's range is taken: a calibrator of ``ranges``, its percentage, and the headroom of a recipe."""

    calibrator: str
    percent: float
    headroom: float

    def __str__(self) -> str:
        name = f"percentile {self.percent:g}" if self.calibrator == "percentile" else _NAMES[self.calibrator]
        return f"{name} with headroom" if self.headroom else name


_NAMES = {"largest": "max", "least_squares": "mse", "kl_divergence": "kl"}


@dataclass(frozen=True)
class Kept:
    """What logits keep (dB): SQNR of all images together, and the mean of each image's."""

    total: float
    mean: float

    @classmethod
    def of(cls, reference: np.ndarray, logits: np.ndarray) -> Self:
        """Of logits (n, classes) against the float model's."""
        each = [min(sqnr_db(*pair), _MOST_DB) for pair in zip(reference, logits, strict=True)]
        total, mean = min(sqnr_db(reference, logits), _MOST_DB), float(np.mean(each))
        return cls(*(value if np.isfinite(value) else -_MOST_DB for value in (total, mean)))

    def is_ahead_of(self, other: Self) -> bool:
        """Whether it is better beyond chance: a single image decides the one, and the other misses what is rare."""
        return self.total > other.total + _AHEAD_DB and self.mean > other.mean + _AHEAD_DB

    def as_json(self) -> dict[str, float]:
        """To a hundredth."""
        return {"sqnr_db": round(self.total, 2), "image_sqnr_db": round(self.mean, 2)}


# The rule of each tensor; where none is named, the one under "".
Rules = Mapping[str, Rule]


@dataclass(frozen=True)
class Choice:
    """What was chosen: the steps by their names in a recipe, the rules by tensor, and what there is to say about it.

    ``account``: for model_info. ``tried`` there is what each recipe's logits keep on the held-out images.
    """

    steps: dict[str, Any]
    rules: Rules
    account: dict[str, Any]

    @property
    def note(self) -> str:
        """What was chosen, in one line."""
        tried, chosen = self.account["tried"], self.account["chosen"]
        others = ", ".join(f"{name} {value['sqnr_db']:.1f}" for name, value in tried.items() if name != chosen)
        return (
            f"chosen on {self.account['held_out']} held-out calibration images: {chosen}, "
            f"{tried[chosen]['sqnr_db']:.1f} dB ({others})"
        )


class Trial(Protocol):
    """A build that was calibrated on the images that are not held out."""

    float_model: ModelProto

    def sources(self) -> list[str]:
        """The activations that have a range of their own."""

    def range_by(self, name: str, rule: Rule) -> Range:
        """The range of an activation."""

    def activations_in_steps(self, rules: Rules) -> ModelProto:
        """The graph with quantized activations and float weights."""

    def quantized(self, rules: Rules, steps: Mapping[str, Any]) -> ModelProto:
        """The int8 graph."""


def choose(
    trial_of: Callable[[bool], Trial], steps: Mapping[str, bool], percent: float, headroom: float, held_out: np.ndarray
) -> Choice:
    """Choose for a build whose recipe allows ``steps`` (``equalize``, ``gptq``, ``correct_bias``); no more are taken.

    ``trial_of`` gives the trial with equalization or without, ``held_out`` are images (n, 3, H, W) that none of
    them was calibrated on.
    """
    trials = {"": trial_of(False)}
    reference = logits_of(trials[""].float_model, held_out)
    if steps["equalize"]:
        # Where it is not exact there still is a model without it.
        with suppress(BuildError):
            trials = {"equalized, ": trial_of(True), **trials}
    rules = _rules(percent, headroom)

    def kept(model: ModelProto) -> Kept:
        return Kept.of(reference, logits_of(model, held_out))

    ranges: dict[str, tuple[str, Rules]] = {}
    near: dict[str, Kept] = {}
    crude = {"gptq": False, "correct_bias": steps["correct_bias"]}
    for prefix, trial in trials.items():
        offered: dict[str, Rules] = {str(rule): {"": rule} for rule in rules}
        offered["ranges by tensor"] = {"": rules[0], **_by_tensor(trial, rules, held_out[:_RANGE_IMAGES])}
        name = _best({name: kept(trial.activations_in_steps(one)) for name, one in offered.items()})
        ranges[prefix] = name, offered[name]
        near[prefix] = kept(trial.quantized(offered[name], crude))
    tried: dict[str, tuple[Kept, str, Rules, dict[str, bool]]] = {}

    def add(label: str, prefix: str, taken: Rules, given: dict[str, bool], value: Kept | None = None) -> None:
        tried.setdefault(label, (value or kept(trials[prefix].quantized(taken, given)), prefix, taken, given))

    first = next(iter(trials))
    fine = {**crude, "gptq": steps["gptq"]}
    careful = ", GPTQ" if steps["gptq"] else ""
    add(f"{first}{rules[0]}{careful}", first, {"": rules[0]}, fine)
    front = max(value.total for value in near.values())
    for prefix, (name, taken) in ranges.items():
        if near[prefix].total >= front - _BEHIND_DB:
            add(f"{prefix}{name}{careful}", prefix, taken, fine)
        add(f"{prefix}{name}", prefix, taken, crude, near[prefix])
    bare = dict.fromkeys(crude, False)
    if steps["correct_bias"]:
        ahead = max(near, key=lambda prefix: near[prefix].total)
        add(f"{ahead}{ranges[ahead][0]}, biases as they are", ahead, ranges[ahead][1], bare)
    add("plain MinMax", "", {"": Rule("largest", percent, 0.0)}, bare)
    label = _best({label: value for label, (value, *_) in tried.items()})
    _, prefix, taken, given = tried[label]
    account = {
        "held_out": len(held_out),
        "chosen": label,
        "tried": {name: value.as_json() for name, (value, *_) in tried.items()},
        "rules": {name: str(rule) for name, rule in sorted(taken.items())},
    }
    return Choice({"equalize": bool(prefix), **given}, taken, account)


def _rules(percent: float, headroom: float) -> list[Rule]:
    """The rules that are tried; the first is the default recipe's."""
    tried = [Rule("percentile", percent, headroom), Rule("percentile", percent, 0.0)]
    tried += [Rule("percentile", lower, 0.0) for lower in (99.999, 99.99) if lower < percent]
    return list(dict.fromkeys([*tried, Rule("least_squares", percent, 0.0)]))


def _best(values: Mapping[str, Kept]) -> str:
    """The name of the best; one before another keeps its place unless that is ahead of it beyond chance."""
    names = iter(values)
    best = next(names)
    for name in names:
        best = name if values[name].is_ahead_of(values[best]) else best
    return best


def _by_tensor(trial: Trial, rules: Sequence[Rule], images: np.ndarray) -> dict[str, Rule]:
    """For each activation the rule with the smallest error of the layers that read it, over ``images``."""
    model = trial.float_model
    read_by, values, own = consumers(model), constants(model), {node.name for node in layers(model)}
    judges = {
        name: _Judge([node for node in read_by.get(name, []) if node.name in own], model, values)
        for name in trial.sources()
    }
    ranges = {name: [trial.range_by(name, rule) for rule in rules] for name in judges}
    errors = {name: np.zeros(len(rules)) for name in judges}
    with ThreadPoolExecutor(usable_cpus()) as pool:
        for given in run_chunks(model, list(judges), lambda: iter([images])):

            def add(name: str, given: Mapping[str, np.ndarray] = given) -> None:
                errors[name] += judges[name].errors(given[name], ranges[name])

            list(pool.map(add, judges))
    return {name: rules[int(error.argmin())] for name, error in errors.items()}


class _Judge:
    """The layers that read one activation, by which errors of its range are weighed; where there is none, itself."""

    def __init__(self, readers: Sequence[NodeProto], model: ModelProto, values: Mapping[str, np.ndarray]) -> None:
        self._sessions = [_without_bias(node, model, values) for node in readers if node.input[0] not in values]

    def errors(self, values: np.ndarray, ranges: Sequence[Range]) -> np.ndarray:
        """Squared error of what is read, in shares of its power, for each range, (ranges,)."""
        moved: dict[Range, float] = {}
        powers = [np.square(session.run(None, {"x": values})[0]).sum() for session in self._sessions]
        for chosen in dict.fromkeys(ranges):
            error = chosen.in_steps(values) - values
            read = [np.square(session.run(None, {"x": error})[0]).sum() for session in self._sessions]
            shares = [float(one / power) for one, power in zip(read, powers, strict=True) if power > 0]
            moved[chosen] = sum(shares) if self._sessions else float(np.square(error).sum())
        return np.array([moved[chosen] for chosen in ranges])


def _without_bias(node: NodeProto, model: ModelProto, values: Mapping[str, np.ndarray]) -> Any:
    """A session of one layer from "x" to its products' sums: errors go through it as they are."""
    weight, bias = values[node.input[1]], values[node.input[2]]
    alone = NodeProto()
    alone.CopyFrom(node)
    alone.input[:], alone.output[:] = ["x", "weight", "bias"], ["y"]
    held = [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.zeros_like(bias), "bias")]
    given = [helper.make_tensor_value_info("x", 1, None)]
    graph = helper.make_graph([alone], node.name, given, [helper.make_empty_tensor_value_info("y")], held)
    return open_session(helper.make_model(graph, opset_imports=model.opset_import, ir_version=10), threads=1)
