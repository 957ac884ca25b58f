"""Which jobs some files rest on, by what the receipts say that each job read and made."""

from collections.abc import Iterable, Mapping
from typing import Any


def jobs_behind(files: Iterable[str], receipts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The receipts of the jobs that made ``files``, and what they were made from, in the order of their start.

    ``receipts``: their contents by name. All names are relative to one folder; an input that no job made leads nowhere.
    """
    made = {name: name for name in receipts}
    for receipt, content in receipts.items():
        made.update(dict.fromkeys((*content.get("outputs", ()), *content.get("folders", ())), receipt))
    behind: set[str] = set()
    waiting = [made[file] for file in files if file in made]
    while waiting:
        receipt = waiting.pop()
        if receipt not in behind:
            behind.add(receipt)
            waiting += [made[name] for name in receipts[receipt].get("inputs", ()) if name in made]
    return sorted(behind, key=lambda name: (str(receipts[name]["started"]), name))
