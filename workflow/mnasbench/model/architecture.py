"""Architectures of torchvision and timm, filled with weights that provably belong to them."""

import importlib
import math
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from mnasbench.errors import SettingsError, WeightsError, did_you_mean, one_line
from mnasbench.files import sha256_of_file
from mnasbench.model.torchvision_import import import_timm, torchvision
from mnasbench.model.weights_choice import Choice, bare, choose
from mnasbench.model.weights_file import WeightsFile, read_weights
from mnasbench.preprocessing import Size, as_pair
from mnasbench.presets import IMAGENET_CLASSES, LIBRARIES, TIMM_PRETRAINED, preset, published_weights, split_tag

# torchvision's published weights of these were fitted to another normalisation, and its models change their input to
# that (`transform_input`) where they are made with published weights. A state dict does not tell.
TRANSFORMS_INPUT = frozenset({"googlenet", "inception_v3"})


def create(
    library: str,
    name: str,
    classes: int = IMAGENET_CLASSES,
    size: int | Size | None = None,
    transform_input: bool = True,
) -> torch.nn.Module:
    """The architecture ``name`` with ``classes`` outputs and untrained weights, in evaluation mode.

    ``size``: side of its images in pixels, for those that are built for one size (default: the published one).
    ``transform_input``: for GoogLeNet and Inception v3 of torchvision, as with its published weights. Heads that only
    training uses are left out. Raises SettingsError for an unknown library or name, and for a size that it cannot have.
    """
    preset(library, name)
    options: dict[str, Any] = {}
    if library == "torchvision":
        if name in TRANSFORMS_INPUT:
            # Their own initialization takes long and is announced as changing; torch's will do.
            options |= {"transform_input": transform_input, "aux_logits": False, "init_weights": False}
        if size is not None and name.startswith("vit_"):
            height, width = as_pair(size)
            if height != width:
                raise SettingsError(
                    f"torchvision {name} takes square images only, not {_by(size)}: set models.<variant>.size to a side"
                )
            options["image_size"] = height
        if size is not None and name.startswith("maxvit"):
            options["input_size"] = as_pair(size)
    elif size is not None and import_timm().get_pretrained_cfg(name).fixed_input_size:
        options["img_size"] = size
    try:
        if library == "torchvision":
            model: torch.nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes, **options)
        else:
            model = import_timm().create_model(name, pretrained=False, num_classes=classes, **options)
    except NotImplementedError:
        raise  # an operator that the device lacks says nothing about the size
    except (AssertionError, RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
        if not options.keys() & {"image_size", "input_size", "img_size"}:
            raise
        raise _other_size(library, name, size, error) from error
    return model.eval()


def _by(size: int | Size | None) -> str:
    height, width = (None, None) if size is None else as_pair(size)
    return f"{height} x {width}"


def _other_size(library: str, name: str, size: int | Size | None, error: Exception) -> SettingsError:
    published = preset(library, name).size
    return SettingsError(
        f"{library} {name} takes no images of {_by(size)} pixels ({_first_line(error)}); it is published for "
        f"{_by(published)}: set models.<variant>.size"
    )


def require_size(library: str, name: str, model: torch.nn.Module, size: int | Size) -> int:
    """Number of logits that ``model`` gives for an image of ``size``, a side in pixels or (height, width).

    Cheap for a model on the device ``meta``. Raises SettingsError where it takes no such images.
    """
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            logits = model(torch.zeros(1, 3, *as_pair(size), device=device))
    except NotImplementedError:
        raise  # an operator that the device lacks says nothing about the size
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise _other_size(library, name, size, error) from error
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        raise SettingsError(f"{library} {name} gives no logits [images, classes], so it is no classifier")
    return int(logits.shape[1])


@dataclass(frozen=True)
class Loaded:
    """A model with the weights of a file, its class count, and what is worth a line about where they came from."""

    model: torch.nn.Module
    classes: int
    notes: tuple[str, ...]


def load(library: str, name: str, path: Path) -> tuple[torch.nn.Module, int]:
    """The architecture with the weights of a file, and its class count; see ``load_file``."""
    loaded = load_file(library, name, path)
    return loaded.model, loaded.classes


def load_file(
    library: str,
    name: str,
    path: Path,
    size: int | Size | None = None,
    weights_key: str | None = None,
    transform_input: bool = True,
) -> Loaded:
    """The architecture with the weights of a file.

    The class count is that of the file; so is the size of an architecture that is built for one, unless ``size`` is
    given. Which tensors of the file are taken: see ``weights_choice``. Raises WeightsError where names or shapes are
    those of another architecture or size, naming the first that differs and, where one fits, which architecture of
    the same family they belong to.
    """
    return _fill(read_weights(path), library, name, size, weights_key, transform_input)


def check_file(
    library: str, name: str, path: Path, size: int | Size | None = None, weights_key: str | None = None
) -> tuple[int, tuple[str, ...]]:
    """Class count and notes of ``load_file``, without a model that holds values: within a second or two.

    Raises what ``load_file`` raises, and SettingsError where the architecture takes no images of ``size``.
    """
    file = read_weights(path, shapes_only=True)
    try:
        with torch.device("meta"):
            loaded = _fill(file, library, name, size, weights_key, True)
            if size is not None:
                require_size(library, name, loaded.model, size)
    except NotImplementedError:  # some architectures compute with values while they are made
        loaded = _fill(read_weights(path), library, name, size, weights_key, True)
        if size is not None:
            require_size(library, name, loaded.model, size)
    _require_finite(path, choose(read_weights(path), _shapes(library, name, IMAGENET_CLASSES), weights_key).state)
    return loaded.classes, loaded.notes


def _fill(
    file: WeightsFile, library: str, name: str, size: int | Size | None, weights_key: str | None, transform_input: bool
) -> Loaded:
    """The architecture with the weights of ``file``; on the device ``meta`` where the file's tensors are."""
    choice = choose(file, _shapes(library, name, IMAGENET_CLASSES), weights_key)
    if not choice.complete and library == "timm":
        filtered = _filtered_by_timm(file, name, size, weights_key)
        choice = filtered or choice
    _require_finite(file.path, choice.state)
    if library == "torchvision":
        _with_mnasnet_version(name, choice.state)
        built_for = _built_for(name, choice.state)
        if size is None:
            size = built_for
        elif built_for not in (None, size):
            raise WeightsError(
                f"{one_line(file.path)}: these weights are for images of {built_for} x {built_for} pixels, not "
                f"{_by(size)}; set models.<variant>.size: {built_for} (--size {built_for})"
            )
    classes = class_count(library, name, choice.state)
    model = create(library, name, classes, size, transform_input)
    _put(model, choice.state, file.path, library, name, classes)
    notes = choice.notes
    if library == "torchvision" and name in TRANSFORMS_INPUT:
        how = "as torchvision does with its published weights" if transform_input else "not transformed"
        notes += (f"the input is transformed inside the net, {how}" if transform_input else f"the input is {how}",)
    return Loaded(model.eval(), classes, notes)


def _put(
    model: torch.nn.Module, state: "OrderedDict[str, torch.Tensor]", path: Path, library: str, name: str, classes: int
) -> None:
    """Load ``state`` into ``model``; WeightsError where it is another architecture's."""
    expected = model.state_dict()
    for key, value in expected.items():
        # Weights that were saved before torch 0.4.1 have none, nor does an average of parameters.
        if key.endswith(".num_batches_tracked") and key not in state:
            state[key] = torch.zeros_like(value)
    problem = _mismatch(expected, state)
    try:
        # assign: tensors without values cannot be copied. MNASNet's version 1 stem is built while loading, so only
        # loading can tell.
        meta = any(value.is_meta for value in state.values())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MNASNet announces that it rebuilds its stem
            model.load_state_dict(state, assign=meta)
            model.float()
    except (RuntimeError, ValueError, KeyError, AttributeError) as error:
        family = _family_member(library, name, state, classes)
        advice = f"; these are weights of {family}" if family else ""
        problem = problem or _first_line(error)
        raise WeightsError(f"{one_line(path)}: not weights of {library} {name}: {problem}{advice}") from error


def _require_finite(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    for key, value in state.items():
        if value.is_floating_point() and not value.is_meta and not bool(torch.isfinite(value.float()).all()):
            raise WeightsError(
                f"{one_line(path)}: {one_line(key)} holds values that are not finite; train or copy it again"
            )


def _built_for(name: str, state: Mapping[str, torch.Tensor]) -> int | None:
    """The image size that torchvision's ViT weights are for: it is in the length of their position embedding."""
    embedding, patches = state.get("encoder.pos_embedding"), state.get("conv_proj.weight")
    if not name.startswith("vit_") or embedding is None or patches is None or embedding.ndim != 3 or patches.ndim != 4:
        return None
    return math.isqrt(embedding.shape[1] - 1) * int(patches.shape[-1])


def class_count(library: str, name: str, state: Mapping[str, torch.Tensor]) -> int:
    """Number of classes of a state dict: the rows of the first tensor whose shape depends on it in the architecture."""
    shapes = [_shapes(library, name, classes) for classes in (IMAGENET_CLASSES, IMAGENET_CLASSES + 1)]
    heads = [key for key, shape in shapes[0].items() if shape != shapes[1][key] and key in state]
    return int(state[heads[0]].shape[0]) if heads and state[heads[0]].ndim else IMAGENET_CLASSES


def _shapes(library: str, name: str, classes: int) -> dict[str, torch.Size]:
    try:
        with torch.device("meta"):
            model = create(library, name, classes)
    except (NotImplementedError, RuntimeError):  # some architectures compute with values while they are made
        model = create(library, name, classes)
    return {key: value.shape for key, value in model.state_dict().items()}


@contextmanager
def _filter_only() -> Iterator[list[Callable[..., Any]]]:
    """Have timm make a model as with published weights, and instead of loading them hand out its filter of names."""
    builder = importlib.import_module("timm.models._builder")
    filters: list[Callable[..., Any]] = []

    def load_pretrained(
        _model: torch.nn.Module, *_: Any, filter_fn: Callable[..., Any] | None = None, **__: Any
    ) -> None:
        filters.extend([filter_fn] if filter_fn else [])

    original = builder.load_pretrained
    builder.load_pretrained = load_pretrained  # type: ignore[attr-defined]
    try:
        yield filters
    finally:
        builder.load_pretrained = original  # type: ignore[attr-defined]


def _filtered_by_timm(file: WeightsFile, name: str, size: int | Size | None, weights_key: str | None) -> Choice | None:
    """The weights under timm's names, by the filter that timm reads original checkpoints with; None if that fails."""
    options = {"img_size": size} if size and import_timm().get_pretrained_cfg(name).fixed_input_size else {}
    with _filter_only() as filters:
        model = import_timm().create_model(name, pretrained=True, num_classes=IMAGENET_CLASSES, **options)
    expected = list(model.state_dict())
    for place, tensors in bare(file, weights_key) if filters else []:
        renamed = None
        # A filter reads what it expects; what another file makes it raise is its own.
        with suppress(Exception):
            renamed = filters[0](dict(tensors), model)
        if isinstance(renamed, Mapping) and all(isinstance(value, torch.Tensor) for value in renamed.values()):
            choice = choose(WeightsFile(file.path, dict(renamed), {}, file.stand_ins), expected)
            if choice.complete:
                where = f" of '{place}'" if place else ""
                note = f"names{where} are mapped by timm's filter for original checkpoints"
                return Choice(choice.state, place, True, (*choice.notes, note))
    return None


def _with_mnasnet_version(name: str, state: "OrderedDict[str, torch.Tensor]") -> None:
    """Put back the version that torchvision's MNASNet expects in ``_metadata`` and that a re-saved dict has lost.

    Version 1 had a stem of 32 channels whatever the width; version 2 scales it.
    """
    if not name.startswith("mnasnet") or "layers.0.weight" not in state:
        return
    metadata = getattr(state, "_metadata", None) or OrderedDict()
    if metadata.get("", {}).get("version") not in (1, 2):
        old_stem = state["layers.0.weight"].shape[0] == 32 and not name.endswith("1_0")
        metadata[""] = {**metadata.get("", {}), "version": 1 if old_stem else 2}
    state._metadata = metadata  # type: ignore[attr-defined]


def _mismatch(expected: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> str:
    for key, value in expected.items():
        if key not in state:
            return f"{one_line(key)} is missing"
        if state[key].shape != value.shape:
            return f"{one_line(key)} has shape {tuple(state[key].shape)}, expected {tuple(value.shape)}"
    extra = sorted(set(state) - set(expected))
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


def download(
    library: str, name: str, weights: str, size: int | Size | None = None, transform_input: bool = True
) -> tuple[torch.nn.Module, str]:
    """The architecture with published weights, fetched over https (or found in the library's cache), and their SHA-256.

    Before they are loaded their content is compared with the publisher's digest: torchvision's file names hold the
    first eight digits of it, and huggingface_hub, where timm's are, names its cached files by all of it, but compares
    sizes only. Which digest that is, the publisher says at that moment; see ``require_digest``. No code of a file is
    run. ``weights`` is torchvision's name of them; timm's tag, or ``pretrained`` for the one in ``name`` or timm's
    default. Raises WeightsError without a network.
    """
    if library == "torchvision":
        return _from_torchvision(name, weights, size, transform_input)
    if library == "timm":
        return _from_timm(name, weights, size)
    raise SettingsError(f"model library '{library}' is not known{did_you_mean(library, LIBRARIES)}")


def require_published(library: str, name: str, weights: str) -> None:
    """Raise what ``download`` raises without asking the network: weights that cannot be fetched and compared."""
    if library == "torchvision":
        _torchvision_address(name, weights)
    else:
        _timm_entry(name, weights)


def _torchvision_address(name: str, weights: str) -> tuple[str, str]:
    """Where published weights are, and the first digits of their SHA-256."""
    if weights not in published_weights("torchvision", name):
        hint = did_you_mean(weights, published_weights("torchvision", name))
        raise SettingsError(f"torchvision publishes no weights '{weights}' of {name}{hint}")
    url = torchvision.models.get_model_weights(name)[weights].url
    digits = re.search(r"-([0-9a-f]{8,64})\.", url)
    if not url.startswith("https://") or digits is None:
        raise WeightsError(
            f"{name} {weights}: its address is not https, or without a digest; download it by hand and give the file"
        )
    return url, digits[1]


def _from_torchvision(
    name: str, weights: str, size: int | Size | None, transform_input: bool
) -> tuple[torch.nn.Module, str]:
    url, digits = _torchvision_address(name, weights)
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name
    try:
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file), digits)
    except (OSError, RuntimeError) as error:
        raise WeightsError(_no_download("torchvision", name, weights, error)) from error
    digest = sha256_of_file(file)
    if not digest.startswith(digits):  # torch.hub compares what it downloads, not what it finds
        raise _damaged(file)
    return load_file("torchvision", name, file, size, transform_input=transform_input).model, digest


def _timm_entry(name: str, weights: str) -> tuple[str, Any]:
    """timm's name with its tag, and what timm says of these published weights."""
    tag = preset("timm", name, None if weights == TIMM_PRETRAINED else weights).entry
    name = f"{split_tag('timm', name)[0]}.{tag}" if tag else name
    published = import_timm().models.get_pretrained_cfg(name)
    if published is None or not published.hf_hub_id or published.custom_load:
        raise WeightsError(f"timm {name}: has no weights that can be fetched and compared; download them by hand")
    if not published.num_classes:
        raise WeightsError(f"timm {name}: its published weights give features and no classes; take another tag")
    return name, published


def _from_timm(name: str, weights: str, size: int | Size | None) -> tuple[torch.nn.Module, str]:
    timm = import_timm()
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    name, published = _timm_entry(name, weights)
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
        overlay = {"file": str(file)}
        options = {"img_size": size} if size and published.fixed_input_size else {}
        model: torch.nn.Module = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)
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
