"""Int8 of the card's path with and without the conditioned graph, from the export to the summary.

The vendor's tools are stood in for (tests/contract): the compiler by a quantizer like TVM's, so these are figures of
its kind, not of a card. The net is NET, an ONNX of one that plain int8 loses; the images are a dataset's.

condition_card.py NET.onnx DATASET [--resize 384] [--limit 300]
"""

import argparse
import csv
import json
import os
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "tests"), str(REPOSITORY / "tests/contract")]

from checkout import Workflow, make_workflow  # noqa: E402


def _card(folder: Path) -> Workflow:
    """A checkout that finds the stand-ins on PATH."""
    workflow = make_workflow(REPOSITORY, folder / "checkout")
    (folder / "bin").mkdir()
    for tool in ("vamc", "vamp"):
        script = folder / "bin" / tool
        stand_in = REPOSITORY / "tests/contract" / f"stand_in_{tool}.py"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{stand_in}" "$@"\n')
        script.chmod(0o755)
    workflow.environment["PATH"] = f"{folder / 'bin'}:{workflow.environment['PATH']}"
    return workflow


def main() -> None:
    """Run the workflow twice, print a line each and the JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("MNASBENCH_REAL", REPOSITORY.parent / "shared" / "real")
    parser.add_argument("net", type=Path, nargs="?", help="float ONNX; without one nothing is run")
    parser.add_argument("dataset", type=Path, nargs="?", default=Path(default), help="folder of a dataset")
    parser.add_argument("--resize", type=int, default=384, help="short side before the crop")
    parser.add_argument("--limit", type=int, default=300, help="images")
    given = parser.parse_args()
    if given.net is None:
        print("condition_card.py: name a float ONNX; nothing was run")
        return
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        card = _card(Path(folder))
        for condition in (False, True):
            card.configure(
                {
                    "engine": "vacc",
                    "condition": condition,
                    "dataset": {"name": "judged", "root": str(given.dataset.resolve()), "limit": given.limit},
                    "calibration": {"images": 300},
                    "models": {"net": {"onnx": str(given.net.resolve()), "resize": given.resize}},
                    "precisions": ["fp32", "int8-percentile", "int8-max"],
                    "vamp": {"instances": 1, "batch_size": 4, "iterations": 3, "retries": 0},
                }
            )
            card.run()
            with (card.root / "results/summary.csv").open(newline="") as stream:
                for row in csv.DictReader(stream):
                    if row["precision"] != "fp32":
                        name = f"{row['precision']} {'conditioned' if condition else 'raw'}"
                        rows[name] = {key: float(row[key]) for key in ("top1", "agreement", "sqnr_db")}
                        print(name, rows[name], flush=True)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
