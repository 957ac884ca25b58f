"""The summary of a run: summary.csv (every column), summary.md (the main ones), or the table on the terminal.

summarize.py --rows ROWS.json --csv summary.csv --markdown summary.md   gather
summarize.py --show summary.csv                                         print the table
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnasbench.commands.arguments import parser_for
from mnasbench.commands.command_line import run
from mnasbench.files import read_json, write_text
from mnasbench.precisions import precision_named
from mnasbench.result.expected import deviations
from mnasbench.result.summary import Row, exclusion_notes, make_row, read_csv, to_csv, to_markdown


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    told = "JSON: for each row its identity, its files, its reference"
    parser.add_argument("--rows", type=json.loads, required=True, help=told)
    parser.add_argument("--csv", type=Path, required=True, help="summary.csv to write")
    parser.add_argument("--markdown", type=Path, required=True, help="summary.md to write")
    return parser


def _row(described: dict[str, Any]) -> Row:
    def read(name: str) -> Any:
        return read_json(Path(described[name])) if described.get(name) else None

    reference = described["reference"]
    return make_row(
        described["identity"],
        read("exported"),
        read("compiled"),
        read("performance"),
        read("accuracy"),
        (reference["top1"], reference["top5"], reference["source"]),
    )


def notes_on(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What a reader of the table must know to read it rightly."""
    notes = [
        "top-1 and top-5 in percent; drop and agreement against fp32 on the same images, drop in points",
        "multiply-adds as torchvision publishes them; the model card's FLOPs are "
        "(multiply-adds + 4 x values normalized by BatchNorm) x 2 / 0.9",
    ]
    seen = set()
    for described in rows:
        exported = read_json(Path(described["exported"]))
        if exported["name"] not in seen:
            seen.add(exported["name"])
            notes.append(
                f"{exported['name']}: {exported['params'] / 1e6:.3f} M parameters, {exported['macs'] / 1e9:.3f} G "
                f"multiply-adds ({exported['card_flops'] / 1e9:.3f} G as the model card counts)"
            )
        reference = described["reference"]
        if reference["top1"] is not None and described["identity"]["precision"] == "fp32":
            notes.append(
                f"{described['identity']['model']}: published {reference['top1']:.3f} / {reference['top5']:.3f} "
                f"({reference['source']})"
            )
        if described["parity"] is not None and described["identity"]["precision"] == "fp32":
            notes += [_on_parity(described["identity"]["model"], read_json(Path(described["parity"])))]
        cpu_note = precision_named(described["identity"]["precision"]).cpu_note
        if cpu_note is not None and described["identity"]["engine"] == "ort":
            note = f"{described['identity']['precision']} on a CPU: {cpu_note}"
            notes += [] if note in notes else [note]
    return notes


def _on_parity(model: str, certificate: dict[str, Any]) -> str:
    (way,) = certificate["ways"]
    sampled = certificate["images"] < certificate["drawn_from"]
    return (
        f"{model}: of {certificate['images']} images, as the model is given them, {way['different_images']} differ "
        f"from torchvision's own ({way['different_pixels']:.2f} % of the pixels) and {way['different_answers']} get "
        "another answer"
        + (
            f" (a sample: of all {certificate['drawn_from']} it is {way['different_answers_low']:.2f} to "
            f"{way['different_answers_high']:.2f} %, at 95 %)"
            if sampled
            else ""
        )
    )


def summarize(arguments: argparse.Namespace) -> None:
    """Read, tabulate, write."""
    rows = arguments.rows["rows"]
    found = [_row(described) for described in rows]
    text = to_csv(found)
    exclusions = exclusion_notes(read_json(Path(rows[0]["accuracy"])))
    write_text(arguments.csv, text)
    write_text(arguments.markdown, to_markdown(read_csv(text), [*exclusions, *deviations(found), *notes_on(rows)]))


def main(argv: Sequence[str] | None = None) -> int:
    """Gather the summary."""
    return run(build_parser(), summarize, argv)


if __name__ == "__main__":
    sys.exit(main())
