"""The summary of a run: summary.csv (every column), summary.md (the main ones), summary.json (each row's files)."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mnasbench.commands.arguments import parser_for
from mnasbench.commands.command_line import run
from mnasbench.data.class_file import reason_of_classes
from mnasbench.files import read_json, write_json, write_text
from mnasbench.precisions import BASELINE, precision_named
from mnasbench.result.columns import Sources
from mnasbench.result.expected import deviations
from mnasbench.result.row_files import row_files
from mnasbench.result.summary import make_row, read_summary, rows_of, to_csv
from mnasbench.result.summary_tables import calibration_notes, exclusion_notes, to_markdown


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    message = "JSON: the rows, their files, published accuracies (summary_rows in workflow/rules/common.smk)"
    parser.add_argument("--rows", type=json.loads, required=True, help=message)
    parser.add_argument("--csv", type=Path, required=True, help="summary.csv to write")
    parser.add_argument("--markdown", type=Path, required=True, help="summary.md to write")
    parser.add_argument("--files", type=Path, required=True, help="summary.json to write, beside summary.csv")
    return parser


def _sources(described: dict[str, Any], files: dict[str, Any], folder: Path) -> Iterator[Sources]:
    """What each row is read from."""
    rows = iter(files["rows"])
    for variant in described["variants"]:
        for own in variant["rows"]:
            row = next(rows)
            identity = {"model": variant["model"], "precision": own["precision"], "engine": own["engine"]}
            content = {
                kind: read_json(folder / row["files"][kind]) if kind in row["files"] else {}
                for kind in ("exported", "compiled", "performance", "accuracy", "parity")
            }
            yield content | {
                "identity": identity | {"dataset": described["dataset"]},
                "reference": variant["reference"],
            }


def notes_on(rows: Sequence[Sources]) -> list[str]:
    """What a reader of the table must know to read it rightly."""
    notes = [
        "top-1 and top-5 in percent; drop and agreement against fp32 on the same images, drop in points",
        "multiply-adds as torchvision publishes them; the model card's FLOPs are "
        "(multiply-adds + 4 x values normalized by BatchNorm) x 2 / 0.9",
    ]
    for sources in rows:
        identity, exported, reference = (sources[name] for name in ("identity", "exported", "reference"))
        counted = "multiply-adds not known"
        if exported["macs"] is not None:
            counted = f"{exported['macs'] / 1e9:.3f} G multiply-adds"
            if exported["card_flops"] is not None:
                counted += f" ({exported['card_flops'] / 1e9:.3f} G as the model card counts)"
        notes.append(f"{exported['name']}: {exported['params'] / 1e6:.3f} M parameters, {counted}")
        if identity["precision"] == BASELINE and reference["top1"] is not None:
            published = f"{reference['top1']:.3f} / {reference['top5']:.3f} ({reference['source']})"
            notes.append(f"{identity['model']}: published {published}")
        if identity["precision"] == BASELINE and sources["parity"]:
            notes.append(_on_parity(identity["model"], sources["parity"]))
        cpu_note = precision_named(identity["precision"]).cpu_note
        if cpu_note is not None and identity["engine"] == "ort":
            notes.append(f"{identity['precision']} on a CPU: {cpu_note}")
    # What holds for several rows is said once.
    return list(dict.fromkeys(notes))


def _on_parity(model: str, certificate: Mapping[str, Any]) -> str:
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
    files = row_files(arguments.rows, arguments.files.parent)
    sources = list(_sources(arguments.rows, files, arguments.files.parent))
    write_text(arguments.csv, to_csv([make_row(one) for one in sources]))
    rows = rows_of(read_summary(arguments.csv))
    judged = sources[0]["accuracy"]
    about = reason_of_classes(Path(arguments.rows["data"]["classes"])) if "classes" in arguments.rows["data"] else ""
    notes = [f"the dataset: {about}"] if about else []
    notes += [*exclusion_notes(judged), *calibration_notes(rows, judged), *deviations(rows), *notes_on(sources)]
    write_text(arguments.markdown, to_markdown(rows, notes))
    write_json(arguments.files, files)


def main(argv: Sequence[str] | None = None) -> int:
    """Gather the summary."""
    return run(build_parser(), summarize, argv)


if __name__ == "__main__":
    sys.exit(main())
