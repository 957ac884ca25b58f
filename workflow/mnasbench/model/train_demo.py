"""Weights for the demo dataset: a real architecture, trained on the demo's own images in about a minute.

A bag of small tricks, each measured to be worth its time on one core:

- it trains on small crops at the resolution of the evaluation, not on shrunken images: hue and pattern are local, and
  the scale of the pattern stays what it will be;
- residual branches start closed (their last BatchNorm's weight is 0) and the classifier starts at 0, so that a deep
  net learns from its first step (Goyal et al. 2017, section 5.1);
- BatchNorm's statistics are taken anew from whole images after training ("precise BN", Wu and Johnson 2021);
- the classifier is then fitted to whole images to the optimum of its convex problem.
"""

import io
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch

from mnasbench.data.layouts import Dataset, scan
from mnasbench.data.parallel import map_in_processes
from mnasbench.data.preprocess import UInt8Array, normalise, pixels_of
from mnasbench.files import written_atomically
from mnasbench.model.architecture import create
from mnasbench.preprocessing import Preprocessing
from mnasbench.presets import preset
from mnasbench.progress import SILENT, Progress

_BATCH = 64
_CROP = 64  # the smallest that leaves MNASNet's last layers 2 x 2
_STEPS = 200  # mnasnet1_0: 62 s on one core
_RATE = 5e-3
_RATE_WITHOUT_NORMS = 1e-3  # test_vit and squeezenet1_1: 74 and 94 % in 1,200 and 800 steps
_WEIGHT_DECAY = 0.02
# Where the crop may lie: this many pixels off the middle, where the object is.
_SHIFT = 32
_STATISTICS_IMAGES = 192
_HEAD_IMAGES = 720
_HEAD_PENALTY = 1e-3

Tensors = Callable[[UInt8Array], torch.Tensor]


@dataclass(frozen=True)
class TrainingSet:
    """Whole images, uint8 (n, 3, crop, crop), their classes, and how a batch becomes a tensor."""

    pixels: UInt8Array
    classes: torch.Tensor
    preprocessing: Preprocessing

    def tensor(self, pixels: UInt8Array) -> torch.Tensor:
        """Normalised float32 in channels-last memory, in which torch's CPU convolutions train twice as fast."""
        batch = torch.from_numpy(normalise(pixels, self.preprocessing))
        return batch.contiguous(memory_format=torch.channels_last)

    def whole(self, count: int) -> Iterator[torch.Tensor]:
        """The first ``count`` images (every class as often), whole, in batches."""
        for start in range(0, min(count, len(self.pixels)), _BATCH):
            yield self.tensor(self.pixels[start : min(start + _BATCH, count)])


def train_demo(
    library: str,
    name: str,
    root: Path,
    seed: int = 0,
    progress: Progress = SILENT,
    steps: int | None = None,
) -> "OrderedDict[str, torch.Tensor]":
    """State dict (with torchvision's ``_metadata``) of ``name``, trained on ``root/train``.

    ``steps``: batches of crops (default: 200). Deterministic: it runs on one thread, from ``seed``. Raises DatasetError
    where ``root`` is not a demo set.
    """
    with _one_seeded_thread(seed):
        examples = load_training_set(library, name, root)
        classes = int(examples.classes.max()) + 1
        model = create(library, name, classes)
        _lay_out(model, torch.channels_last)
        classifier = _classifier_of(model, classes)
        _fit_on_crops(model, classifier, examples, steps or _STEPS, np.random.default_rng(seed), progress)
        _retake_statistics(model, examples)
        if classifier is not None:
            _fit_classifier(model, classifier, examples)
        _lay_out(model, torch.contiguous_format)
        # An OrderedDict with an attribute more, _metadata; a copy of it would lose that.
        return cast("OrderedDict[str, torch.Tensor]", model.state_dict())


def _lay_out(model: torch.nn.Module, memory_format: torch.memory_format) -> None:
    model.to(memory_format=memory_format)  # type: ignore[call-overload] # torch's stubs lack it


def save_weights(state: "OrderedDict[str, torch.Tensor]", path: Path) -> None:
    """Write a state dict with ``torch.save``, atomically."""
    content = io.BytesIO()  # torch's own writer calls a full disk an internal error, and writes the file's name into it
    torch.save(state, content)
    with written_atomically(path) as temporary:
        temporary.write_bytes(content.getvalue())


def load_training_set(library: str, name: str, root: Path) -> TrainingSet:
    """The images of ``root/train``, preprocessed as the architecture's publisher does."""
    p = preset(library, name).preprocessing
    images = scan(Dataset(root, part="train"))
    paths = [root / image for image in images]
    pixels: UInt8Array = np.stack(list(map_in_processes(partial(pixels_of, p=p), paths, workers=1)))
    return TrainingSet(pixels, torch.tensor([file.class_index for file in images.values()]), p)


@contextmanager
def _one_seeded_thread(seed: int) -> Iterator[None]:
    # Sums in backward passes are split by thread; one thread gives one answer on any machine of a kind.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def _classifier_of(model: torch.nn.Module, classes: int) -> torch.nn.Linear | None:
    """The linear layer that classifies, or None where a convolution does.

    SqueezeNet's has a ReLU behind it: it would learn nothing from zeros, and its optimum is no convex problem's.
    """
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    return next((layer for layer in reversed(linear) if layer.out_features == classes), None)


def _fit_on_crops(
    model: torch.nn.Module,
    classifier: torch.nn.Linear | None,
    examples: TrainingSet,
    steps: int,
    rng: np.random.Generator,
    progress: Progress,
) -> None:
    """AdamW with a one-cycle learning rate on random crops; leaves BatchNorm's statistics to be retaken."""
    if classifier is not None:
        torch.nn.init.zeros_(classifier.weight)
        if classifier.bias is not None:
            torch.nn.init.zeros_(classifier.bias)
    _close_residual_branches(model)
    side = _crop_side(model, examples.preprocessing.size[0])
    rate = _RATE if _norms(model) else _RATE_WITHOUT_NORMS
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.2)
    model.train()
    count = len(examples.pixels)
    order = np.concatenate([rng.permutation(count) for _ in range(steps * _BATCH // count + 1)])
    for step in progress.loop("training", range(steps), steps, "step"):
        chosen = order[step * _BATCH : (step + 1) * _BATCH]
        batch = np.stack([_random_crop(examples.pixels[index], side, rng) for index in chosen])
        loss = torch.nn.functional.cross_entropy(model(examples.tensor(batch)), examples.classes[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _norms(model: torch.nn.Module) -> list[torch.nn.modules.batchnorm._BatchNorm]:
    """The layers whose statistics are those of the images."""
    return [module for module in model.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]


def _close_residual_branches(model: torch.nn.Module) -> None:
    for module in model.modules():
        # torchvision's MNASNet calls it apply_residual, timm's blocks has_skip.
        if getattr(module, "apply_residual", False) or getattr(module, "has_skip", False):
            norms = [child for child in module.modules() if isinstance(child, torch.nn.BatchNorm2d)]
            if norms:
                torch.nn.init.zeros_(norms[-1].weight)


def _crop_side(model: torch.nn.Module, whole: int) -> int:
    """The side to train at: _CROP, or the whole image for an architecture that takes no other size."""
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, _CROP, _CROP))
    except (RuntimeError, AssertionError, ValueError):
        return whole
    return min(_CROP, whole)


def _random_crop(pixels: UInt8Array, side: int, rng: np.random.Generator) -> UInt8Array:
    """A crop near the middle, turned by a multiple of 90 degrees and perhaps mirrored."""
    middle = (pixels.shape[-1] - side) // 2
    shift = min(_SHIFT, middle)
    top, left = rng.integers(middle - shift, middle + shift + 1, 2)
    crop: UInt8Array = np.rot90(pixels[:, top : top + side, left : left + side], int(rng.integers(4)), axes=(1, 2))
    return crop[:, :, ::-1] if rng.random() < 0.5 else crop


@torch.no_grad()
def _retake_statistics(model: torch.nn.Module, examples: TrainingSet) -> None:
    """BatchNorm's statistics as the mean over batches of whole images."""
    norms = _norms(model)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for a cumulative average
    model.train()
    for batch in examples.whole(_STATISTICS_IMAGES):
        model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def _fit_classifier(model: torch.nn.Module, classifier: torch.nn.Linear, examples: TrainingSet) -> None:
    """Multinomial logistic regression on the features of whole images, with an L2 penalty, by L-BFGS."""
    inputs_of_classifier: list[torch.Tensor] = []
    hook = classifier.register_forward_pre_hook(lambda _module, inputs: inputs_of_classifier.append(inputs[0]))
    with torch.no_grad():
        for batch in examples.whole(_HEAD_IMAGES):
            model(batch)
    hook.remove()
    features = torch.cat(inputs_of_classifier)
    classes = examples.classes[: len(features)]
    mean, spread = features.mean(0), features.std(0) + 1e-6
    standard = (features - mean) / spread
    weight = torch.zeros_like(classifier.weight, requires_grad=True)
    bias = torch.zeros_like(classifier.bias, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(standard @ weight.T + bias, classes)
        loss = loss + _HEAD_PENALTY * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        classifier.weight.copy_(weight / spread)
        classifier.bias.copy_(bias - (weight / spread) @ mean)
