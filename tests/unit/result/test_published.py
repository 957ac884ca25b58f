"""Published figures: of weights that exist, and torchvision's as torchvision says them."""

import csv
import json
from pathlib import Path

import pytest
import yaml

import mnasbench.result
from mnasbench.presets import preset

POINTS = json.loads((Path(mnasbench.result.__file__).parent / "published.json").read_text())["points"]


def test_every_point_is_of_weights_that_are_published_and_says_its_source() -> None:
    for point in POINTS:
        published = preset(point["library"], point["model"], point["weights"])
        assert published.entry == point["weights"] and published.classes == 1000
        assert point["source"] and 0 < point["top1"] < (point["top5"] or 100)
        if point["source"] == "VastModelZOO":
            assert point["where"].endswith(".md") and point["device"] == "VACC"


def test_no_figure_stands_there_twice() -> None:
    keys = ("library", "model", "weights", "size", "source", "device", "precision")
    identities = [tuple(point[key] for key in keys) for point in POINTS]
    assert len(set(identities)) == len(identities)


@pytest.mark.parametrize("point", [p for p in POINTS if p["source"] == "torchvision"], ids=lambda p: p["model"])
def test_torchvisions_figures_are_those_of_its_weights(point: dict) -> None:
    published = preset("torchvision", point["model"], point["weights"])
    assert (point["top1"], point["top5"], point["size"]) == (published.top1, published.top5, published.size)


def test_every_net_of_the_zoo_has_its_publishers_figure(repository: Path) -> None:
    models = yaml.safe_load((repository / "config/zoo.yaml").read_text())["models"]
    named = {
        point["model"] if point["library"] == "torchvision" else f"{point['model']}.{point['weights']}"
        for point in POINTS
        if point["precision"] == "fp32"
    }
    assert set(models) <= named


def test_the_zoos_benchmark_knows_its_nets(repository: Path) -> None:
    models = yaml.safe_load((repository / "config/zoo.yaml").read_text())["models"]
    with (repository / "benchmarks/zoo.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["model"] for row in rows] == list(models)
    # torchvision's counts are those of its weights.
    assert [bool(row["published_gmacs"]) for row in rows] == [m["library"] == "timm" for m in models.values()]
