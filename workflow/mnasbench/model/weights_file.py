"""The tensors of a weights file, whatever a training script saved around them; no code of the file is run.

torch reads a file with ``weights_only=True``, which refuses every class that it does not know. Classes that hold
training arguments or whole modules are met by handing torch a stand-in of ours for their name
(``torch.serialization.safe_globals``): it keeps what the file says of the object, and does nothing.
"""

import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mnasbench.errors import WeightsError, one_line
from mnasbench.weight_shards import files_of_weights

_SAVE_AGAIN = "save it again with torch.save(model.state_dict(), path)"
# Nothing that belongs to weights comes from these modules, and a stand-in for what does is not worth the trust.
_RUNS_CODE = re.compile(
    r"(code|codeop|commands|ctypes|importlib|marshal|nt|os|pickle|pip|posix|pty|runpy|shutil|socket|subprocess|sys)\."
    r"|builtins\.(?!(bool|bytearray|bytes|complex|dict|float|frozenset|getattr|int|list|object|range|set|slice|str|tuple)$)"
)
_REFUSED_NAME = re.compile(r"Unsupported global: GLOBAL (\S+) was not an allowed global")
_REFUSED_MAPPING = re.compile(r"Can only SETITEMS? for dict.* but got <class 'stand_in\.([^']+)'>")
# More classes than any checkpoint names; each costs another reading of the file's head.
_MOST_CLASSES = 500


@dataclass(frozen=True)
class WeightsFile:
    """All tensors of a file.

    ``tensors``: by where they stand, as ``state_dict.module.conv.weight``. ``versions``: torch's ``_metadata`` of the
    state dicts, by the same places. ``stand_ins``: the classes, as ``argparse.Namespace``, whose objects were not made.
    """

    path: Path
    tensors: dict[str, torch.Tensor]
    versions: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    stand_ins: tuple[str, ...] = ()


class _StandIn:
    """An object of a class that is not imported: keeps the file's words about it."""

    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: Any, **_: Any) -> Any:
        made = object.__new__(cls)
        made.arguments, made.state = arguments, None
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _MappingStandIn(_StandIn):
    """The same for a class that is a dict: torch's reader fills a true OrderedDict only."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()


def read_weights(path: Path, shapes_only: bool = False) -> WeightsFile:
    """All tensors of a file: torch's (``.pth``, of any age), safetensors, or an index of shards of either.

    ``shapes_only`` reads the file's head and gives tensors without values, on the device ``meta``. Raises WeightsError
    for a missing, damaged or foreign file, naming the classes where code would have to run.
    """
    if not path.is_file():
        raise WeightsError(f"{one_line(path)}: no such weights file; check models.<variant>.weights")
    content: Any = {}
    stand_ins: tuple[str, ...] = ()
    files = files_of_weights(path)
    for file in files[1:] or files:
        part, names = _read_one(file, shapes_only)
        stand_ins += names
        content = part if len(files) == 1 else {**content, **part}
    tensors: dict[str, torch.Tensor] = {}
    versions: dict[str, Mapping[str, Any]] = {}
    _collect(content, (), tensors, versions, set())
    if not tensors:
        besides = f" (but {', '.join(stand_ins[:3])})" if stand_ins else ""
        raise WeightsError(
            f"{one_line(path)}: does not hold a state dict: it holds no tensors{one_line(besides)}; {_SAVE_AGAIN}"
        )
    return WeightsFile(path, tensors, versions, stand_ins)


def _read_one(path: Path, shapes_only: bool) -> tuple[Any, tuple[str, ...]]:
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path, shapes_only), ()
        return _read_torch(path, shapes_only)
    except (WeightsError, MemoryError):
        raise
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{one_line(path)}: is not a plain state dict, or holds objects that would run code when loaded "
            f"({_reason(error)}); {_SAVE_AGAIN}"
        ) from error
    except Exception as error:  # a damaged file makes torch's and safetensors' readers raise whatever they meet
        raise WeightsError(f"{one_line(path)}: is damaged or no weights file; copy or download it again") from error


def _reason(error: Exception) -> str:
    text = str(error)
    blocked = re.search(r"GLOBAL (\S+) whose module", text)
    return one_line(blocked[1] if blocked else text.splitlines()[-1][:100] if text else "a pickle")


def _read_safetensors(path: Path, shapes_only: bool) -> dict[str, torch.Tensor]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        if not shapes_only:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        shapes = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: torch.empty(part.get_shape(), device="meta") for name, part in shapes.items()}


def _read_torch(path: Path, shapes_only: bool) -> tuple[Any, tuple[str, ...]]:
    zipped = zipfile.is_zipfile(path)
    if zipped and any(name.endswith("/constants.pkl") for name in zipfile.ZipFile(path).namelist()):
        raise WeightsError(f"{one_line(path)}: is a TorchScript module, not weights; {_SAVE_AGAIN}")
    # The older format has no head: its tensors stand in one stream with the rest.
    device = "meta" if shapes_only and zipped else "cpu"
    stand_ins: dict[str, type] = {}
    while True:
        try:
            with warnings.catch_warnings(), torch.serialization.safe_globals([(c, n) for n, c in stand_ins.items()]):
                warnings.simplefilter("ignore")  # of pickle protocols and storages; what matters is raised
                return torch.load(path, map_location=device, weights_only=True), tuple(stand_ins)
        except pickle.UnpicklingError as error:
            mapping = _REFUSED_MAPPING.search(str(error))
            refused = _REFUSED_NAME.search(str(error))
            if mapping and not issubclass(stand_ins[mapping[1]], _MappingStandIn):
                stand_ins[mapping[1]] = _stand_in(mapping[1], _MappingStandIn)
            elif refused and len(stand_ins) < _MOST_CLASSES:
                name = refused[1] if "." in refused[1] else f"builtins.{refused[1]}"
                _refuse_what_runs(path, name)
                stand_ins[name] = _stand_in(name, _StandIn)
            elif stand_ins and refused is None:
                classes = ", ".join(list(stand_ins)[:5])
                raise WeightsError(
                    f"{one_line(path)}: is not a plain state dict: it holds {one_line(classes)}, which cannot be read "
                    f"without running code; {_SAVE_AGAIN}"
                ) from error
            else:
                raise


def _stand_in(name: str, kind: type) -> type:
    return type(name, (kind,), {"__module__": "stand_in"})


def _refuse_what_runs(path: Path, name: str) -> None:
    if _RUNS_CODE.match(name):
        raise WeightsError(
            f"{one_line(path)}: is not a plain state dict: {one_line(name)} in it would run code when loaded; "
            + _SAVE_AGAIN
        )


def _collect(
    value: Any,
    place: tuple[str, ...],
    tensors: dict[str, torch.Tensor],
    versions: dict[str, Mapping[str, Any]],
    above: set[int],
) -> None:
    """Put all tensors below ``value`` into ``tensors``; ``above`` are the objects that it is part of."""
    if isinstance(value, torch.Tensor):
        tensors[".".join(place)] = value.detach()
        return
    if id(value) in above:
        return
    metadata = getattr(value, "_metadata", None)
    if isinstance(metadata, Mapping):
        for name, entry in metadata.items():
            if isinstance(entry, Mapping):
                versions[".".join((*place, name) if name else place)] = entry
    for name, part in _parts(value):
        _collect(part, (*place, name), tensors, versions, above | {id(value)})


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, _StandIn):
        state = value.state[0] if isinstance(value.state, tuple) and value.state else value.state
        if not isinstance(state, Mapping):
            return
        if isinstance(state.get("_parameters"), Mapping):  # a module that was saved whole
            passing = state.get("_non_persistent_buffers_set") or ()
            for group in ("_parameters", "_buffers", "_modules"):
                for name, part in (state.get(group) or {}).items():
                    if group != "_buffers" or name not in passing:
                        yield str(name), part
            return
        value = state
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield str(name), part
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield str(number), part
