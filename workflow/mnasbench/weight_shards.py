"""The files that a path of weights stands for: itself, or the shards that an index names."""

import json
from collections.abc import Sequence
from pathlib import Path

from mnasbench.errors import WeightsError, one_line
from mnasbench.files import sha256_of_bytes, sha256_of_file


def digest_of_weights(path: Path) -> str:
    """SHA-256 of a weights file; of an index of shards, that of what ``sha256sum`` prints of it and its shards."""
    return digest_of_files(files_of_weights(path))


def digest_of_files(files: Sequence[Path]) -> str:
    """SHA-256 of the one file that there is; of several, that of what ``sha256sum`` prints of them in their folder."""
    if len(files) == 1:
        return sha256_of_file(files[0])
    return sha256_of_bytes("".join(f"{sha256_of_file(file)}  {file.name}\n" for file in files).encode())


def files_of_weights(path: Path) -> list[Path]:
    """The file itself; after an index of shards (``model.safetensors.index.json``), its shards."""
    if path.suffix != ".json":
        return [path]
    try:
        names = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{one_line(path)}: is no index of shards (a weight_map of names and files)") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise WeightsError(f"{one_line(path)}: names the shard {one_line(repr(name))}; expected files beside it")
        if not (path.parent / name).is_file():
            raise WeightsError(f"{one_line(path)}: its shard {one_line(name)} is missing; copy all shards beside it")
    return [path, *(path.parent / name for name in names)]


def require_digest(where: str, actual: str, expected: str | None) -> None:
    """WeightsError where weights have another SHA-256 than the one that was asked for (None: any will do)."""
    if expected is not None and actual != expected.lower():
        raise WeightsError(
            f"{one_line(where)}: its SHA-256 is {actual}, but {one_line(expected)} is wanted (--sha256, "
            "models.<variant>.sha256); these are other weights"
        )
