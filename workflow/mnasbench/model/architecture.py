"""Architectures of torchvision and timm, filled with weights that provably belong to them."""

import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from mnasbench.errors import SettingsError, WeightsError, did_you_mean, one_line
from mnasbench.files import sha256_of_file
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


def _mismatch(expected: Mapping[str, torch.Tensor], actual: Mapping[str, torch.Tensor]) -> str:
    for key, value in expected.items():
        if key not in actual:
            return f"{one_line(key)} is missing"
        if actual[key].shape != value.shape:
            return f"{one_line(key)} has shape {tuple(actual[key].shape)}, expected {tuple(value.shape)}"
    extra = sorted(set(actual) - set(expected))
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


def require_digest(where: str, actual: str, expected: str | None) -> None:
    """WeightsError where weights have another SHA-256 than the one that was asked for (None: any will do)."""
    if expected is not None and actual != expected.lower():
        raise WeightsError(
            f"{one_line(where)}: its SHA-256 is {actual}, but {one_line(expected)} is wanted (--sha256, "
            "models.<variant>.sha256); these are other weights"
        )


def download(library: str, name: str, weights: str) -> tuple[torch.nn.Module, str]:
    """The architecture with published weights, fetched over https (or found in the library's cache), and their SHA-256.

    Before they are loaded their content is compared with the publisher's digest: torchvision's file names hold the
    first eight digits of it, and huggingface_hub, where timm's are, names its cached files by all of it, but compares
    sizes only. Which digest that is, the publisher says at that moment; see ``require_digest``. No code of a file is
    run. Raises WeightsError without a network.
    """
    if library == "torchvision":
        return _from_torchvision(name, weights)
    if library == "timm":
        return _from_timm(name, weights)
    raise SettingsError(f"model library '{library}' is not known{did_you_mean(library, LIBRARIES)}")


def _from_torchvision(name: str, weights: str) -> tuple[torch.nn.Module, str]:
    if weights not in published_weights("torchvision", name):
        hint = did_you_mean(weights, published_weights("torchvision", name))
        raise SettingsError(f"torchvision publishes no weights '{weights}' of {name}{hint}")
    url = torchvision.models.get_model_weights(name)[weights].url
    digits = re.search(r"-([0-9a-f]{8,64})\.", url)
    if not url.startswith("https://") or digits is None:
        raise WeightsError(
            f"{name} {weights}: its address is not https, or without a digest; download it by hand and give the file"
        )
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name
    try:
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file), digits[1])
    except (OSError, RuntimeError) as error:
        raise WeightsError(_no_download("torchvision", name, weights, error)) from error
    digest = sha256_of_file(file)
    if not digest.startswith(digits[1]):  # torch.hub compares what it downloads, not what it finds
        raise _damaged(file)
    model, _ = load("torchvision", name, file)
    return model, digest


def _from_timm(name: str, weights: str) -> tuple[torch.nn.Module, str]:
    timm = import_timm()
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    published = timm.models.get_pretrained_cfg(name)
    if published is None or not published.hf_hub_id or published.custom_load:
        raise WeightsError(f"timm {name}: has no weights that can be fetched and compared; download them by hand")
    repository, _, revision = published.hf_hub_id.partition("@")

    def fetched(file: str) -> Path:
        return Path(hf_hub_download(repository, file, revision=revision or None))

    try:
        try:
            file = fetched(published.hf_hub_filename or "model.safetensors")
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            file = fetched("pytorch_model.bin")
    except (OSError, RuntimeError, ValueError) as error:
        raise WeightsError(_no_download("timm", name, weights, error)) from error
    digest = sha256_of_file(file)
    # What is large is named by the SHA-256 of its content, in a folder of links to it.
    named = file.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", named) and named != digest:
        raise _damaged(file.resolve())
    try:
        model: torch.nn.Module = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(file)})
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{one_line(file)}: not weights of timm {name} ({_first_line(error)})") from error
    return model.eval(), digest


def _damaged(file: Path) -> WeightsError:
    return WeightsError(
        f"{one_line(file)}: its content is not that of the digest in its name; delete it, and the next run fetches it"
    )


def _first_line(error: Exception) -> str:
    return one_line((str(error).splitlines() or [type(error).__name__])[0])


def _no_download(library: str, name: str, weights: str, error: Exception) -> str:
    reason = one_line(getattr(error, "reason", None) or _first_line(error))
    return (
        f"{library} {name} {weights}: could not be downloaded ({reason}); on a machine without internet download "
        f"the file elsewhere and set models.<variant>.weights to its path"
    )
