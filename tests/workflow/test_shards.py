"""Shards change what is remade, never what comes out."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from checkout import Workflow, make_workflow
from mnasbench.data.choice import shard_of
from mnasbench.data.npz import read_npz
from small_case import FAULTY, FOLDER, IMAGES, NAMES, prepare, untimed_results

SHARDS = 3


@pytest.fixture(scope="module")
def sharded(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The small case, run in three shards."""
    folder = tmp_path_factory.mktemp("shards")
    workflow = make_workflow(repository, folder / "checkout")
    prepare(workflow, folder, shards=SHARDS, parity={"images": 20})
    workflow.run()
    return workflow


def accuracies(workflow: Workflow) -> dict[str, bytes]:
    """The accuracy JSON of each row, to the byte."""
    paths = sorted((workflow.root / "results/result").glob("*/*/accuracy.json"))
    return {str(path.relative_to(workflow.root)): path.read_bytes() for path in paths}


def test_a_faulty_image_is_counted_at_every_stage_and_odd_names_are_only_names(sharded: Workflow) -> None:
    results = sharded.root / "results"
    with (results / "data/small/manifest.csv").open(newline="") as stream:
        indexed = list(csv.DictReader(stream))
    assert len(indexed) == IMAGES + 1
    assert [row["name"] for row in indexed if row["fault"]] == [FAULTY]
    assert {f"val/{name}" for name in NAMES} < {row["name"] for row in indexed}
    for folder in ("data/small/npz", "run/mnasnet0_5/fp32", "run/mnasnet0_5/int8-max"):
        names = [name for path in (results / folder).rglob("*.npz") for name in np.load(path)["names"]]
        assert len(names) == len(set(names)) == IMAGES and FAULTY not in names, folder
    for precision in ("fp32", "int8-max"):
        accuracy = json.loads((results / "result/mnasnet0_5" / precision / "accuracy.json").read_text())
        assert (accuracy["images"], accuracy["excluded"]) == (IMAGES, [FAULTY])
    message = f"excluded, as faulty: 1 of {IMAGES + 1} images ({FAULTY})"
    assert message in (results / "summary.md").read_text()
    assert message in sharded.script("show_results.py").stdout
    page = (results / "report.html").read_text()
    assert f"<li>{FAULTY}: is cut short or damaged" in page
    assert re.search(r"<script>(\d|\.JPEG)", page) is None, "a name became markup"
    # No name was run, and nothing was written where a name would lead.
    left = [path for path in sharded.root.parent.rglob("ran") if "numba" not in path.parts]
    assert left == []


def test_a_replaced_image_remakes_one_shard(sharded: Workflow) -> None:
    root = sharded.root.parent / FOLDER
    calibration = (sharded.root / "results/data/small/calibration.txt").read_text()
    # The measurement of speed reads images of the first shard, and int8 those of the calibration set.
    image = next(
        path
        for path in sorted((root / "val").iterdir())
        if shard_of(f"val/{path.name}", SHARDS) and path.name not in calibration
    )
    kept = image.read_bytes()
    Image.new("RGB", (300, 280), (200, 10, 10)).save(image, "JPEG")
    shard = {"index_shard": 1, "write_npz": 1, "run_accuracy": 2}
    gathered = {"index_dataset": 1, "evaluate_outputs": 2, "check_parity": 1, "summarize": 1, "make_report": 1}
    assert sharded.planned() == shard | gathered

    (root / "val" / "new.JPEG").write_bytes(kept)
    (root / "val_label.txt").open("a").write("new.JPEG 0\n")
    assert "sample_calibration" in sharded.planned()  # it might be chosen
    (root / "val" / "new.JPEG").unlink()
    label_lines = (root / "val_label.txt").read_text().splitlines(keepends=True)[:-1]
    (root / "val_label.txt").write_text("".join(label_lines))
    image.write_bytes(kept)
    assert sharded.planned() == {}


def test_shards_cores_and_batches_change_no_byte_of_an_answer(sharded: Workflow) -> None:
    before = untimed_results(sharded.root / "results")
    written = accuracies(sharded)
    assert len(before["mnasnet0_5/fp32 answers"]) == IMAGES and len(written) == 2
    settings = (sharded.root / "test.yaml").read_text()
    changed = settings.replace(f"shards: {SHARDS}", "shards: 1").replace(
        "instances: 1", "instances: 1\n  batch_size: 5"
    )
    (sharded.root / "test.yaml").write_text(changed)
    jobs = sharded.planned()
    assert jobs["write_npz"] == 1 and jobs["run_accuracy"] == 2
    assert "compile_model" not in jobs and "sample_calibration" not in jobs
    done = sharded.call(cores=1)
    assert done.returncode == 0, done.stdout[-6000:]
    assert untimed_results(sharded.root / "results") == before
    assert accuracies(sharded) == written
    # What the other shards had is gone: it would be read, or fill the disk.
    left = [
        path
        for path in (sharded.root / "results").rglob("*")
        if path.name in {"1.npz", "2.npz", "1.csv", "scores-1.npz"}
    ]
    assert left == []
    assert sharded.planned() == {}


def test_the_vendors_full_size_inputs_give_the_same_answers(sharded: Workflow) -> None:
    written = accuracies(sharded)
    settings = (sharded.root / "test.yaml").read_text()
    # One shard, whether or not the test before has left it so: tests may be shared among processes.
    settings = settings.replace(f"shards: {SHARDS}", "shards: 1")
    (sharded.root / "test.yaml").write_text(f"{settings}npz: original\n")
    assert sharded.planned()["write_image_npz"] == 1
    sharded.run()
    assert accuracies(sharded) == written
    whole = sharded.root / "results/data/small/image_npz/original/0"
    sizes = {read_npz(path).shape for path in whole.rglob("*.npz")}
    assert len(list(whole.rglob("*.npz"))) == IMAGES and (3, 64, 64) not in sizes
