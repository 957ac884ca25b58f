"""Which tensors of a weights file are the weights of an architecture, under the names that it has for them.

A training script wraps them (``state_dict``, ``model``), keeps an averaged copy beside them (EMA), and DataParallel,
torch.compile and Lightning put words before each name. All of these are places before the architecture's own names,
so one search finds them: the places below which every name of the architecture stands.
"""

import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from mnasbench.errors import WeightsError, did_you_mean, one_line
from mnasbench.model.weights_file import WeightsFile

# Words that torch.compile, FSDP and activation checkpointing put anywhere into a name.
_WORDS_WITHIN = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# Where people save weights, the commonest first: of two plain copies the first of these is taken.
_WRAPPERS = (
    "",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "params",
    "module",
    "weights",
)
_AVERAGED = frozenset({"ema", "swa", "average", "averaged", "avg", "teacher", "shadow", "polyak", "momentum"})
# thop leaves total_ops and total_params in every module, AveragedModel n_averaged.
_COUNTERS = frozenset({"total_ops", "total_params", "n_averaged", "num_batches_tracked"})
# Heads that only training uses; the architecture is made without them.
_TRAINING_HEADS = ("aux", "aux1", "aux2", "AuxLogits", "aux_classifier")
_NOT_OF_THE_NET = re.compile(
    r"(optim|sched|scaler|criterion|loss|metric|train_|val_|test_|hparams|hyper_parameters|args)"
)
# torchvision's names of long ago: densenet's before 0.3, and the ViT's MLP of its first release.
_OLD_NAMES = (
    (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"\.mlp\.linear_1\."), ".mlp.0."),
    (re.compile(r"\.mlp\.linear_2\."), ".mlp.3."),
)


@dataclass(frozen=True)
class Choice:
    """A state dict under the architecture's names, where in the file it stands, and what is worth a line."""

    state: "OrderedDict[str, torch.Tensor]"
    place: str
    complete: bool
    notes: tuple[str, ...]


def choose(file: WeightsFile, expected: Iterable[str], weights_key: str | None = None) -> Choice:
    """The tensors of ``file`` that have the names ``expected``; as many of them as one place has.

    Of several places with all names, one without a word for averaging (EMA) is taken, and a note names the others;
    ``weights_key`` says otherwise. Raises WeightsError where the file has nothing under ``weights_key``.
    """
    file, expected = _without_words_within(file), list(expected)
    required = {name for name in expected if name.rpartition(".")[2] not in _COUNTERS}
    groups = _groups(file.tensors, frozenset(expected))
    order = {place: number for number, place in enumerate(groups)}
    whole = [place for place, names in groups.items() if required <= names.keys()]
    allowed = [place for place in groups if _is_below(place, weights_key)]
    if weights_key is not None and not allowed:
        places = whole or [p for p, _ in Counter(_top(name) for name in file.tensors).most_common(5)]
        raise WeightsError(
            f"{one_line(file.path)}: holds no weights under weights_key '{one_line(weights_key)}'"
            f"{did_you_mean(weights_key, filter(None, places))}"
        )

    def rank(place: str) -> tuple[Any, ...]:
        plain = place in _WRAPPERS
        return (
            place not in whole,
            -len(required & groups[place].keys()) if place not in whole else 0,
            _is_averaged(place),
            _WRAPPERS.index(place) if plain else len(_WRAPPERS),
            order[place],
        )

    place = min(allowed, key=rank, default="")
    names = groups.get(place, {})
    state = OrderedDict((name, file.tensors[names[name]]) for name in expected if name in names)
    notes = [] if place not in whole else _notes(file, place, set(names.values()), whole)
    extra = _extra(file, place, set(names.values()), whole, expected)
    for name in extra:
        state[name] = file.tensors[f"{place}.{name}" if place else name]
    versions = _versions(file, place)
    if versions:
        state._metadata = versions  # type: ignore[attr-defined] # torch's state dicts carry it so
    return Choice(state, place, place in whole and not extra, tuple(notes))


def bare(file: WeightsFile, weights_key: str | None = None) -> list[tuple[str, dict[str, torch.Tensor]]]:
    """(place, tensors) under each place that is made of wrappers' words only: what another library's filter reads."""
    file = _without_words_within(file)
    places: dict[str, int] = {}
    for name in file.tensors:
        words = name.split(".")
        for count in range(len(words)):
            if count and words[count - 1] not in _WRAPPERS and not _is_averaged(words[count - 1]):
                break
            place = ".".join(words[:count])
            places[place] = places.get(place, 0) + 1
    ranked = sorted(
        (place for place in places if _is_below(place, weights_key)),
        key=lambda place: (_is_averaged(place), -places[place], -len(place)),
    )
    return [
        (
            place,
            {name[len(place) + bool(place) :]: t for name, t in file.tensors.items() if _is_below(name, place or None)},
        )
        for place in ranked
    ]


def _without_words_within(file: WeightsFile) -> WeightsFile:
    def cleaned(name: str) -> str:
        return ".".join(word for word in name.split(".") if word not in _WORDS_WITHIN)

    tensors = {cleaned(name): tensor for name, tensor in file.tensors.items()}
    return replace(file, tensors=tensors, versions={cleaned(name): entry for name, entry in file.versions.items()})


def _groups(tensors: Iterable[str], expected: frozenset[str]) -> dict[str, dict[str, str]]:
    """By place: the architecture's names found there, and the file's name of each."""
    groups: dict[str, dict[str, str]] = {}
    for full in tensors:
        words = full.split(".")
        for count in range(len(words)):
            name = _expected_name(words[count:], expected)
            if name is not None:
                groups.setdefault(".".join(words[:count]), {}).setdefault(name, full)
    return groups


def _expected_name(words: list[str], expected: frozenset[str]) -> str | None:
    name = ".".join(words)
    if name in expected:
        return name
    for pattern, replacement in _OLD_NAMES:
        renamed = pattern.sub(replacement, name)
        if renamed in expected:
            return renamed
    # DataParallel around a part of the net only, as PyTorch's own example does with VGG's features.
    if "module" in words[1:]:
        without = ".".join([words[0], *(word for word in words[1:] if word != "module")])
        return without if without in expected else None
    return None


def _is_below(place: str, key: str | None) -> bool:
    return key is None or place == key or place.startswith(f"{key}.")


def _is_averaged(place: str) -> bool:
    return bool(_AVERAGED & set(re.split(r"[._]", place.lower())))


def _top(name: str) -> str:
    return name.partition(".")[0]


def _notes(file: WeightsFile, place: str, used: set[str], whole: list[str]) -> list[str]:
    notes = []
    taken = f"the weights under '{place}'" if place else "the weights at its top"
    others = [other for other in whole if other != place]
    # An averaged copy that keeps parameters only, or a list of them, has no names to be found by.
    left = [name for name in file.tensors if name not in used and not any(_is_below(name, other) for other in others)]
    counters = [name for name in left if name.rpartition(".")[2] in _COUNTERS]
    unnamed = {_top(name) for name in left if name not in counters and _is_averaged(_top(name))}
    others += sorted(top for top in unnamed if not any(_is_below(other, top) for other in (*others, place)))
    if others:
        listed = ", ".join(f"'{one_line(other)}'" for other in others)
        notes.append(f"{taken} are used; it also holds {listed} (weights_key chooses)")
    elif place:
        notes.append(f"{taken} are used")
    if counters:
        kinds = ", ".join(sorted({name.rpartition(".")[2] for name in counters}))
        notes.append(f"{len(counters)} counters are ignored ({kinds})")
    heads = sorted({word for name in left for word in name.split(".") if word in _TRAINING_HEADS})
    if heads:
        notes.append(f"heads for training are left out ({', '.join(heads)})")
    if file.stand_ins:
        listed = ", ".join(file.stand_ins[:5]) + (", ..." if len(file.stand_ins) > 5 else "")
        notes.append(f"what is not a tensor is not read ({one_line(listed)})")
    types = sorted({str(file.tensors[name].dtype).removeprefix("torch.") for name in used})
    narrow = [kind for kind in types if kind in {"float16", "bfloat16"} or kind.startswith("float8")]
    if narrow:
        notes.append(f"its values are {', '.join(narrow)} and are computed with as float32")
    ignored = [name for name in file.tensors if _is_ignored(name, place, used, others, counters)]
    if ignored:
        notes.append(f"{len(ignored)} other tensors are not used ({one_line(ignored[0])}, ...)")
    return notes


def _is_ignored(name: str, place: str, used: set[str], others: list[str], counters: list[str]) -> bool:
    """Whether a tensor is worth a word: neither used nor of another kind that has its own note."""
    if name in used or name in counters or any(other and _is_below(name, other) for other in others):
        return False
    if any(word in _TRAINING_HEADS for word in name.split(".")) or _NOT_OF_THE_NET.match(_top(name)):
        return False
    return not _is_below(name, place or None)


def _extra(file: WeightsFile, place: str, used: set[str], whole: list[str], expected: list[str]) -> list[str]:
    """Names below ``place`` that the architecture does not have and that nothing else explains."""
    others = [other for other in whole if other != place and _is_below(other, place or None)]
    own = {_top(name) for name in expected}
    extra = []
    for full in file.tensors:
        if full in used or not _is_below(full, place or None) or any(_is_below(full, other) for other in others):
            continue
        name = full[len(place) + 1 :] if place else full
        words = name.split(".")
        if words[-1] in _COUNTERS or any(word in _TRAINING_HEADS for word in words):
            continue
        if words[0] not in own and (_NOT_OF_THE_NET.match(words[0]) or _is_averaged(words[0])):
            continue
        extra.append(name)
    return extra


def _versions(file: WeightsFile, place: str) -> "OrderedDict[str, Mapping[str, Any]]":
    """torch's ``_metadata`` under the architecture's names."""
    versions: OrderedDict[str, Mapping[str, Any]] = OrderedDict()
    for name, entry in file.versions.items():
        if _is_below(name, place or None):
            versions[name[len(place) + 1 :] if place else name] = entry
    return versions
