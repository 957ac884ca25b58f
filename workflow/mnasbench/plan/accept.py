"""Accepting results that only an edit of the code makes stale, on the word of somebody who knows the edit."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from mnasbench.code_digest import Code, code_of
from mnasbench.file_memory import FileMemory
from mnasbench.plan.kept_code import KeptCode
from mnasbench.plan.staleness import changed_code, changed_input, changed_parts
from mnasbench.receipts import Acceptance, Receipt, Records, damage, write_receipt

_WORKFLOW = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Edited:
    """A receipt that the code alone makes stale: why, the parts of the code that differ, and the code of now."""

    path: Path
    receipt: Receipt
    reason: str
    parts: Sequence[str]
    code: Code


def edited_only(records: Records, memory: FileMemory, kept_code: KeptCode) -> list[Edited]:
    """The receipts that nothing but an edit of the code makes stale, whatever their settings are now.

    One whose former code was not kept is left out: what it ran, and what became of that, is not known.
    """
    edited = []
    for path, receipt in sorted(records.all().items()):
        kept = kept_code.code(receipt.code_sha256)
        script = _WORKFLOW / kept.script if kept is not None else None
        if kept is None or script is None or not script.is_file():
            continue
        code = code_of(script)
        reason = changed_code(receipt.code_sha256, code, kept_code)
        if reason is not None and damage(receipt) is None and changed_input(receipt, records, memory) is None:
            edited.append(Edited(path, receipt, reason, changed_parts(kept, code), code))
    return edited


def accept(edited: Iterable[Edited], because: str, records: Records, kept_code: KeptCode) -> None:
    """Have these receipts name the code of now, and say in each what was accepted, when and why."""
    chosen = list(edited)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    kept_code.keep([entry.code for entry in chosen], [receipt.code_sha256 for receipt in records.all().values()])
    for entry in chosen:
        accepted = [*entry.receipt.accepted, Acceptance(entry.receipt.code_sha256, at, because)]
        write_receipt(entry.path, replace(entry.receipt, code_sha256=entry.code.digest, accepted=accepted))
