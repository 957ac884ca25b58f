"""The whole workflow through the vendor's tools, stood in for by programs that take nothing but what is published."""

import csv
import json
from pathlib import Path

import pytest

from checkout import Workflow

# What each generation is asked for, where its compiler leaves its files, and how its vamp names outputs.
GENERATIONS = {
    1: ("2023", "int8-percentile", "mnasnet0_5-int8-percentile-3_64_64-vacc/mnasnet0_5", "name"),
    2: ("current", "int8-mse", "mnasnet0_5/mod", "number"),
}


def _rows(card: Workflow) -> dict[str, dict[str, str]]:
    with (card.root / "results/summary.csv").open(newline="") as stream:
        return {row["precision"]: row for row in csv.DictReader(stream)}


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_whole_workflow_through_the_vendors_tools(card: Workflow, settings: dict, generation: int) -> None:
    form, int8, place, outputs = GENERATIONS[generation]
    card.environment["STAND_IN_OUTPUTS"] = outputs
    settings |= {"precisions": ["fp32", "fp16", int8], "vdsp_params": form, "vacc": {"generation": generation}}
    card.configure(settings)
    card.run()

    rows = _rows(card)
    assert {name: row["engine"] for name, row in rows.items()} == {"fp32": "ort", "fp16": "vacc", int8: "vacc"}
    for name in ("fp16", int8):
        row = rows[name]
        assert (row["images"], row["verdict"], row["latency_p99_us"]) == ("48", "", "")
        assert float(row["throughput_qps"]) > 0 and float(row["latency_avg_us"]) > 0
        # Outputs that belong to other inputs would agree with them by chance only.
        assert float(row["agreement"]) > 80 and float(row["sqnr_db"]) > 15

    built = card.root / "results/build/mnasnet0_5" / int8
    files = [(built / place).with_name(Path(place).name + suffix) for suffix in (".so", ".json", ".params")]
    assert int(rows[int8]["model_bytes"]) == sum(file.stat().st_size for file in files)
    info = json.loads((built / "model_info.json").read_text())
    assert set(info) == {"model_name", "model_lib_path", "model_graph_path", "model_params_path", "hw_config_file"}
    assert (card.root / info["model_graph_path"]).samefile(files[1])

    run = card.root / "results/run/mnasnet0_5" / int8
    speed, score = (json.loads((run / name).read_text()) for name in ("performance.json", "accuracy-0.json"))
    assert speed["digests"] == score["digests"] and len(speed["digests"]) == 3
    assert (speed["samples"], speed["requests"]) == (12, 3)

    assert card.planned() == {}
    files[2].unlink()
    assert card.planned()["compile_model"] == 1


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("failure", "-b 4 -s [3,64,64] -d 0 --iterations 12` ended with exit code 3: vaccrt error: no device"),
        ("no throughput", "vamp's report has no 'throughput (qps)'"),
        ("missing output", "vamp wrote 47 outputs for 48 inputs"),
    ],
)
def test_what_vamp_does_wrong_is_one_line_with_its_log(card: Workflow, settings: dict, fault: str, told: str) -> None:
    card.environment["STAND_IN_FAULT"] = fault
    card.configure({**settings, "precisions": ["fp16"]})
    done = card.call()
    assert done.returncode != 0
    (line,) = (card.root / "results/logs/failures.txt").read_text().splitlines()[:1]
    assert told in line
    log = Path(line.rpartition("[log: ")[2].removesuffix("]"))
    assert "$ vamp -m results/build" in (card.root / log).read_text()
    assert "Traceback" not in done.stdout


def test_a_missing_compiler_is_told_at_once(card: Workflow, settings: dict) -> None:
    card.configure({**settings, "precisions": ["fp16"], "vacc": {"vamc": "/opt/nowhere/vamc"}})
    done = card.call("results/build/mnasnet0_5/fp16/compile.receipt.json")
    assert done.returncode != 0
    assert "/opt/nowhere/vamc: cannot be started (No such file or directory)" in done.stdout


def test_a_compiler_that_leaves_other_files_is_told(card: Workflow, settings: dict, tmp_path: Path) -> None:
    (tmp_path / "bin/vamc").write_text("#!/bin/sh\nexit 0\n")
    card.configure({**settings, "precisions": ["fp16"]})
    done = card.call("results/build/mnasnet0_5/fp16/compile.receipt.json")
    assert done.returncode != 0
    assert "mnasnet0_5-fp16-none-3_64_64-vacc/mnasnet0_5.so: vamc did not write it" in done.stdout


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"vamp": {"instances": "auto"}}, "vamp.instances: auto is searched on a CPU only"),
        ({"npz": "original"}, "models.mnasnet0_5.resize: 73 is a short side"),
    ],
)
def test_what_the_card_cannot_do_is_told_before_anything_runs(
    card: Workflow, settings: dict, change: dict, told: str
) -> None:
    card.configure(settings | change)
    done = card.call("--dry-run")
    assert done.returncode != 0 and told in done.stdout
