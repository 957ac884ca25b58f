"""Each message that docs/troubleshooting.md quotes is brought about, so that none is quoted that nobody can meet."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from PIL import Image

from made_receipt import made_receipt
from mnasbench.data.available import check_data, check_results
from mnasbench.data.class_order import class_order
from mnasbench.data.layouts import Dataset, labelled
from mnasbench.data.manifest import look_at
from mnasbench.disk_room import require_room
from mnasbench.errors import MnasbenchError
from mnasbench.files import refusal_named, sha256_of_bytes
from mnasbench.model.architecture import create, load
from mnasbench.model.onnx_import import import_onnx
from mnasbench.receipts import FileRecord, write_receipt
from mnasbench.result.results_folder import read_results
from mnasbench.run.interference import Observation, verdict
from mnasbench.settings import load_settings
from mnasbench.weight_shards import require_digest
from unit.model import test_onnx_import as foreign

REPOSITORY = Path(__file__).parents[2]


def _make(*words: str) -> str:
    return subprocess.run(["make", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False).stderr


def _no_environment(folder: Path) -> str:
    """What make says where pip fails, here at once: an environment that has none."""
    python = folder / "python"
    python.write_text('#!/bin/sh\n[ "$1" != -m ] || [ "$2" = venv ]\n')
    python.chmod(0o755)
    (folder / "venv" / "bin").mkdir(parents=True)
    (folder / "venv" / "bin" / "python").symlink_to(python)
    return _make(f"VENV={folder}/venv", f"PYTHON={python}", "check")


def _raised(action: Callable[[], Any]) -> str:
    with pytest.raises(MnasbenchError) as error:
        action()
    return str(error.value)


def _configured(**config: Any) -> str:
    return _raised(lambda: check_data(load_settings({"models": {"mnasnet0_5": {}}} | config)))


def _weights(folder: Path, library: str, name: str, content: Any) -> str:
    if isinstance(content, bytes):
        (folder / "w.pth").write_bytes(content)
    else:
        torch.save(content, folder / "w.pth")
    return _raised(lambda: load(library, name, folder / "w.pth"))


def _own_onnx(folder: Path, content: Any) -> str:
    model = content if isinstance(content, bytes) else content[0]().SerializeToString()
    (folder / "net.onnx").write_bytes(model)
    return _raised(lambda: import_onnx(folder / "net.onnx"))


def _cut_weights(folder: Path) -> bytes:
    torch.save({"a": torch.zeros(999)}, folder / "whole.pth")
    return (folder / "whole.pth").read_bytes()[:3000]


def _cut_image(folder: Path) -> str:
    Image.effect_noise((300, 200), 60).convert("RGB").save(folder / "whole.jpg")
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:5000])
    return look_at(folder, "cut.jpg")[-1]


def _recorded(folder: Path, *command: str) -> str:
    """What record.py says of a step whose input is not what its receipt says."""
    (folder / "in.csv").write_text("edited")
    inputs = ["--inputs", str(folder / "in.csv")] if not command else []
    if inputs:
        made = {str(folder / "in.csv"): FileRecord(4, sha256_of_bytes(b"made"))}
        write_receipt(folder / "in.receipt.json", made_receipt(outputs=made))
    script = [sys.executable, str(REPOSITORY / "workflow/scripts/record.py"), "--receipt", str(folder / "r.json")]
    flags = ["--settings", "{}", "--code", "0", "--log", str(folder / "step-x.log"), *inputs, "--"]
    done = subprocess.run(
        [*script, *flags, *(command or ["true"])], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.stderr


def _not_a_summary(folder: Path) -> str:
    (folder / "summary.csv").touch()
    return _raised(lambda: read_results(folder))


def _disturbed() -> str:
    seen = Observation(10.0, 2, 0.0, 0.31, 0.1, None, None, None, 0.0)
    found = {"windows": {"spread": 0.01}, "littles_law": {"ratio": 1.0}, "requests": 900, "measured_seconds": 10.0}
    return " ".join(verdict(seen, found | {"settings": {"rate": None}})["reasons"])


def _no_results(folder: Path, free: int) -> str:
    """What is said of a folder with so many bytes free, and a file where its results belong."""
    (folder / "results").touch()
    with mock.patch("shutil.disk_usage", lambda _: SimpleNamespace(free=free)):
        return _raised(lambda: check_results(folder))


def _write_to_the_full_device(folder: Path) -> None:
    with refusal_named(folder), Path("/dev/full").open("w") as stream:
        stream.write("x")


def _leading_out(folder: Path) -> str:
    (folder / "labels.csv").write_text("path,label\n../a.JPEG,0\n")
    return _raised(lambda: labelled(Dataset(folder, labels=folder / "labels.csv")))


BROUGHT_ABOUT: dict[str, Callable[[Path], str]] = {
    "mnasbench needs Python 3.11 or newer": lambda folder: _make(f"VENV={folder}/venv", "PYTHON=false", "check"),
    "there is no such file": lambda folder: _make(
        f"VENV={folder}", "CONFIG=nowhere.yaml", "-o", f"{folder}/installed", "run"
    ),
    "expected a number of cores": lambda folder: _make(
        f"VENV={folder}", "CORES=abc", "-o", f"{folder}/installed", "run"
    ),
    "the environment could not be installed": _no_environment,
    "unknown key 'wieghts'; did you mean 'weights'": lambda _: _configured(models={"mnasnet0_5": {"wieghts": "x"}}),
    "holds no images": lambda folder: _configured(
        dataset={"root": str(folder)}, models={"mnasnet0_5": {"weights": "IMAGENET1K_V1"}}
    ),
    "which says neither that they count from 0 nor from 1": lambda _: _raised(lambda: class_order(["1", "3"])),
    "leads out of": _leading_out,
    "demo weights know the demo set's classes only": lambda folder: _configured(dataset={"root": str(folder)}),
    "fewer than calibration.images": lambda _: _configured(calibration={"images": 9999}),
    "is smaller than the crop": lambda _: _configured(models={"mnasnet0_5": {"resize": 200}}),
    "is damaged or no weights file": lambda folder: _weights(folder, "torchvision", "mnasnet1_0", _cut_weights(folder)),
    "is not a plain state dict": lambda folder: _weights(folder, "torchvision", "mnasnet1_0", b"<!doctype html>"),
    "not weights of torchvision mnasnet1_0": lambda folder: _weights(
        folder, "torchvision", "mnasnet1_0", create("torchvision", "mnasnet0_5", 24).state_dict()
    ),
    "is not an ONNX file, or is damaged": lambda folder: _own_onnx(folder, b"hello"),
    "height and width of its input": lambda folder: _own_onnx(folder, foreign.REFUSED["no size"]),
    "say which has the scores, by output": lambda folder: _own_onnx(folder, foreign.REFUSED["two outputs"]),
    "it answers otherwise than alone": lambda folder: _own_onnx(
        folder, foreign.REFUSED["answers that depend on other images"]
    ),
    "is cut short or damaged": _cut_image,
    "was changed after the workflow made it": _recorded,
    "are free, too little to begin with": lambda folder: _no_results(folder, free=1000),
    "are free; make room, or write to another disk": lambda folder: _raised(
        lambda: require_room({folder: 1 << 60}, "this run")
    ),
    "No space left on device": lambda folder: _raised(lambda: _write_to_the_full_device(folder)),
    "cannot be written to; run in a copy": lambda folder: _no_results(folder, free=1 << 40),
    "has a line break or a word in braces": lambda _: _configured(
        dataset={"root": "/data/{year}"}, models={"mnasnet0_5": {"weights": "IMAGENET1K_V1"}}
    ),
    "its SHA-256 is": lambda _: _raised(lambda: require_digest("w.pth", "ab" * 32, "cd" * 32)),
    "cannot be started": lambda folder: _recorded(folder, "vamc-that-is-nowhere"),
    "is not a summary": lambda folder: _not_a_summary(folder),
    "other processes used": lambda _: _disturbed(),
}


def _quoted() -> list[str]:
    return re.findall(r"^\| `([^`]+)`", (REPOSITORY / "docs/troubleshooting.md").read_text(), re.MULTILINE)


def test_every_quoted_message_is_tried_here() -> None:
    assert _quoted() == list(BROUGHT_ABOUT)


@pytest.mark.parametrize("quoted", BROUGHT_ABOUT)
def test_a_quoted_message_is_what_the_tools_say(tmp_path: Path, quoted: str) -> None:
    assert quoted in BROUGHT_ABOUT[quoted](tmp_path)
