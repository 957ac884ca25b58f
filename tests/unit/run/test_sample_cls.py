"""sample_cls.py called as the vendor's scripts of 2023 and of 2025 are, and what it leaves where."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sample_cls
from card_step import card_step
from mnasbench.build.vdsp_params import vdsp_params
from mnasbench.preprocessing import Preprocessing
from mnasbench.result.result_text import read_result_text


@pytest.fixture
def base(compiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments that both versions share, with three images in two class folders."""
    monkeypatch.chdir(tmp_path)
    for number, place in enumerate(("n0/a", "n0/b", "n1/a")):
        path = tmp_path / "val" / f"{place}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (50, 60, 3), dtype=np.uint8)).save(path)
    (tmp_path / "names.txt").write_text("".join(f"class {number}\n" for number in range(10)))
    (tmp_path / "vdsp.json").write_text(json.dumps(vdsp_params(Preprocessing(resize=40, crop=32), "2023")))
    return ["--label_txt", "names.txt", "--vdsp_params_info", "vdsp.json", "--model_prefix_path", str(compiled.prefix)]


NAMES = ("model_lib_path", "model_graph_path", "model_params_path")
CALL_2025 = ("--infer_mode", "sync", "--file_path", "val", "--device", "0")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--save_dir", "./infer_output", "--save_result_txt", "result.txt"), "infer_output/result.txt"),
        (("--save_dir", "./infer_output", "--save_result_txt", "other.txt"), "infer_output/other.txt"),
        (("--save_dir", "infer_output"), "infer_output/result.txt"),
        ((), "output/result.txt"),
        (("--save_dir", "out/net_result.txt"), "out/net_result.txt"),  # as the model card of 2023 has it
        (("--save_dir", "val"), "val/result.txt"),  # a folder that is there
    ],
)
def test_the_result_text_lies_where_the_vendors_does(base: list[str], arguments: tuple[str, ...], text: str) -> None:
    said = card_step("sample_cls", *base, *CALL_2025, *arguments)
    assert said == f"{text}: 3 images\n"
    answers = read_result_text(Path(text))
    assert list(answers) == ["val/n0/a.JPEG", "val/n0/b.JPEG", "val/n1/a.JPEG"]
    assert all(len(classes) == 5 for classes in answers.values())


def test_a_single_image_gets_a_text_of_its_own(base: list[str]) -> None:
    said = card_step("sample_cls", *base, "--file_path", "val/n0/b.JPEG", "--save_dir", "out")
    assert said.count("Relay top-") == 5 and said.endswith("out/b.txt: 1 image\n")
    image, count, first, *_ = Path("out/b.txt").read_text().splitlines()
    assert (image, count) == ("n0/b", "10")
    label, probability = first.split("  ")
    best = said.splitlines()[0]
    assert (
        best.endswith(f"class name: {label}") and abs(float(best.split("prob: ")[1][:10]) - float(probability)) < 1e-3
    )
    assert not Path("out/result.txt").exists()
    # Where the text is named, it holds the five lines, as ever.
    card_step("sample_cls", *base, "--file_path", "val/n0/b.JPEG", "--save_dir", "one.txt")
    assert list(read_result_text(Path("one.txt"))) == ["val/n0/b.JPEG"]


def test_the_call_of_2023(base: list[str], compiled) -> None:
    files = {f"model_{role}_path": f"{compiled.prefix}.{suffix}" for role, suffix in (("lib", "so"), ("graph", "json"))}
    Path("info.json").write_text(json.dumps({**files, "model_params_path": f"{compiled.prefix}.params"}))
    said = card_step(
        "sample_cls",
        *(*base[:4], "--model_info", "info.json", "--device_id", "0", "--task", "run", "--topk", "3"),
        *("--file_path", "val/n1/a.JPEG"),
    )
    assert [line.partition(": Relay ")[2][:5] for line in said.splitlines()] == ["top-0", "top-1", "top-2"]
    assert not Path("output").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--task", "run", "--file_path", "val"), "--task run is about one image, but val is a folder"),
        (("--save_dir", "names.txt", "--save_result_txt", "a.txt"), "names.txt is a file, and --save_result_txt"),
        (("--label_txt", "short.txt"), "short.txt: names 2 classes, but the model has 10"),
        (("--file_path", "vall"), "vall"),
    ],
)
def test_what_is_wrong_is_one_line(
    base: list[str], arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("short.txt").write_text("a\nb\n")
    assert sample_cls.main([*base, "--file_path", "val", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


@pytest.mark.parametrize(
    "content", [[], {}, {"model_lib_path": "a.so"}, dict.fromkeys(NAMES, ""), dict.fromkeys(NAMES, 1)]
)
def test_a_model_info_that_is_none_is_told(
    base: list[str], content: object, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("info.json").write_text(json.dumps(content))
    assert sample_cls.main(["--model_info", "info.json", "--file_path", "val"]) == 2
    assert "info.json: is no model_info of one model, expected model_lib_path" in capsys.readouterr().err
