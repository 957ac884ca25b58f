"""A configuration that is written for a folder and a model passes the check as it is, and says why it is so."""

import io
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import init
from mnasbench.data.available import check_data
from mnasbench.data.contact_sheet import contact_sheet
from mnasbench.files import read_yaml
from mnasbench.model.architecture import create
from mnasbench.plan.early import look_ahead
from mnasbench.preprocessing import Preprocessing
from mnasbench.settings import Settings, load_settings

CLASSES, IMAGES = 3, 15


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net of three classes, and fifteen images of them in class folders."""
    folder = tmp_path_factory.mktemp("made")
    torch.save(create("torchvision", "mnasnet0_5", CLASSES).state_dict(), folder / "net.pth")
    for number in range(IMAGES):
        path = folder / f"photos/val/class_{number % CLASSES}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40 + number, 50), (number, 0, 0)).save(path)
    return folder


def _init(folder: Path, made: Path, data: Path, model: str = "torchvision:mnasnet0_5") -> tuple[Settings, str]:
    """The settings that are written, checked as `make check` does, and their text."""
    output = folder / "mine.yaml"
    weights = [] if model.endswith("ONNX") else ["--weights", str(made / "net.pth")]
    assert init.main(["--data", str(data), "--model", model, *weights, "--output", str(output)]) == 0
    settings = load_settings(read_yaml(output))
    assert look_ahead(settings, check_data(settings))
    assert Image.open(output.with_suffix(".png")).format == "PNG"
    return settings, output.read_text()


def test_class_folders(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings, text = _init(tmp_path, made, made / "photos")
    assert settings["dataset"]["root"] == str(made / "photos") and settings["dataset"]["name"] == "photos"
    assert settings["calibration"]["images"] == 3 and settings["calibration"]["split"] is True
    assert settings.models["mnasnet0_5"].weights == str(made / "net.pth")
    assert "15 images, class folders, 3 classes in the sorted order of their names" in " ".join(text.split())
    assert "images: 3  # one of every class, which is the least" in text
    assert "split: true  # these 3 are not judged, the other 12 are" in text
    assert "# 3 classes; preprocessing of IMAGENET1K_V1" in text
    assert f"make check CONFIG={tmp_path}/mine.yaml" in capsys.readouterr().out


def test_a_label_file_a_csv_and_the_folder_of_images_itself(made: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat/val"
    flat.mkdir(parents=True)
    images = sorted((made / "photos/val").glob("*/*"))
    for image in images:
        shutil.copy(image, flat)
    labels = "".join(f"{image.name} {image.parent.name[-1]}\n" for image in images)
    (tmp_path / "flat/val_label.txt").write_text(labels)
    lines = (f"flat/val/{image.name},{image.parent.name}\n" for image in images)
    (tmp_path / "labels.csv").write_text(f"path,label\n{''.join(lines)}")
    for name, data, root in (
        ("1", tmp_path / "flat", tmp_path / "flat"),
        ("2", flat, tmp_path / "flat"),
        ("3", tmp_path / "labels.csv", tmp_path),
    ):
        folder = tmp_path / name
        folder.mkdir()
        settings, _ = _init(folder, made, data)
        assert settings["dataset"]["root"] == str(root)
    assert settings["dataset"]["labels"] == str(tmp_path / "labels.csv")


def test_names_that_yaml_would_read_otherwise(made: Path, tmp_path: Path) -> None:
    for name in ("it's: a #1 \u00e9\u4e2d", "on", "1_0", "- x", "[a, b]"):
        odd = tmp_path / name
        odd.symlink_to(made / "photos")
        settings, _ = _init(tmp_path, made, odd)
        assert settings["dataset"]["root"] == str(odd)
        (tmp_path / "mine.yaml").unlink()
        (tmp_path / "mine.png").unlink()


def _graph(path: Path, height: int | str, kind: int, normalised: bool) -> None:
    """The mean of each channel, times 3 x 3: a classifier of three classes."""
    constants = {"mean": np.full((1, 3, 1, 1), 127.5, np.float32), "head": np.eye(3, dtype=np.float32)}
    if kind == TensorProto.FLOAT:
        nodes = [helper.make_node("Identity", ["image"], ["x"])]
    else:
        nodes = [helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT)]
    if normalised:
        nodes = [helper.make_node("Sub", ["image", "mean"], ["y"]), helper.make_node("Div", ["y", "mean"], ["x"])]
    nodes += [
        helper.make_node("GlobalAveragePool", [nodes[-1].output[0]], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "head"], ["scores"]),
    ]
    image = helper.make_tensor_value_info("image", kind, ["n", 3, height, height])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "net", [image], [scores], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


@pytest.mark.parametrize(
    ("height", "kind", "normalised", "mean", "std"),
    [
        (64, TensorProto.FLOAT, False, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("h", TensorProto.FLOAT, False, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        (64, TensorProto.FLOAT, True, (0.0, 0.0, 0.0), (1 / 255,) * 3),
        (64, TensorProto.UINT8, False, (0.0, 0.0, 0.0), (1 / 255,) * 3),
    ],
)
def test_an_onnx_file_and_what_it_shows_of_its_images(
    made: Path, tmp_path: Path, height: int | str, kind: int, normalised: bool, mean: object, std: object
) -> None:
    _graph(tmp_path / "net of-mine.ONNX", height, kind, normalised)
    settings, text = _init(tmp_path, made, made / "photos", str(tmp_path / "net of-mine.ONNX"))
    model = settings.models["net_of_mine"]
    assert model.is_onnx and (model.preprocessing.mean, model.preprocessing.std) == (mean, std)
    assert model.size == (64 if height == 64 else 224) and ("size: 224  # a guess" in text) == (height == "h")
    assert "resize, mean, std and colours are a guess" in " ".join(text.replace("#", " ").split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "{made}/nowhere", "--model", "timm:resnet18"], "nowhere is no folder, and no CSV"),
        (
            ["--data", "{made}", "--model", "torchvision:mnasnet0_5"],
            "has val/ in a folder of its own; name .*/photos as dataset.root",
        ),
        (["--data", "{made}/photos", "--model", "resnet18"], "'resnet18' is neither an ONNX file nor timm:<name>"),
        (["--data", "{made}/photos", "--model", "tim:resnet18"], "did you mean 'timm'"),
        (
            ["--data", "{made}/photos", "--model", "{made}/net.pth"],
            "MODEL: .*net.pth is a file, but no .onnx; for weights",
        ),
        (
            ["--data", "{made}/photos", "--model", "timm:resnet18", "--weights", "x.onnx"],
            "x.onnx is an ONNX file; write onnx:",
        ),
        (["--data", "{made}/photos", "--model", "{made}/gone.onnx"], "gone.onnx: "),
        (["--data", "{made}/photos", "--model", "timm:resnet18", "--output", "x.png"], "ends in .yaml"),
        (["--data", "{made}/photos", "--model", "torchvision:mnasnet9"], "has no classifier 'mnasnet9'"),
        (
            ["--data", "{made}/photos", "--model", "torchvision:mnasnet1_0", "--weights", "{made}/net.pth"],
            "these are weights of mnasnet0_5",
        ),
        (["--data", "{made}/photos", "--model", "timm:resnet18", "--output", "a b.yaml"], "give it a plain one"),
        (
            ["--data", "{made}/photos", "--model", "timm:resnet18", "--output", "there.yaml"],
            "there.yaml: is there already",
        ),
        (["--data", "{made}/photos", "--model", "timm:resnet18", "--output", "no/x.yaml"], "no: is no folder to write"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.yaml").write_text("mine")
    assert init.main([word.replace("{made}", str(made)) for word in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line), line
    assert [path.name for path in tmp_path.iterdir()] == ["there.yaml"] and Path("there.yaml").read_text() == "mine"


def test_a_sheet_shows_what_a_net_is_given(made: Path) -> None:
    path = made / "half.png"
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, 64:] = 255
    Image.fromarray(pixels).save(path)
    content = contact_sheet(made, [("half.png", "half")] * 4, Preprocessing(resize=32, crop=32))
    sheet = np.asarray(Image.open(io.BytesIO(content)))
    # The middle of the image, ten times as large: black to the left, white to the right; two rows of cells.
    assert sheet[20:320, 20:160].max() == 0 and sheet[20:320, 192:320].min() == 255
    assert sheet.shape[1] == 3 * 340 and sheet.shape[0] == 2 * 376
