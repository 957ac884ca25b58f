"""Write the tables of settings and precisions in config/README.md (for maintainers; a test compares them)."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mnasbench.commands.arguments import parser_for
from mnasbench.commands.command_line import run
from mnasbench.files import canonical_json, read_text, write_text
from mnasbench.precisions import PRECISIONS
from mnasbench.settings import SCHEMA_FILE, schema

README = SCHEMA_FILE.with_name("README.md")
MARK = (
    "<!-- the rest: written by workflow/scripts/write_settings_table.py from schema.yaml and mnasbench/precisions.py; "
    "a test compares them -->\n"
)


def _rows(rules: dict[str, Any], place: str = "") -> Iterator[str]:
    for key, rule in rules.get("properties", {}).items():
        about = " ".join(rule["description"].split())
        entries = rule.get("additionalProperties")
        if rule.get("properties") or isinstance(entries, dict):
            yield f"| **{place}{key}** | | {about} |"
            yield from _rows(rule, f"{place}{key}.")
            if isinstance(entries, dict):
                yield from _rows(entries, f"{place}{key}.<variant>.")
        else:
            default = canonical_json(rule["default"]).replace('"', "") if rule.get("default") is not None else ""
            yield f"| `{place}{key}` | {default and f'`{default}`'} | {about} |"


def settings_table() -> str:
    """The table, one setting a row."""
    return "\n".join(["| setting | default | meaning |", "| --- | --- | --- |", *_rows(schema())]) + "\n"


def precisions_table() -> str:
    """The precisions, one a row, with the generations of the card's compiler that build them."""
    rows = [
        f"| `{one.name}` | {one.meaning} | {', '.join(map(str, one.card_generations)) or 'none'} |"
        for one in PRECISIONS.values()
    ]
    head = ["| precision | what it is | card generations |", "| --- | --- | --- |"]
    return "\n".join([*head, *rows]) + "\n"


def readme_with_table(text: str) -> str:
    """``text`` of the README with the tables behind their mark, whatever stood there before."""
    return f"{text.partition(MARK)[0]}{MARK}\n{settings_table()}\n## Precisions\n\n{precisions_table()}"


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    parser.add_argument("--readme", type=Path, default=README, help="the file to complete")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Write the table."""
    return run(
        build_parser(),
        lambda arguments: write_text(arguments.readme, readme_with_table(read_text(arguments.readme))),
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
