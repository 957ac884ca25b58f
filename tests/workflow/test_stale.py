"""Only what is stale is planned: one small chain is run once, and then asked what it would do after each change."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from checkout import Workflow, make_workflow
from mnasbench.data.demo import make_demo
from mnasbench.data.shard import new_shard, write_scores
from mnasbench.model.architecture import create

VARIANTS = ("mnasnet0_5", "mnasnet1_0")
# What one row needs of its own, and what stands behind all rows.
ROW = (
    "write_build_config",
    "compile_model",
    "measure_performance",
    "run_accuracy",
    "evaluate_outputs",
)
IMAGES = 48
PAGE = "results/report.html"


def _weights(variant: str, seed: int, path: Path) -> None:
    torch.manual_seed(seed)
    torch.save(create("torchvision", variant, 24).state_dict(), path)


@pytest.fixture(scope="module")
def finished(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A checkout whose results are complete: two variants, fp32 and int8, on a few images at a small size."""
    folder = tmp_path_factory.mktemp("stale")
    workflow = make_workflow(repository, folder / "checkout")
    make_demo(folder / "images", validation=IMAGES, training=24, seed=1, workers=2)
    # Calibration images of their own, which the manifest knows nothing of.
    shutil.copytree(folder / "images", folder / "source")
    for number, variant in enumerate(VARIANTS):
        _weights(variant, number, folder / f"{variant}.pth")
    models = {variant: {"weights": str(folder / f"{variant}.pth"), "size": 64} for variant in VARIANTS}
    workflow.configure(
        {
            "dataset": {"name": "small", "root": str(folder / "images")},
            "calibration": {"images": 24, "source": str(folder / "source")},
            "models": models,
            "precisions": ["fp32", "int8-percentile"],
            "vamp": {"instances": 1, "iterations": 3, "retries": 0},
        }
    )
    workflow.run()
    return workflow


@pytest.fixture
def kept(finished: Workflow) -> Iterator[Workflow]:
    """The finished checkout; its sources, settings and results are put back after the test."""
    aside = finished.root.parent / "aside"
    shutil.copytree(finished.root.parent, aside, symlinks=True, ignore=lambda folder, _: {"aside", "numba"})
    yield finished
    for entry in aside.iterdir():
        shutil.rmtree(finished.root.parent / entry.name, ignore_errors=True)
        (finished.root.parent / entry.name).unlink(missing_ok=True)
        entry.rename(finished.root.parent / entry.name)
    aside.rmdir()
    shutil.rmtree(finished.root.parent / "moved", ignore_errors=True)  # another checkout, which some tests make


def _configure(workflow: Workflow, change: Callable[[dict], None]) -> None:
    settings = yaml.safe_load((workflow.root / "test.yaml").read_text())
    change(settings)
    workflow.configure(settings)


def _row(jobs: dict[str, int], count: int) -> dict[str, int]:
    return {rule: jobs.get(rule, 0) for rule in ROW} | {"count": count}


def test_nothing_after_nothing(kept: Workflow) -> None:
    assert kept.planned() == {}


def test_nothing_after_touching_every_file(kept: Workflow) -> None:
    for path in kept.root.parent.rglob("*"):
        if path.is_file() and ".snakemake" not in path.parts and "aside" not in path.parts:
            path.touch()
    assert kept.planned() == {}


@pytest.mark.parametrize("years", [-1, 1])
def test_nothing_where_the_clock_was_set(kept: Workflow, years: int) -> None:
    # Set back, what was made before seems to come from the future; and every other file seems older than its source.
    for number, path in enumerate(sorted((kept.root / "results").rglob("*"))):
        if path.is_file() and number % 2:
            moment = path.stat().st_mtime + years * 365 * 86400
            os.utime(path, (moment, moment))
    assert kept.planned() == {}


def test_nothing_after_a_comment_in_the_library(kept: Workflow) -> None:
    for path in (kept.root / "workflow").rglob("*.py"):
        path.write_text(path.read_text() + "\n# a comment\n")
    assert kept.planned() == {}


def test_nothing_where_the_checkout_moved(kept: Workflow) -> None:
    moved = make_workflow(kept.root, kept.root.parent / "moved")
    # New times of every file, in another order than they were made in, and none of Snakemake's own records.
    shutil.copytree(kept.root / "results", moved.root / "results", symlinks=True, copy_function=shutil.copy)
    shutil.copy(kept.root / "test.yaml", moved.root)
    assert moved.planned() == {}
    assert moved.planned(PAGE) == {}


@pytest.mark.parametrize("target", [None, PAGE])
def test_without_snakemakes_records_receipts_decide(kept: Workflow, target: str | None) -> None:
    targets = [target] if target else []
    shutil.rmtree(kept.root / ".snakemake")
    assert kept.planned(*targets) == {}
    _configure(kept, lambda settings: settings["vamp"].update(iterations=4))
    assert kept.planned(*targets) == {"summarize": 1, "make_report": 1, "measure_performance": 4}
    said = kept.run(*targets, "--dry-run")
    assert "  measure_performance (4 jobs): setting vamp.iterations was 3, is 4\n" in said
    assert re.search(r"^  2 jobs follow from these: ", said, re.MULTILINE)


@pytest.mark.parametrize("lost", ["nothing", ".snakemake", "all but results"])
def test_one_variants_setting_plans_its_chain(kept: Workflow, lost: str) -> None:
    workflow = kept
    if lost == ".snakemake":
        shutil.rmtree(kept.root / ".snakemake")
    elif lost == "all but results":  # copied without times, to another checkout
        workflow = make_workflow(kept.root, kept.root.parent / "moved")
        shutil.copytree(kept.root / "results", workflow.root / "results", symlinks=True, copy_function=shutil.copyfile)
        shutil.copy(kept.root / "test.yaml", workflow.root)
    _configure(workflow, lambda settings: settings["models"]["mnasnet0_5"].update(resize=80))
    jobs = workflow.planned()
    assert jobs == {"write_npz": 1, "summarize": 1, "make_report": 1, "check_parity": 1} | dict.fromkeys(ROW, 2)


def test_one_precision_added_plans_its_row(kept: Workflow) -> None:
    _configure(kept, lambda settings: settings["precisions"].append("fp16"))
    assert kept.planned() == {"summarize": 1, "make_report": 1} | dict.fromkeys(ROW, 2)


def test_a_performance_setting_plans_measurements(kept: Workflow) -> None:
    _configure(kept, lambda settings: settings["vamp"].update(iterations=4))
    assert kept.planned() == {"summarize": 1, "make_report": 1, "measure_performance": 4}


def test_an_edited_function_plans_the_steps_that_use_it_and_is_named(kept: Workflow) -> None:
    file = kept.root / "workflow/mnasbench/result/answers.py"
    _edit_function(file, "write_answers")
    users = {"evaluate_outputs": 4}
    assert kept.planned() == users | {"summarize": 1, "make_report": 1}
    reason = "evaluate_outputs (4 jobs): code: mnasbench/result/answers.py:write_answers changed"
    assert reason in kept.run("--dry-run")
    kept.script("accept.py", "--because", "a test")
    assert kept.planned() == {}


def test_an_edited_message_and_an_unrelated_function_plan_nothing(kept: Workflow) -> None:
    file = kept.root / "workflow/mnasbench/result/evaluation.py"
    text = file.read_text()
    assert "raise " in text
    file.write_text(
        re.sub(r'(raise \w+\(\s*f?")', r"\1Corrected: ", text) + "\n\ndef unrelated() -> None:\n    print()\n"
    )
    errors = kept.root / "workflow/mnasbench/errors.py"
    _edit_function(errors, "one_line")
    assert kept.planned() == {}


def _edit_function(file: Path, name: str) -> None:
    text, edits = re.subn(
        rf"^(def {name}\(.*?:\n)(?=    \S)", r"\1    edited = True\n", file.read_text(), flags=re.M | re.S
    )
    assert edits == 1
    file.write_text(text)


@pytest.mark.parametrize("damage", ["deleted", "cut"])
def test_a_damaged_output_is_made_again(kept: Workflow, damage: str) -> None:
    (graph,) = (kept.root / "results/build/mnasnet0_5/int8-percentile").glob("*/mnasnet0_5.onnx")
    before = graph.read_bytes()
    if damage == "deleted":
        graph.unlink()
    else:
        graph.write_bytes(before[: len(before) // 2])
    jobs = kept.planned()
    assert kept.planned(PAGE) == jobs
    assert jobs["compile_model"] == 1
    assert "export_model" not in jobs and "write_npz" not in jobs
    kept.run()
    assert graph.read_bytes() == before
    assert kept.planned() == {}


def test_a_lost_input_array_is_made_again(kept: Workflow) -> None:
    array = next((kept.root / "results/data/small/npz").rglob("*.npz"))
    array.unlink()
    assert kept.planned()["write_npz"] == 1
    assert "compile_model" not in kept.planned()


def test_a_replaced_image_is_seen(kept: Workflow) -> None:
    image = next((kept.root.parent / "images/val").iterdir())
    Image.new("RGB", (300, 280), (200, 10, 10)).save(image, "JPEG")
    jobs = kept.planned()
    assert jobs["index_dataset"] == 1 and jobs["write_npz"] == 1 and jobs["summarize"] == 1
    assert "export_model" not in jobs
    assert kept.planned(PAGE) == jobs
    said = kept.script("check_config.py", "--configfile", "test.yaml").stdout
    assert f"index_shard-0: the dataset differs from its manifest: val/{image.name}: has changed" in said


def test_a_replaced_calibration_image_is_seen(kept: Workflow) -> None:
    first = (kept.root / "results/data/small/calibration.txt").read_text().splitlines()[0]
    image = (kept.root / "results/data/small" / first).resolve()
    assert image.is_relative_to(kept.root.parent / "source")
    content = bytearray(image.read_bytes())
    content[-40] ^= 1  # the same size: nothing that the listing of the chosen images tells
    image.write_bytes(content)
    jobs = kept.planned()
    assert jobs["sample_calibration"] == 1 and jobs["compile_model"] == 2
    assert "index_dataset" not in jobs and "write_npz" not in jobs


@pytest.mark.parametrize("swapped", ["inputs", "scores"])
def test_answers_of_swapped_images_are_not_given(kept: Workflow, swapped: str) -> None:
    # Two images of a shard, each under the other's name: size and checksum are as they should be.
    folder, reader = {
        "inputs": ("data/small/npz", "run/mnasnet0_5/fp32/scores-0.npz"),
        "scores": ("run/mnasnet0_5/fp32", "result/mnasnet0_5/fp32/answers.csv"),
    }[swapped]
    (file,) = (kept.root / "results" / folder).rglob("*0.npz")
    with np.load(file) as content:
        arrays = dict(content)
    size = file.stat().st_size
    if swapped == "inputs":
        names = [str(name) for name in arrays["names"]]
        names[:2] = names[1::-1]
        with new_shard(file, names, "input_0", arrays["input_0"].shape[1:], np.uint8) as shard:
            shard.add_crc(shard.rows.write(0, arrays["input_0"]), len(names))
    else:
        names = [str(name) for name in arrays["names"]]
        write_scores(file, [names[1], names[0], *names[2:]], arrays["output_0"])
    assert file.stat().st_size == size
    (kept.root / "results" / reader).unlink()
    done = kept.call("mnasnet0_5-fp32")
    assert done.returncode != 0
    assert "was changed after the workflow made it" in done.stdout


def test_replaced_weights_plan_that_variant(kept: Workflow) -> None:
    _weights("mnasnet0_5", 7, kept.root.parent / "mnasnet0_5.pth")
    assert kept.planned() == {"export_model": 1, "summarize": 1, "make_report": 1, "check_parity": 1} | dict.fromkeys(
        ROW, 2
    )


def test_named_targets_regenerate_just_their_rows(kept: Workflow) -> None:
    _configure(kept, lambda settings: settings["vamp"].update(iterations=4))
    assert kept.planned("mnasnet0_5") == {"measure_performance": 2}
    assert kept.planned("mnasnet0_5-int8-percentile") == {"measure_performance": 1}


def test_a_file_changed_under_a_result_is_noticed(kept: Workflow) -> None:
    # The same size and another content: nothing that planning sees, but the step that reads it does.
    exported = kept.root / "results/model/mnasnet0_5/mnasnet0_5_64.onnx"
    content = bytearray(exported.read_bytes())
    content[-100] ^= 1
    exported.write_bytes(content)
    _configure(kept, lambda settings: settings["precisions"].append("fp16"))
    done = kept.call()
    assert done.returncode != 0
    assert "mnasnet0_5_64.onnx: was changed after the workflow made it" in done.stdout
