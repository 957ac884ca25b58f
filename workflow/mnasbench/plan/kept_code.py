"""The code that steps ran, kept in parts by its digest, so that an edit can be named.

A receipt holds the digest alone: hundreds of parts in each of a thousand receipts would make planning slow.
"""

from collections.abc import Iterable
from pathlib import Path

from mnasbench.code_digest import Code
from mnasbench.errors import InputError
from mnasbench.files import read_json, refusal_named, write_json

CODE_FOLDER = Path("results/logs/code")


class KeptCode:
    """A folder with a file for each digest; a missing or damaged one costs the name of an edit, and nothing else."""

    def __init__(self, folder: Path = CODE_FOLDER) -> None:
        self._folder = folder
        self._codes: dict[str, Code | None] = {}

    def code(self, digest: str) -> Code | None:
        """The code with this digest; None where it was not kept."""
        if digest not in self._codes:
            try:
                content = read_json(self._file(digest))
                parts = {str(name): str(part) for name, part in content["parts"].items()}
                self._codes[digest] = Code(parts, str(content["script"]))
            except (InputError, KeyError, TypeError, AttributeError):
                self._codes[digest] = None
        return self._codes[digest]

    def keep(self, codes: Iterable[Code], recorded: Iterable[str]) -> None:
        """Keep the parts of ``codes``, which are about to run; drop those that no recorded digest names any more.

        Raises OutputError where the folder cannot be written to.
        """
        present = {code.digest: code for code in codes}
        for digest, code in present.items():
            if self.code(digest) is None:
                write_json(self._file(digest), {"script": code.script, "parts": dict(code.parts)})
                self._codes[digest] = code
        used = present.keys() | set(recorded)
        for file in self._folder.glob("*.json"):
            if file.stem not in used:
                with refusal_named(file):
                    file.unlink(missing_ok=True)

    def _file(self, digest: str) -> Path:
        return self._folder / f"{digest}.json"
