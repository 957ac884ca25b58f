"""ort-vamc foresee as a user calls it: an ONNX and folders of images in, a table and JSON out, one line for a mistake."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from mnasbench.commands import ort_vamc
from unit.build.nets import small_mnasnet

KINDS = ("--kind", "symmetric", "--kind", "power-of-two")


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """A small net, and folders of images: calib/ and judge/ with the classes of judge/ in judge.txt."""
    onnx.save(small_mnasnet(), tmp_path / "net.onnx")
    random = np.random.default_rng(0)
    for part in ("calib", "judge"):
        (tmp_path / part).mkdir()
        for number in range(10):
            pixels = random.integers(0, 256, (24, 24, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / part / f"{number}.png")
    (tmp_path / "judge.txt").write_text("".join(f"{number}.png {number}\n" for number in range(10)))
    return tmp_path / "net.onnx"


def arguments(net: Path, *more: str) -> list[str]:
    folder = net.parent
    return ["foresee", str(net), "--calibration", str(folder / "calib"), *KINDS, *more]


def test_the_table_has_a_row_a_mode_and_says_which_to_ask_for(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = net.parent
    judged = ("--judge", str(folder / "judge"), "--labels", str(folder / "judge.txt"))
    file = folder / "foreseen.json"
    assert ort_vamc.main(arguments(net, *judged, "--conditioned", str(net), "--json", str(file))) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("fp32: top-1 ") and first.endswith("of 10 images")
    assert lines[0].split()[:4] == ["kind", "mode", "raw:", "top-1"] and "conditioned: SQNR dB" in lines[0]
    assert [line.split()[:2] for line in lines[1:6]] == [
        *(["symmetric", mode] for mode in ("percentile", "max", "kl_divergence", "mse")),
        ["power-of-two", "max"],
    ]
    assert lines[6].startswith("symmetric: ") and "conv_" in lines[8]
    content = json.loads(file.read_text())
    rows = [row for row in content["rows"] if row["kind"] == "symmetric"]
    best = max(rows, key=lambda row: row["sqnr_db"])
    assert content["advice"]["symmetric"]["mode"] == best["mode"]
    # The same file in both places answers the same.
    assert rows[0]["sqnr_db"] == rows[4]["sqnr_db"] and rows[0]["top1"] == rows[4]["top1"]


def test_without_other_images_one_in_five_is_judged(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ort_vamc.main(arguments(net)) == 0
    # Two of ten: agreement is 0, 50 or 100 %.
    assert {line.split()[2] for line in capsys.readouterr().out.splitlines()[1:6]} <= {"0.0", "50.0", "100.0"}
    assert ort_vamc.main(arguments(net, "--images", "4")) == 2
    assert "one image in five" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (("--labels", "judge.txt"), "--labels needs --judge"),
        (("--kind", "symetric"), "did you mean 'symmetric'"),
        (("--preprocessing", "{"), "is no JSON object"),
        (("--preprocessing", '{"resize": 32, "crop": 32}'), "takes 16 x 16 pixels"),
        (("--conditioned", "missing.onnx"), "missing.onnx"),
    ],
)
def test_a_mistake_is_one_line(net: Path, more: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ort_vamc.main(arguments(net, *more)) == 2
    said = capsys.readouterr().err
    assert line in said and said.count("\n") == 1
