"""Architectures of torchvision and timm, filled with weights that provably belong to them."""

import pickle
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mnasbench.errors import SettingsError, WeightsError, did_you_mean, one_line
from mnasbench.model.torchvision_import import import_timm, torchvision
from mnasbench.presets import LIBRARIES, preset, published_weights

IMAGENET_CLASSES = 1000


def create(library: str, name: str, classes: int = IMAGENET_CLASSES) -> torch.nn.Module:
    """The architecture ``name`` with ``classes`` outputs and untrained weights, in evaluation mode.

    Raises SettingsError for an unknown library or name.
    """
    preset(library, name)
    with warnings.catch_warnings():
        # GoogLeNet and Inception announce a change of their own initialization, which weights replace anyway.
        warnings.simplefilter("ignore", FutureWarning)
        if library == "torchvision":
            model: torch.nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes)
        else:
            model = import_timm().create_model(name, pretrained=False, num_classes=classes)
    return model.eval()


def read_state_dict(path: Path) -> "OrderedDict[str, torch.Tensor]":
    """The state dict in a file, without running any code that the file may carry.

    A dict that wraps it under ``state_dict``, ``model`` or ``model_state_dict`` (training scripts do) is unwrapped,
    and ``module.`` before each name (DataParallel does) is dropped. Safetensors files are read as such.
    Raises WeightsError for a missing, damaged or foreign file and for values that are not finite.
    """
    if not path.is_file():
        raise WeightsError(f"{one_line(path)}: no such weights file; check models.<variant>.weights")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{one_line(path)}: is not a plain state dict, or holds objects that would run code when loaded; "
            "save it again with torch.save(model.state_dict(), path)"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes torch's and safetensors' readers raise whatever they meet
        raise WeightsError(f"{one_line(path)}: is damaged or no weights file; copy or download it again") from error
    for wrapper in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise WeightsError(
            f"{one_line(path)}: does not hold a state dict (names and tensors); "
            "save it again with torch.save(model.state_dict(), path)"
        )
    if not content:
        raise WeightsError(
            f"{one_line(path)}: holds no tensors; save it again with torch.save(model.state_dict(), path)"
        )
    state = OrderedDict((str(key).removeprefix("module."), value) for key, value in content.items())
    metadata = getattr(content, "_metadata", None)
    if metadata is not None:
        state._metadata = metadata  # type: ignore[attr-defined]
    for key, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise WeightsError(
                f"{one_line(path)}: {one_line(key)} holds values that are not finite; train or copy it again"
            )
    return state


def class_count(library: str, name: str, state: Mapping[str, torch.Tensor]) -> int:
    """Number of classes of a state dict: the rows of the first tensor whose shape depends on it in the architecture."""
    with torch.device("meta"):
        shapes = [
            {key: value.shape for key, value in create(library, name, classes).state_dict().items()}
            for classes in (IMAGENET_CLASSES, IMAGENET_CLASSES + 1)
        ]
    heads = [key for key, shape in shapes[0].items() if shape != shapes[1][key] and key in state]
    return int(state[heads[0]].shape[0]) if heads and state[heads[0]].ndim else IMAGENET_CLASSES


def _with_mnasnet_version(name: str, state: "OrderedDict[str, torch.Tensor]") -> None:
    """Put back the version that torchvision's MNASNet wants in ``_metadata`` and that a re-saved dict has lost.

    Version 1 had a stem of 32 channels whatever the width; version 2 scales it.
    """
    if not name.startswith("mnasnet") or "layers.0.weight" not in state:
        return
    metadata = getattr(state, "_metadata", None) or OrderedDict()
    if metadata.get("", {}).get("version") not in (1, 2):
        old_stem = state["layers.0.weight"].shape[0] == 32 and not name.endswith("1_0")
        metadata[""] = {**metadata.get("", {}), "version": 1 if old_stem else 2}
    state._metadata = metadata  # type: ignore[attr-defined]


def load(library: str, name: str, path: Path) -> tuple[torch.nn.Module, int]:
    """The architecture with the weights of a file, and its class count (taken from the file).

    Raises WeightsError where names or shapes are those of another architecture, naming the first that differs
    and, where one fits, which architecture of the same family they belong to.
    """
    state = read_state_dict(path)
    classes = class_count(library, name, state)
    model = create(library, name, classes)
    if library == "torchvision":
        _with_mnasnet_version(name, state)
    problem = _mismatch(model.state_dict(), state)
    if problem:
        # MNASNet's version 1 stem is built while loading, so only loading can tell.
        try:
            model.load_state_dict(state)
        except (RuntimeError, ValueError, KeyError) as error:
            family = _family_member(library, name, state, classes)
            advice = f"; these are weights of {family}" if family else ""
            raise WeightsError(f"{one_line(path)}: not weights of {library} {name}: {problem}{advice}") from error
    else:
        model.load_state_dict(state)
    return model.eval(), classes


def _mismatch(wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> str:
    for key, value in wanted.items():
        if key not in found:
            return f"{one_line(key)} is missing"
        if found[key].shape != value.shape:
            return f"{one_line(key)} has shape {tuple(found[key].shape)}, expected {tuple(value.shape)}"
    extra = sorted(set(found) - set(wanted))
    return f"{one_line(extra[0])} is not part of it" if extra else ""


def _family_member(library: str, name: str, state: Mapping[str, torch.Tensor], classes: int) -> str | None:
    """The sibling of ``name`` (same letters before the first digit) that ``state`` fits, if one does."""
    stem = name.rstrip("0123456789_")
    siblings = torchvision.models.list_models(module=torchvision.models) if library == "torchvision" else []
    for sibling in siblings:
        if sibling.startswith(stem) and sibling != name:
            with torch.device("meta"):
                candidate = torchvision.models.get_model(sibling, weights=None, num_classes=classes)
            if not _mismatch(candidate.state_dict(), state):
                return str(sibling)
    return None


def download(library: str, name: str, weights: str) -> torch.nn.Module:
    """The architecture with published weights, fetched over https and checked against the publisher's digest.

    torchvision's files carry the first digits of their SHA-256 in their names, and ``check_hash`` compares them;
    timm fetches through huggingface_hub, which compares the whole SHA-256. Raises WeightsError without a network.
    """
    if library == "torchvision":
        if weights not in published_weights(library, name):
            known = did_you_mean(weights, published_weights(library, name))
            raise SettingsError(f"torchvision publishes no weights '{weights}' of {name}{known}")
        entry = torchvision.models.get_model_weights(name)[weights]
        if not entry.url.startswith("https://"):
            raise WeightsError(f"{name} {weights}: its address is not https; download it by hand and give the file")
        try:
            state = entry.get_state_dict(progress=True, check_hash=True)
        except (OSError, RuntimeError) as error:
            raise WeightsError(_no_download(library, name, weights, error)) from error
        model = create(library, name)
        model.load_state_dict(state)
        return model.eval()
    if library == "timm":
        try:
            downloaded: torch.nn.Module = import_timm().create_model(name, pretrained=True)
        except (OSError, RuntimeError) as error:
            raise WeightsError(_no_download(library, name, weights, error)) from error
        return downloaded.eval()
    raise SettingsError(f"model library '{library}' is not known{did_you_mean(library, LIBRARIES)}")


def _no_download(library: str, name: str, weights: str, error: Exception) -> str:
    reason = one_line(
        getattr(error, "reason", None) or str(error).splitlines()[0] if str(error) else type(error).__name__
    )
    return (
        f"{library} {name} {weights}: could not be downloaded ({reason}); on a machine without internet download "
        f"the file elsewhere and set models.<variant>.weights to its path"
    )
