"""The chain on 300 real photographs with trained weights, held to what other tools score on them."""

import csv
import json
from pathlib import Path

import pytest

from checkout import Workflow, make_workflow
from mnasbench.result.answers import RANKS, read_answers
from mnasbench.result.pairing import labels_by_key
from mnasbench.result.result_text import answers_from_text

# top-1 and top-5 with torchvision's own preprocessing, from the README of the photographs.
EXPECTED = {"at256": (256, 100.0, 100.0), "at384": (384, 187 / 3, 262 / 3)}


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change (ns) of every file, folders included, by name below ``folder``."""
    return {
        str(path.relative_to(folder)): (status.st_size, status.st_mtime_ns)
        for path in folder.rglob("*")
        for status in [path.stat()]
    }


@pytest.fixture(scope="module")
def real_before(real: Path) -> dict[str, tuple[int, int]]:
    """The photographs' folder before the workflow read it."""
    return _listing(real)


@pytest.fixture(scope="module")
def done(
    real: Path, real_before: dict[str, tuple[int, int]], repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Workflow:
    """The workflow, run on the photographs."""
    workflow = make_workflow(repository, tmp_path_factory.mktemp("real") / "checkout")
    weights = str(real / "mnasnet0_5_memorised.pth")
    models = {
        variant: {"name": "mnasnet0_5", "weights": weights, "resize": resize}
        for variant, (resize, _, _) in EXPECTED.items()
    }
    workflow.configure(
        {
            "dataset": {"name": "photographs", "root": str(real), "class_names": str(real / "imagenet_classes.txt")},
            "calibration": {"images": 300},
            "models": models,
            "precisions": ["fp32", "int8-percentile"],
            "vamp": {"instances": 2, "iterations": 20, "retries": 0},
        }
    )
    workflow.run()
    return workflow


def _rows(workflow: Workflow) -> dict[tuple[str, str], dict[str, str]]:
    with (workflow.root / "results/summary.csv").open(newline="") as stream:
        return {(row["model"], row["precision"]): row for row in csv.DictReader(stream)}


@pytest.mark.parametrize("variant", EXPECTED)
def test_fp32_scores_exactly_what_torchvision_does(done: Workflow, variant: str) -> None:
    _, top1, top5 = EXPECTED[variant]
    row = _rows(done)[variant, "fp32"]
    assert (int(row["images"]), round(float(row["top1"]), 1), round(float(row["top5"]), 1)) == (
        300,
        round(top1, 1),
        round(top5, 1),
    )


def test_int8_is_compared_with_fp32_image_by_image(done: Workflow) -> None:
    row = _rows(done)["at384", "int8-percentile"]
    drop = float(_rows(done)["at384", "fp32"]["top1"]) - float(row["top1"])
    # Both accuracies are written with three digits, so their difference is off by up to one in the last.
    assert float(row["top1_drop"]) == pytest.approx(drop, abs=1.1e-3)
    assert float(row["top1_drop_low"]) <= drop <= float(row["top1_drop_high"])
    assert float(row["agreement"]) > 90
    assert float(row["sqnr_db"]) > 15
    assert row["throughput_qps"] and row["verdict"]


def test_published_accuracies_stand_only_beside_imagenet(done: Workflow) -> None:
    assert all(row["reference_top1"] == "" for row in _rows(done).values())


def test_both_roads_give_the_same_answers(done: Workflow, real: Path) -> None:
    built = done.root / "results/build/at384/fp32"
    prefix = next(built.glob("*/at384.onnx")).with_suffix("")
    # The workflow's own preprocessing file is for cropped npz; the road from images resizes by itself.
    done.script(
        "sample_cls.py",
        *("--file_path", real / "val", "--model_prefix_path", prefix, "--label_txt", real / "imagenet_classes.txt"),
        *("--save_dir", "road/result.txt"),
    )
    said = done.script("eval_topk.py", "road/result.txt", "--label", real / "val_label.txt", "--json", "road/text.json")
    assert "images: 300" in said.stdout
    by_text = json.loads((done.root / "road/text.json").read_text())
    by_npz = json.loads((done.root / "results/result/at384/fp32/accuracy.json").read_text())
    assert (by_text["correct_top1"], by_text["correct_top5"]) == (by_npz["correct_top1"], by_npz["correct_top5"])
    npz_answers = read_answers([done.root / "results/result/at384/fp32/answers.csv"])
    text_answers = answers_from_text(done.root / "road/result.txt", labels_by_key(real / "val_label.txt"))
    assert text_answers[["name", *RANKS]].equals(npz_answers[["name", *RANKS]])


def test_a_second_run_plans_nothing(done: Workflow) -> None:
    assert done.planned() == {}


def test_the_photographs_were_only_read(done: Workflow, real: Path, real_before: dict[str, tuple[int, int]]) -> None:
    assert _listing(real) == real_before
