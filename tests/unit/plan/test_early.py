"""What would end a run in its middle is told before its first job, in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mnasbench.data.available import check_data
from mnasbench.errors import DatasetError, MnasbenchError, SettingsError
from mnasbench.model.architecture import create
from mnasbench.plan.early import look_ahead
from mnasbench.settings import load_settings

CLASSES = 3


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net of three classes."""
    path = tmp_path_factory.mktemp("weights") / "net.pth"
    torch.save(create("torchvision", "mnasnet0_5", CLASSES).state_dict(), path)
    return path


@pytest.fixture
def look(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Look ahead at a configuration of three class folders with an image each, with some settings changed."""
    monkeypatch.chdir(tmp_path)
    for index in range(CLASSES):
        (tmp_path / f"images/val/class_{index}").mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(tmp_path / f"images/val/class_{index}/{index}.JPEG")

    def look(rules: set[str] | None = None, model: dict[str, Any] | None = None, **changes: Any) -> list[str]:
        config: dict[str, Any] = {
            "dataset": {"name": "small", "root": "images"} | changes.pop("dataset", {}),
            "models": {"m": {"name": "mnasnet0_5", "weights": str(weights)} | (model or {})},
            "calibration": {"images": CLASSES},
        }
        settings = load_settings(config | changes)
        return look_ahead(settings, check_data(settings), rules)

    return look


def test_what_is_right_has_a_line_for_each_model(look: Callable[..., list[str]]) -> None:
    (line,) = look()
    assert line.startswith("models.m: 3 classes")
    assert look({"make_report"}) == []  # nothing is looked at for what does not run


def _damaged(folder: Path, weights: Path) -> None:
    (folder / "images/val/class_1/1.JPEG").write_bytes(b"\xff\xd8\xff no image")


def _text(folder: Path, weights: Path) -> None:
    (folder / "images/val/class_2/notes.JPEG").write_text("no image")


def _not_finite(folder: Path, weights: Path) -> None:
    state = torch.load(weights, weights_only=True)
    next(iter(state.values())).view(-1)[0] = float("nan")
    torch.save(state, folder / "nan.pth")


CARD = {"engine": "vacc", "vamp": {"instances": 8}, "precisions": ["fp16"]}


@pytest.mark.parametrize(
    ("before", "settings", "message"),
    [
        (_damaged, {}, r"^images: 1 of 3 images that were looked at cannot be used \(mend .*class_1/1.JPEG "),
        (_text, {}, r"^images: 1 of 4 images .*notes.JPEG is not an image"),
        (_text, {"rules": {"export_model"}, "model": {"weights": "nan.pth"}}, "weights: nan.pth does not exist"),
        (_not_finite, {"model": {"weights": "nan.pth"}}, r"^models.m: nan.pth: .* holds values that are not finite"),
        (None, {"model": {"sha256": "0" * 64}}, r"^models.m: .*net.pth: its SHA-256 is .* these are other weights"),
        (None, {"model": {"name": "mnasnet0_75"}}, r"^models.m: .*these are weights of mnasnet0_5"),
        (None, {**CARD, "vacc": {"vamc": "no-such-vamc"}}, r"^vacc.vamc: no-such-vamc is no command on this machine"),
    ],
)
def test_what_is_wrong_is_one_line(
    look: Callable[..., list[str]],
    tmp_path: Path,
    weights: Path,
    before: Callable[[Path, Path], None] | None,
    settings: dict[str, Any],
    message: str,
) -> None:
    if before is not None:
        before(tmp_path, weights)
    with pytest.raises(MnasbenchError, match=message) as error:
        look(**settings)
    assert "\n" not in str(error.value) and error.value.exit_code == 2


def test_images_that_may_be_left_out_are_not_refused(look: Callable[..., list[str]], tmp_path: Path) -> None:
    _text(tmp_path, tmp_path)
    assert look(dataset={"on_fault": "exclude"})


def test_code_of_ones_own_is_tried_and_sizes_are_looked_at(look: Callable[..., list[str]], tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text("import numpy as np\ndef prepare(image):\n    return np.zeros((3, 64, 48), np.float32)\n")
    (line,) = look(model={"preprocess": "own.py:prepare", "size": [64, 48]})
    assert "but with your own size, preprocess: made by own.py:prepare, 64 x 48" in line
    gave = r"m\.preprocess: images/val/.*JPEG: own\.py:prepare: gave float32 \(3, 64, 48\), expected .*224"
    with pytest.raises(SettingsError, match=gave):
        look({"write_npz"}, model={"preprocess": "own.py:prepare"})
    with pytest.raises(SettingsError, match=r"models\.m\.preprocess: gone\.py does not exist"):
        look(model={"preprocess": "gone.py:prepare"})
    look({"write_npz"}, model={"resize": "none", "size": 40})
    look({"write_npz"}, model={"resize": "none", "crop": 32})
    for entry, least in (({"resize": "none", "size": 32}, ""), ({"resize": "none", "crop": 48}, "at least ")):
        with pytest.raises(
            DatasetError, match=rf"models\.m: images/val/class_\d/\d\.JPEG is 40 x 40 .* takes {least}\d"
        ):
            look({"write_npz"}, model=entry)
