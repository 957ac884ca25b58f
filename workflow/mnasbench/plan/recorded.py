"""Whether a finished job's result still is what the job would make now."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnasbench.errors import InputError, MnasbenchError, one_line
from mnasbench.files import canonical_json, read_json, sha256_of_file
from mnasbench.provenance import changed_since, damaged_outputs


def why_stale(
    receipt: Path, settings: Mapping[str, Any], code: str, memory: Path | None = None, by_contents: bool = False
) -> str | None:
    """In one line why the job of ``receipt`` must run again; None where nothing that it depends on changed.

    ``settings``: the part of the configuration that its result depends on. ``code``: the digest of the code that it
    runs. ``by_contents``: everything is read and compared by its digest, not by size.
    """
    try:
        content = read_json(receipt)
        if canonical_json(content["settings"]) != canonical_json(settings):
            return _changed_setting(content["settings"], settings)
        if content["code_sha256"] != code:
            return "the code changed"
        for name, entry in content["inputs"].items():
            if _input_digest(name) != entry["sha256"]:
                return f"{one_line(name)} changed"
        damaged = damaged_outputs(receipt)
        changed = changed_since(receipt) if by_contents and not damaged else None
    except (InputError, KeyError, TypeError, AttributeError):
        return f"{one_line(receipt)} is no receipt"
    if damaged:
        return f"{one_line(damaged[0])} is missing or was changed"
    return f"{one_line(changed)} was changed" if changed else None


@functools.cache
def _input_digest(name: str) -> str:
    try:
        return sha256_of_file(Path(name))
    except MnasbenchError:
        return ""


def _changed_setting(recorded: Any, current: Any, place: str = "") -> str:
    """Names the first setting that differs."""
    if isinstance(recorded, Mapping) and isinstance(current, Mapping):
        for key in dict.fromkeys([*recorded, *current]):
            if recorded.get(key) != current.get(key):
                return _changed_setting(recorded.get(key), current.get(key), f"{place}.{key}" if place else str(key))
    return (
        f"{place or 'the settings'} changed"
        if len(canonical_json([recorded, current])) > 100
        else (f"{place}: {canonical_json(recorded)} became {canonical_json(current)}")
    )
