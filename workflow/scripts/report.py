"""The report of a run: one HTML file that opens from a mail, with the decision first and what it rests on below."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.commands.arguments import parser_for
from mnasbench.commands.command_line import run
from mnasbench.data.class_names import read_class_names, require_names_of
from mnasbench.data.class_order import NUMBERINGS
from mnasbench.data.layouts import Dataset
from mnasbench.files import write_text
from mnasbench.result.report import make_report
from mnasbench.result.results_folder import read_results


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=Path("results"), help="folder of the results")
    parser.add_argument("--html", type=Path, required=True, help="page to write")
    parser.add_argument("--dataset_path", type=Path, help="the dataset's root, for thumbnails of lost images")
    parser.add_argument("--class_names", type=Path, help="class names, one a line in class order")
    parser.add_argument("--calibration_root", type=Path, help="root of the dataset that calibration images come from")
    parser.add_argument("--calibration_part", help="its folder of images")
    parser.add_argument("--calibration_labels", type=Path, help="its label file, where it is not the usual one")
    parser.add_argument("--calibration_wnids", type=Path, help="its WordNet ids, where they are not the usual ones")
    parser.add_argument("--calibration_classes", choices=NUMBERINGS, help="what numbers its classes")
    parser.add_argument("--imagenet", action="store_true", help="set published ImageNet accuracies beside ours")
    return parser


def report(arguments: argparse.Namespace) -> None:
    """Read, render, write."""
    calibration = None
    if arguments.calibration_root:
        calibration = Dataset(
            arguments.calibration_root,
            arguments.calibration_labels,
            arguments.calibration_part,
            arguments.calibration_wnids,
            arguments.calibration_classes,
        )
    results = read_results(arguments.results)
    names = read_class_names(arguments.class_names) if arguments.class_names else []
    for row in results.rows if names else ():
        if row.classes is not None:
            require_names_of(names, arguments.class_names, row.classes, row.name)
    page = make_report(
        results,
        dataset_root=arguments.dataset_path,
        calibration=calibration,
        class_names=names,
        imagenet=arguments.imagenet,
    )
    write_text(arguments.html, page)
    print(f"{arguments.html}: {len(page.encode()) / 1e6:.2f} MB")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report."""
    return run(build_parser(), report, argv)


if __name__ == "__main__":
    sys.exit(main())
