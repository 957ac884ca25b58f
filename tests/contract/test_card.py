"""The whole workflow through the vendor's tools, stood in for by programs that take nothing but what is published."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from checkout import Workflow

# What each generation is asked for, where its compiler leaves its files, and how its vamp names outputs.
GENERATIONS = {
    1: ("2023", "int8-percentile", "mnasnet0_5-int8-percentile-3_64_64-vacc/mnasnet0_5", "name"),
    2: ("current", "int8-mse", "mnasnet0_5/mod", "number"),
}
# The card's own options, as in the vendor's vgg files.
OPTIONS = {
    1: {"compile": {"cluster_mode": 0}},
    2: {
        "compile": {"data_transport_mode": 1, "dense_special_config": [1, 4096, 4096]},
        "quantize": {"calibrate_chunk_by": -1},
        "extra_ops": "softmax",
    },
}


def _rows(card: Workflow) -> dict[str, dict[str, str]]:
    with (card.root / "results/summary.csv").open(newline="") as stream:
        return {row["precision"]: row for row in csv.DictReader(stream)}


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_whole_workflow_through_the_vendors_tools(card: Workflow, settings: dict, generation: int) -> None:
    form, int8, place, outputs = GENERATIONS[generation]
    card.environment["STAND_IN_OUTPUTS"] = outputs
    settings = settings | {
        "precisions": ["fp32", "fp16", int8],
        "vdsp_params": form,
        "vacc": {"generation": generation, **OPTIONS[generation]},
    }
    card.configure(settings)
    card.run()

    rows = _rows(card)
    assert {name: row["engine"] for name, row in rows.items()} == {"fp32": "ort", "fp16": "vacc", int8: "vacc"}
    for name in ("fp16", int8):
        row = rows[name]
        assert (row["images"], row["verdict"], row["latency_p99_us"]) == ("48", "", "")
        assert float(row["throughput_qps"]) > 0 and float(row["latency_avg_us"]) > 0
        # Outputs that belong to other inputs would agree with them by chance only.
        assert float(row["agreement"]) > 80
        if name == int8:
            _check_conditioned(card)
        # Behind a softmax there are no logits to compare.
        assert row["sqnr_db"] == "" if "extra_ops" in OPTIONS[generation] else float(row["sqnr_db"]) > 12

    built = card.root / "results/build/mnasnet0_5" / int8
    asked = yaml.safe_load((built / "build.yaml").read_text())
    section = asked["engine"]["common"] if generation == 1 else asked["backend"]["compile"]
    assert OPTIONS[generation]["compile"].items() <= section.items()
    files = [(built / place).with_name(Path(place).name + suffix) for suffix in (".so", ".json", ".params")]
    assert int(rows[int8]["model_bytes"]) == sum(file.stat().st_size for file in files)
    info = json.loads((built / "model_info.json").read_text())
    assert set(info) == {"model_name", "model_lib_path", "model_graph_path", "model_params_path", "hw_config_file"}
    assert (card.root / info["model_graph_path"]).samefile(files[1])

    run = card.root / "results/run/mnasnet0_5" / int8
    speed = json.loads((run / "performance.json").read_text())
    assert len(speed["digests"]) == 3
    receipts = [json.loads((run / f"{job}.receipt.json").read_text()) for job in ("performance", "scores-0")]
    compiled = f"results/build/mnasnet0_5/{int8}/compiled.json"
    assert receipts[0]["inputs"][compiled] == receipts[1]["inputs"][compiled]
    assert (speed["samples"], speed["requests"]) == (12, 3)

    certificate = json.loads((card.root / "results/result/mnasnet0_5/parity.json").read_text())
    (way,) = certificate["ways"]
    # The workflow resizes as torchvision does; the card's file rounds the means to fp16, which shows in the input.
    assert (way["different_pixels"], way["different_answers"], certificate["images"]) == (0, 0, 48)
    assert 0.01 < way["max_input_difference"] < 0.1

    assert card.planned() == {}
    files[2].unlink()
    assert card.planned()["compile_model"] == 1


def _check_conditioned(card: Workflow) -> None:
    """int8 was compiled from the conditioned graph, and the report has its certificate."""
    folder = card.root / "results/condition/mnasnet0_5"
    certificate = json.loads((folder / "mnasnet0_5_64.condition.json").read_text())
    assert certificate["target"] == "vamc" and certificate["opset"] == 11
    assert {row["kind"] for row in certificate["foreseen"]} == {"symmetric"}
    page = (card.root / "results/report.html").read_text()
    assert "Conditioned graphs" in page and "ask for" in page


PREFIX = "results/build/mnasnet0_5/fp16/mnasnet0_5-fp16-none-3_64_64-vacc/mnasnet0_5"
LIST = "results/data/small/image_lists/resize73-crop64-bilinear-0.txt"
CALL = (
    "-m",
    PREFIX,
    "--vdsp_params",
    "results/build/mnasnet0_5/fp16/vdsp_params.json",
    "--size",
    "64",
    "--json",
    "x.json",
)


@pytest.mark.parametrize(
    ("fault", "more", "message"),
    [
        ("failure", (), "-d 0` ended with exit code 3: vaccrt error: no device"),
        ("no throughput", (), "vamp's report has no 'throughput (qps)'"),
        (
            "missing output",
            ("--datalist", LIST, "--path_output", "out.npz"),
            "vamp wrote 47 outputs for 48 inputs; demo_",
        ),
    ],
)
def test_what_vamp_does_wrong_is_one_line(built: Workflow, fault: str, more: tuple[str, ...], message: str) -> None:
    faulty = replace(built, environment={**built.environment, "STAND_IN_FAULT": fault})
    done = faulty.script("call_vamp.py", *CALL, *more, check=False)
    assert done.returncode == 1
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert done.stdout.startswith(f"$ vamp -m {PREFIX}")
    assert not (built.root / "x.json").exists() and not (built.root / "out.npz").exists()
    assert not list(built.root.glob(".out.*"))


def test_a_failure_is_told_with_its_log(built: Workflow) -> None:
    faulty = replace(built, environment={**built.environment, "STAND_IN_FAULT": "failure"})
    done = faulty.call("results/run/mnasnet0_5/fp16/performance.receipt.json")
    assert done.returncode != 0 and "Traceback" not in done.stdout
    line = (built.root / "results/logs/failures.txt").read_text().splitlines()[0]
    assert line.startswith("measure_performance: call_vamp.py: error: `vamp -m results/build")
    log = line.rpartition("[log: ")[2].removesuffix("]")
    assert "vaccrt error: no device" in (built.root / log).read_text()


@pytest.mark.parametrize(
    ("compiler", "message"),
    [
        ("/opt/nowhere/vamc", "/opt/nowhere/vamc: cannot be started (No such file or directory)"),
        ("true", "mnasnet0_5.so: vamc did not write it (its folder "),
    ],
)
def test_what_the_compiler_does_wrong_is_one_line(built: Workflow, compiler: str, message: str, tmp_path: Path) -> None:
    text = (built.root / "results/build/mnasnet0_5/fp16/build.yaml").read_text()
    file = tmp_path / "build.yaml"
    file.write_text(text.replace("results/build/mnasnet0_5/fp16", str(tmp_path)))
    options = ("--vamc", compiler, "--json", tmp_path / "x.json", "--model_info", tmp_path / "y.json")
    done = built.script("call_vamc.py", file, *options, check=False)
    assert done.returncode == 1
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["build.yaml"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vamp": {"instances": "auto"}}, "vamp.instances: auto is searched on a CPU only"),
        ({"npz": "original"}, "models.mnasnet0_5.resize: 73 is a short side"),
    ],
)
def test_what_the_card_cannot_do_is_told_before_anything_runs(
    card: Workflow, settings: dict, change: dict, message: str
) -> None:
    card.configure(settings | change)
    done = card.call("--dry-run")
    assert done.returncode != 0 and message in done.stdout
