"""Why a job must run again: its receipt against the settings, code and files of now.

Receipts decide alone: neither the times of files nor Snakemake's own records are asked.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mnasbench.code_digest import Code
from mnasbench.errors import InputError, one_line
from mnasbench.file_memory import FileMemory
from mnasbench.files import canonical_json
from mnasbench.plan.kept_code import KeptCode
from mnasbench.receipts import Receipt, Records, changed_since, damage, is_receipt

# So many letters of a value are said.
_MOST_LETTERS = 60


def why_stale(
    receipt: Path,
    settings: str,
    code: Code,
    *,
    records: Records,
    memory: FileMemory,
    kept_code: KeptCode,
    inputs: Sequence[str] | None = None,
    by_contents: bool = False,
) -> str | None:
    """Why a job must run again, in one line; None where all is as its receipt says.

    ``settings``: canonical JSON. ``records``: the receipts of all jobs, by which an input is judged that one of them
    made; ``memory``: of the user's own files; ``kept_code`` names what was edited. ``inputs``: what the job would
    read now, where that is known.
    ``by_contents``: read all that was made, and compare digests.
    """
    if not receipt.is_file():
        return "no receipt"
    try:
        recorded = records.receipt(receipt)
    except InputError:
        return "its receipt is damaged"
    return (
        damage(recorded)
        or (_changed_content(recorded) if by_contents else None)
        or changed_setting(recorded.settings, settings)
        or changed_input(recorded, records, memory, inputs)
        or changed_code(recorded.code_sha256, code, kept_code)
    )


def _changed_content(recorded: Receipt) -> str | None:
    try:
        changed = changed_since(recorded, FileMemory(None))
    except InputError as error:
        return str(error)
    return None if changed is None else f"{one_line(changed)} was changed after it was made"


# ------------------------------------------------------------------------------------------------------------ settings
def changed_setting(recorded: Any, settings: str) -> str | None:
    """The first setting whose value is another, with both values; None where all are as recorded."""
    if canonical_json(recorded) == settings:
        return None
    before, after = dict(_leaves(recorded)), dict(_leaves(json.loads(settings)))
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if not changed:  # only the order, or an empty list or mapping
        return "a setting changed"
    return _first_of([_change(f"setting {name}" if name else "setting", before, after, name) for name in changed])


def _change(what: str, before: Mapping[str, str], after: Mapping[str, str], name: str) -> str:
    if name not in before:
        return f"{what} is new ({_short(after[name])})"
    if name not in after:
        return f"{what} was {_short(before[name])}, is gone"
    return f"{what} was {_short(before[name])}, is {_short(after[name])}"


def _short(value: str) -> str:
    text = one_line(value)
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}..."


def _first_of(reasons: Sequence[str]) -> str:
    return reasons[0] if len(reasons) == 1 else f"{reasons[0]} and {len(reasons) - 1} more"


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """(name, value) of each single setting; words of a command line count by their flags, and JSON in them opened."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(word, str) and word.startswith("--") for word in value):
        flag = name
        arguments: dict[str, list[Any]] = {}
        for word in value:
            if isinstance(word, str) and word.startswith("--"):
                flag = word
                arguments.setdefault(flag, [])
            else:
                arguments.setdefault(flag, []).append(_opened(word))
        for flag, words in arguments.items():
            yield from _leaves(words[0] if len(words) == 1 else words, flag.removeprefix("--"))
    elif isinstance(value, list) and any(isinstance(inner, (dict, list)) for inner in value):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{name}[{number}]")
    else:
        yield name, value if isinstance(value, str) else canonical_json(value)


def _opened(word: Any) -> Any:
    if isinstance(word, str) and word.startswith("{"):
        try:
            return json.loads(word)
        except ValueError:
            return word
    return word


# -------------------------------------------------------------------------------------------------------------- inputs
def changed_input(
    recorded: Receipt, records: Records, memory: FileMemory, inputs: Sequence[str] | None = None
) -> str | None:
    """The first input whose content is another; None where all are as recorded. See ``why_stale``."""
    if inputs is not None:
        new = [name for name in inputs if name not in recorded.inputs]
        gone = sorted(recorded.inputs.keys() - set(inputs))
        if new or gone:
            reasons = [f"input {one_line(name)} is new" for name in new]
            return _first_of(reasons + [f"input {one_line(name)} is read no more" for name in gone])
    for name, digest in recorded.inputs.items():
        try:
            now = records.made_sha256(name) or _own_digest(name, records, memory)
        except InputError:
            return f"input {one_line(name)} is missing"
        if now != digest:
            return f"input {one_line(name)} changed"
    return None


def _own_digest(name: str, records: Records, memory: FileMemory) -> str:
    return records.receipt(Path(name)).made_sha256 if is_receipt(name) else memory.sha256(Path(name))


# ---------------------------------------------------------------------------------------------------------------- code
def changed_code(recorded: str, code: Code, kept_code: KeptCode) -> str | None:
    """Which part of the code is another than the one that ran; None where the digest is the recorded one."""
    if recorded == code.digest:
        return None
    kept = kept_code.code(recorded)
    if kept is None:
        return "code changed"
    changed = changed_parts(kept, code)
    return _first_of([_code_change(name, kept.parts, code.parts) for name in changed])


def changed_parts(before: Code, after: Code) -> list[str]:
    """The parts that differ, what was edited before what came or went."""
    changed = [name for name in {**before.parts, **after.parts} if before.parts.get(name) != after.parts.get(name)]
    return sorted(changed, key=lambda name: (name not in before.parts or name not in after.parts, name))


def _code_change(name: str, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    if not _is_library(name):
        how = "is new" if name not in before else "is gone" if name not in after else "changed"
        return f"code: {name} {how}"
    if name not in before:
        return f"{name} is used ({after[name]})"
    return f"{name} was {before[name]}, is {after[name]}" if name in after else f"{name} is used no more"


def _is_library(name: str) -> bool:
    return ".py" not in name
