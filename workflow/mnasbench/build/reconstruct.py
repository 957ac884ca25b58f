"""What is learned of weights beyond the one-shot pass, within seconds, and kept only where held-out images say so.

Two things are learned, layer by layer and in closed form (no gradients, nothing beside numpy): which way each weight is
rounded, by coordinate descent after GPTQ (QuantEase, Behdin et al. 2023; the aim is AdaRound's, Nagel et al. 2020), and
weights that give the float model's outputs from the inputs that the quantized layers before really give (GPTAQ, Li et
al. 2025), held to the exported ones by a ridge.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from onnx import ModelProto

from mnasbench.build.gate import agreement, logits_of, sqnr_db
from mnasbench.build.mixed import Int8
from mnasbench.build.sequential import OutOfTimeError, Way

Level = Literal["off", "fast", "full"]
# The ways that a level tries, in that order. Weaker ridges than 1 lost on every net that they were tried on.
WAYS: dict[str, tuple[Way, ...]] = {
    "off": (),
    "fast": (Way("descent"),),
    "full": (Way("descent"), Way("refit, ridge 3", 3.0), Way("refit, ridge 1", 1.0)),
}
# Every fourth image judges; with fewer images than this two or none would.
_JUDGES, _LEAST_IMAGES = 4, 12
# Standard errors by which the mean image has to gain: few images gain by chance.
_SURE = 2.0
Build = Callable[[np.ndarray, Way, float], Int8]


@dataclass
class Reconstruction:
    """One build's reconstruction: ``level``, the ``seconds`` that it has left, what was tried."""

    level: str
    seconds: float

    def __post_init__(self) -> None:
        self.allowed, self.tried, self.images = self.seconds, dict[str, float | None](), [0, 0]
        self.kept: str | None = None

    def improved(self, made: Int8, model: ModelProto, images: np.ndarray, build: Build) -> Int8:
        """``made``, or a build of the same graph that is nearer to the float ``model`` on images that are new to it.

        ``build`` makes one from images, in a way, until a time of ``time.monotonic``. The one-shot pass has learned
        from the images that judge as well, so that what beats it does so against odds.
        """
        if not WAYS[self.level] or len(images) < _LEAST_IMAGES:
            return made
        begin = time.monotonic()
        judging = np.arange(len(images)) % _JUDGES == _JUDGES - 1
        judged, learned = images[judging], images[~judging]
        reference = logits_of(model, judged)
        best, scores = made, logits_of(made.model, judged)
        self.tried = {"one-shot": _finite(sqnr_db(reference, scores))}
        self.kept, self.images = None, [len(learned), len(judged)]
        for way in WAYS[self.level]:
            try:
                one = build(learned, way, begin + self.seconds)
            except OutOfTimeError:
                self.tried[way.name] = None
                break
            others = logits_of(one.model, judged)
            self.tried[way.name] = _finite(sqnr_db(reference, others))
            if _surely_nearer(reference, others, scores):
                best, scores, self.kept = one, others, way.name
        self.seconds = max(0.0, self.seconds - (time.monotonic() - begin))
        return best

    def described(self) -> dict[str, Any] | None:
        """For model_info: SQNR (dB) on the images that judge, by way; None for one that time was over for."""
        if self.level == "off":
            return None
        learned, judged = self.images
        return {
            "level": self.level,
            "seconds": self.allowed,
            "learned": learned,
            "judged": judged,
            "tried": self.tried,
            "kept": self.kept,
        }


def _surely_nearer(reference: np.ndarray, scores: np.ndarray, than: np.ndarray) -> bool:
    """Whether ``scores`` (n, classes) have less error than ``than``, in the mean image as well, and no answer less."""
    tiny = np.finfo(np.float32).tiny
    new, old = (np.square(reference - one, dtype=np.float64).sum(axis=1) + tiny for one in (scores, than))
    gain = np.log(old / new)
    is_sure = gain.mean() > _SURE * gain.std(ddof=1) / np.sqrt(len(gain))
    return bool(is_sure and new.sum() < old.sum() and agreement(reference, scores) >= agreement(reference, than))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
