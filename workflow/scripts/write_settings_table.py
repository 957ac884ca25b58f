"""Write the tables of documents that follow from entries in the code (for maintainers; tests compare them).

Settings and precisions in config/README.md, the summary's columns in docs/measurement.md.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mnasbench.commands.arguments import parser_for
from mnasbench.commands.command_line import run
from mnasbench.files import canonical_json, read_text, write_text
from mnasbench.precisions import PRECISIONS
from mnasbench.result import columns
from mnasbench.settings import SCHEMA_FILE, schema

DOCUMENT = SCHEMA_FILE.parents[1] / "docs" / "measurement.md"
COLUMN_MARKS = (
    "<!-- columns: written by workflow/scripts/write_settings_table.py from mnasbench/result/columns.py -->\n",
    "<!-- /columns -->\n",
)
README = SCHEMA_FILE.with_name("README.md")
MARK = (
    "<!-- the rest: written by workflow/scripts/write_settings_table.py from schema.yaml and mnasbench/precisions.py; "
    "a test compares them -->\n"
)


def _rows(rules: dict[str, Any], place: str = "") -> Iterator[str]:
    for key, rule in rules.get("properties", {}).items():
        about = " ".join(rule["description"].split())
        entries = rule.get("additionalProperties")
        entries = entries if isinstance(entries, dict) and "properties" in entries else None
        if rule.get("properties") or entries:
            yield f"| **{place}{key}** | | {about} |"
            yield from _rows(rule, f"{place}{key}.")
            if entries:
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


def document_with_columns(text: str) -> str:
    """``text`` of docs/measurement.md with the table of columns between its marks."""
    before, _, rest = text.partition(COLUMN_MARKS[0])
    return (
        f"{before}{COLUMN_MARKS[0]}\n{columns.documentation()}\n{COLUMN_MARKS[1]}{rest.partition(COLUMN_MARKS[1])[2]}"
    )


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    parser.add_argument("--readme", type=Path, default=README, help="the file with the settings")
    parser.add_argument("--columns", type=Path, default=DOCUMENT, help="the file with the columns")
    return parser


def complete(arguments: argparse.Namespace) -> None:
    """Replace the tables of both files."""
    write_text(arguments.readme, readme_with_table(read_text(arguments.readme)))
    write_text(arguments.columns, document_with_columns(read_text(arguments.columns)))


def main(argv: Sequence[str] | None = None) -> int:
    """Write the tables."""
    return run(build_parser(), complete, argv)


if __name__ == "__main__":
    sys.exit(main())
