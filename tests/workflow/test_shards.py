"""Shards change what is remade, never what comes out."""

from pathlib import Path

import pytest
from PIL import Image

from checkout import Workflow, make_workflow
from mnasbench.data.fingerprint import shard_of
from small_case import PICTURES, prepare, untimed_results

SHARDS = 3


@pytest.fixture(scope="module")
def sharded(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The small case, run in three shards."""
    folder = tmp_path_factory.mktemp("shards")
    workflow = make_workflow(repository, folder / "checkout")
    prepare(workflow, folder, shards=SHARDS, parity={"images": 20})
    workflow.run()
    return workflow


def test_a_replaced_picture_remakes_one_shard(sharded: Workflow) -> None:
    root = sharded.root.parent / "pictures"
    calibration = (sharded.root / "results/data/small/calibration.txt").read_text()
    # The measurement of speed reads pictures of the first shard, and int8 those of the calibration set.
    picture = next(
        path
        for path in sorted((root / "val").iterdir())
        if shard_of(f"val/{path.name}", SHARDS) and path.name not in calibration
    )
    kept = picture.read_bytes()
    Image.new("RGB", (300, 280), (200, 10, 10)).save(picture, "JPEG")
    shard = {"index_shard": 1, "write_npz": 1, "run_accuracy": 2, "evaluate_outputs": 2}
    gathered = {"index_dataset": 1, "gather_accuracy": 2, "check_parity": 1, "summarize": 1, "make_report": 1}
    assert sharded.planned() == shard | gathered

    (root / "val" / "new.JPEG").write_bytes(kept)
    (root / "val_label.txt").open("a").write("new.JPEG 0\n")
    assert "sample_calibration" in sharded.planned()  # it might be chosen
    (root / "val" / "new.JPEG").unlink()
    label_lines = (root / "val_label.txt").read_text().splitlines(keepends=True)[:-1]
    (root / "val_label.txt").write_text("".join(label_lines))
    picture.write_bytes(kept)
    assert sharded.planned() == {}


def test_another_number_of_shards_gives_the_same_numbers(sharded: Workflow) -> None:
    before = untimed_results(sharded.root / "results")
    assert len(before["mnasnet0_5/fp32 answers"]) == PICTURES
    parity = before["mnasnet0_5 parity"]
    assert (parity["images"], parity["drawn_from"]) == (20, PICTURES)
    # None of 20 differs, so of all at most 100 x 1.96^2 / (20 + 1.96^2) percent do.
    (way,) = parity["ways"]
    assert (way["different_answers"], way["different_answers_low"]) == (0, 0)
    assert way["different_answers_high"] == pytest.approx(16.11, abs=0.01)
    assert "(a sample: of all 48 it is 0.00 to 16.11 %, at 95 %)" in (sharded.root / "results/summary.md").read_text()
    settings = (sharded.root / "test.yaml").read_text()
    (sharded.root / "test.yaml").write_text(settings.replace(f"shards: {SHARDS}", "shards: 1"))
    jobs = sharded.planned()
    assert jobs["write_npz"] == 1 and jobs["run_accuracy"] == 2
    assert "compile_model" not in jobs and "sample_calibration" not in jobs
    sharded.run()
    assert untimed_results(sharded.root / "results") == before
    # What the other shards had is gone: it would be read, or fill the disk.
    left = [path for path in (sharded.root / "results").rglob("*") if path.name in {"1", "2", "1.csv", "answers-1.csv"}]
    assert left == []
    assert sharded.planned() == {}
