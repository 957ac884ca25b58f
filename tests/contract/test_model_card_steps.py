"""Steps of the model card beside the chain: .pt, timm's checkpoint_path, both roads to a result text, label lists."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from card_step import card_step
from mnasbench.data.npz import write_npz
from mnasbench.model.architecture import create


def test_step_1_timm_weights_by_checkpoint_path_and_torchscript(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = create("timm", "mnasnet_small", 7)
    torch.save(net.state_dict(), tmp_path / "small.pth")
    said = card_step(
        "export_timm_torchvision_model",
        *("--model_library", "timm", "--model_name", "mnasnet_small", "--save_dir", tmp_path / "onnx", "--size", "64"),
        *("--checkpoint_path", tmp_path / "small.pth", "--convert_mode", "pt"),
    )
    assert "timm's default" in said  # which preprocessing, and why
    assert said.splitlines()[-1].startswith(f"{tmp_path}/onnx/mnasnet_small_64.pt: ")
    images = torch.randn(1, 3, 64, 64)
    scripted = torch.jit.load(tmp_path / "onnx/mnasnet_small_64.pt")
    with torch.no_grad():
        torch.testing.assert_close(scripted(images), net(images))
    assert json.loads((tmp_path / "onnx/mnasnet_small_64.json").read_text())["classes"] == 7


# As the vendor's list has them (all synonyms of a class) and as torchvision's has them.
LISTS = {
    "vendor": ["tench, Tinca tinca", "crane", "goldfish, Carassius auratus", "crane", "maillot", "maillot, tank suit"],
    "torchvision": ["tench", "crane", "goldfish", "crane bird", "maillot", "maillot tank suit"],
}


@pytest.mark.parametrize("names", LISTS)
def test_step_5_outputs_to_result_text_to_accuracy(tmp_path: Path, names: str) -> None:
    folder = tmp_path / "Image: Net"
    labels = {"a": 3, "b": 1, "c": 0}
    firsts = {"a": 1, "b": 1, "c": 0}  # the first is the other crane: wrong, whatever it is called
    for number, name in enumerate(reversed(labels)):
        scores = np.full(6, 0.01, dtype=np.float16)
        scores[firsts[name]] = 0.9
        write_npz(tmp_path / "out" / f"{name}.npz", scores[np.newaxis], "output_0")
        (folder / "n0").mkdir(parents=True, exist_ok=True)
        (folder / "n0" / f"{name}.npz").write_bytes(bytes([number]))
    (tmp_path / "list.txt").write_text("".join(f"{folder}/n0/{name}.npz\n" for name in labels))
    (tmp_path / "names.txt").write_text("".join(f"{name}\n" for name in LISTS[names]))
    (tmp_path / "val_label.txt").write_text("".join(f"{name}.JPEG {label}\n" for name, label in labels.items()))
    card_step(
        "vamp_npz_decode",
        *(tmp_path / "list.txt", tmp_path / "out", tmp_path / "result.txt", tmp_path / "names.txt"),
    )
    lines = (tmp_path / "result.txt").read_text().splitlines()
    assert len(lines) == 15
    assert lines[0] == f"{folder}/n0/a.npz: Relay top-0 id: 1, prob: 0.89990234, class name: crane"
    said = card_step("eval_topk", tmp_path / "result.txt", "--label", tmp_path / "val_label.txt")
    assert said == "images: 3, top1: 66.667, top5: 100.000\n"


def test_labels_without_an_image_are_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ac":
        write_npz(tmp_path / "out" / f"{name}.npz", np.arange(6, dtype=np.float16)[np.newaxis], "output_0")
    (tmp_path / "list.txt").write_text("/in/a.npz\n/in/c.npz\n")
    (tmp_path / "names.txt").write_text("".join(f"{number}\n" for number in range(6)))
    labels, evaluated = tmp_path / "val_label.txt", tmp_path / "evaluated.json"
    labels.write_text("a.JPEG 5\nb.JPEG 5\nc.JPEG 5\nd.JPEG 5\n")
    card_step("vamp_npz_decode", *(tmp_path / name for name in ("list.txt", "out", "result.txt", "names.txt")))
    of_outputs = ("--result_path", tmp_path / "out", "--datalist", tmp_path / "list.txt", "--label", labels)
    for command, arguments in (
        ("eval_topk", (tmp_path / "result.txt", "--label", labels)),
        ("eval_imagenet", of_outputs),
    ):
        capsys.readouterr()
        said = card_step(command, *arguments, "--json", evaluated)
        assert said == "images: 2, top1: 100.000, top5: 100.000\n"
        assert capsys.readouterr().err == (
            f"{command}.py: {labels}: 2 of its 4 labels have no image here (the first: b); "
            "the accuracies are of the other 2\n"
        )
        assert json.loads(evaluated.read_text())["labels_left_out"] == 2
    labels.write_text("a.JPEG 5\nc.JPEG 5\n")
    card_step("eval_imagenet", *of_outputs, "--json", evaluated)
    assert json.loads(evaluated.read_text())["labels_left_out"] == 0 and capsys.readouterr().err == ""
