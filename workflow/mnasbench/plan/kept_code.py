"""The code that steps ran, kept in parts by its digest, so that an edit can be named.

A receipt holds the digest alone: hundreds of parts in each of a thousand receipts would make planning slow.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from mnasbench.code_digest import Code
from mnasbench.errors import InputError
from mnasbench.files import read_json, refusal_named, write_json

CODE_FOLDER = Path("results/logs/code")


class KeptCode:
    """A folder with a file for each digest; a missing or damaged one costs the name of an edit, and nothing else."""

    def __init__(self, folder: Path = CODE_FOLDER) -> None:
        self._folder = folder
        self._parts: dict[str, Mapping[str, str] | None] = {}

    def parts(self, digest: str) -> Mapping[str, str] | None:
        """The parts of the code with this digest; None where they were not kept."""
        if digest not in self._parts:
            try:
                parts = read_json(self._file(digest))["parts"]
                self._parts[digest] = {str(name): str(part) for name, part in parts.items()}
            except (InputError, KeyError, TypeError, AttributeError):
                self._parts[digest] = None
        return self._parts[digest]

    def keep(self, codes: Iterable[Code], recorded: Iterable[str]) -> None:
        """Keep the parts of ``codes``, which are about to run; drop those that no recorded digest names any more.

        Raises OutputError where the folder cannot be written to.
        """
        present = {code.digest: code for code in codes}
        for digest, code in present.items():
            if self.parts(digest) is None:
                write_json(self._file(digest), {"parts": dict(code.parts)})
                self._parts[digest] = code.parts
        used = present.keys() | set(recorded)
        for file in self._folder.glob("*.json"):
            if file.stem not in used:
                with refusal_named(file):
                    file.unlink(missing_ok=True)

    def _file(self, digest: str) -> Path:
        return self._folder / f"{digest}.json"
