"""Another workflow uses this one with `module:`, and what catalogs and citations read is in order."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
import yaml

from checkout import Workflow
from mnasbench.data.demo import make_demo
from mnasbench.files import read_yaml
from mnasbench.model.architecture import create

MAIN = """
configfile: "settings.yaml"


module mnasbench:
    snakefile:
        "../checkout/Snakefile"
    config:
        config["benchmark"]


use rule * from mnasbench as mnasbench_*


rule ship:
    default_target: True
    input:
        rules.mnasbench_all.input.summary,
    output:
        "shipped.csv",
    shell:
        "cp {input} {output}"
"""


@pytest.fixture
def other(workflow: Workflow) -> Path:
    """The folder of another workflow, with settings for a small dataset."""
    folder = workflow.root.parent / "other"
    make_demo(folder / "images", validation=24, training=24, seed=1, workers=2)
    torch.save(create("torchvision", "mnasnet0_5", 24).state_dict(), folder / "weights.pth")
    settings = {
        "dataset": {"name": "small", "root": "images"},
        "calibration": {"images": 24},
        "models": {"mnasnet0_5": {"weights": "weights.pth", "size": 64}},
        "precisions": ["fp32", "int8-max"],
        "shards": 2,
    }
    # What the other workflow configures for itself is its own business, whatever its name.
    (folder / "settings.yaml").write_text(yaml.safe_dump({"benchmark": settings, "models": "of another kind"}))
    (folder / "Snakefile").write_text(MAIN)
    return folder


def _snakemake(workflow: Workflow, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snakemake", *arguments, "--cores", "2", "--nocolor"]
    return subprocess.run(command, cwd=folder, env=workflow.environment, capture_output=True, text=True, check=False)


def test_another_workflow_uses_this_one_as_a_module(workflow: Workflow, other: Path) -> None:
    planned = _snakemake(workflow, other, "--dry-run")
    said = planned.stdout + planned.stderr
    assert planned.returncode == 0, said
    counts = {
        line.split()[0]: line.split()[1]
        for line in said.splitlines()
        if line.startswith("mnasbench_") and line.split()[-1].isdigit()
    }
    assert (counts["mnasbench_run_accuracy"], counts["mnasbench_compile_model"]) == ("4", "2")
    assert "\nship" in said
    done = _snakemake(workflow, other, "results/data/small/calibration.txt", "results/data/small/manifest.csv")
    assert done.returncode == 0, done.stderr
    assert len((other / "results/data/small/manifest.csv").read_text().splitlines()) == 1 + 24
    assert not (workflow.root / "results").exists()
    (other / "settings.yaml").write_text("benchmark: {models: {mnasnet05: {}}}\n")
    wrong = _snakemake(workflow, other, "--dry-run")
    assert wrong.returncode == 2 and "did you mean 'mnasnet0_5'" in wrong.stderr


def test_what_catalogs_and_citations_read(repository: Path) -> None:
    catalog = read_yaml(repository / ".snakemake-workflow-catalog.yml")
    assert set(catalog["usage"]) == {"mandatory-flags", "software-stack-deployment", "report"}
    readme = (repository / "README.md").read_text().lower()
    # The catalog's own conditions for being listed.
    assert "snakemake" in readme and "workflow" in readme and (repository / "config/README.md").is_file()
    citation = read_yaml(repository / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    assert (citation["title"], str(citation["version"])) == (project["name"], project["version"])
    assert citation["license"] in (repository / "LICENSE").read_text().splitlines()[0]
    assert f"## {project['version']}" in (repository / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("name", ["config.yaml", "imagenet.yaml", "vacc.yaml"])
def test_editors_find_the_schema(repository: Path, name: str) -> None:
    first = (repository / "config" / name).read_text().splitlines()[0]
    mark, _, schema = first.partition("=")
    assert mark == "# yaml-language-server: $schema"
    assert read_yaml(repository / "config" / schema)["title"] == "mnasbench configuration"
