"""The data stage's commands by hand: the vendor's flags, one line and exit code 2 where something is wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import image2npz
import index_dataset
import make_demo
import sample_calibration
import train_demo
import valprep
from mnasbench.data.manifest_file import read_manifest
from mnasbench.data.npz import read_npz
from mnasbench.data.preprocess import decode_rgb, pixels_of
from mnasbench.preprocessing import Preprocessing
from unit.data.image_files import foldered_dataset

SCRIPTS = [image2npz, index_dataset, make_demo, sample_calibration, train_demo, valprep]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return foldered_dataset(tmp_path / "data", {"n01440764": 3, "n15075141": 2})


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_help_says_what_a_command_does(script, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        script.main(["--help"])
    assert script.__doc__.splitlines()[0] in capsys.readouterr().out


def test_the_model_cards_command_writes_whole_images(root: Path, tmp_path: Path) -> None:
    target, listed = tmp_path / "npz", tmp_path / "npz_datalist.txt"
    flags = ["--dataset_path", str(root / "val"), "--target_path", str(target), "--text_path", str(listed)]
    assert image2npz.main(flags) == 0
    files = [Path(line) for line in listed.read_text().splitlines()]
    assert files[0] == target / "n01440764" / "n01440764_0.npz"
    assert len(files) == 5
    whole = decode_rgb(root / "val" / "n01440764" / "n01440764_0.JPEG").transpose(2, 0, 1)
    assert np.array_equal(read_npz(files[0]), whole)


def test_shards_together_are_the_manifest(root: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    assert index_dataset.main(["--root", str(root), "--manifest", str(manifest), "--shards", "2"]) == 0
    flags = ["--dataset_path", str(root), "--manifest", str(manifest), "--target_path", str(tmp_path / "npz")]
    listed = []
    for shard in ("0", "1"):
        text = tmp_path / f"{shard}.txt"
        geometry = ["--resize", "40", "50", "--crop", "32", "--interpolation", "bicubic"]
        assert image2npz.main([*flags, "--shard", shard, "--text_path", str(text), *geometry]) == 0
        listed += text.read_text().splitlines()
    names = [image.name for image in read_manifest(manifest)]
    assert sorted(listed) == sorted(str(tmp_path / "npz" / Path(name).with_suffix(".npz")) for name in names)
    p = Preprocessing((40, 50), 32, "bicubic")
    for name in names:
        pixels = pixels_of(root / name, p)
        assert np.array_equal(read_npz((tmp_path / "npz" / name).with_suffix(".npz")), pixels)


def test_calibration_wants_the_classes_of_the_dataset(root: Path, tmp_path: Path, capsys) -> None:
    other = foldered_dataset(tmp_path / "other", {"n01440764": 3})
    flags = [
        "--classes_root",
        str(root),
        "--images",
        "2",
        "--list",
        str(tmp_path / "list.txt"),
        "--folder",
        str(tmp_path / "set"),
    ]
    assert sample_calibration.main([*flags, "--root", str(root)]) == 0
    assert len((tmp_path / "list.txt").read_text().splitlines()) == 2
    assert sample_calibration.main([*flags, "--root", str(other)]) == 2
    assert "has no image of 1 classes: 999" in capsys.readouterr().err


def test_exactly_the_images_of_a_list_are_kept(root: Path, tmp_path: Path) -> None:
    target, other = tmp_path / "npz", tmp_path / "npz" / "gone" / "other.npz"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"of another list")
    flags = ["--dataset_path", str(root / "val"), "--target_path", str(target), "--text_path", str(tmp_path / "list")]
    assert image2npz.main(flags) == 0
    assert other.exists()
    assert image2npz.main([*flags, "--exact"]) == 0
    assert len(list(target.rglob("*.npz"))) == 5
    assert not other.parent.exists()


def test_valprep_and_back(root: Path, tmp_path: Path) -> None:
    target = ["--target_path", str(tmp_path / "out")]
    assert valprep.main(["--dataset_path", str(root), *target]) == 0
    assert len(list((tmp_path / "out" / "val").rglob("*.JPEG"))) == 5
    assert valprep.main(["--undo", *target]) == 0
    assert list((tmp_path / "out").iterdir()) == []


WRONG: dict[str, tuple[Callable[[list[str]], int], list[str], str]] = {
    "crop alone": (image2npz.main, ["--crop", "224"], "belong together"),
    "three sizes": (image2npz.main, ["--resize", "1", "2", "3", "--crop", "1"], "expected a number of pixels"),
    "crop too large": (image2npz.main, ["--resize", "200", "--crop", "224"], "smaller than the crop of 224"),
    "two ways": (image2npz.main, ["--preprocessing", "{}", "--crop", "9"], "exclude each other"),
    "an unknown key": (image2npz.main, ["--preprocessing", '{"croop": 9}'], "did you mean 'crop'"),
    "both": (image2npz.main, ["--resize", "9", "--crop", "9", "--original"], "exclude each other"),
    "shard alone": (image2npz.main, ["--shard", "0"], "needs --manifest"),
    "no images": (image2npz.main, [], "cannot be listed"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_arguments_are_one_line(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    main, flags, message = WRONG[kind]
    places = ["--dataset_path", str(tmp_path / "no"), "--target_path", str(tmp_path / "t"), "--text_path"]
    assert main([*places, str(tmp_path / "list.txt"), *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "list.txt").exists()


def test_a_shard_that_the_manifest_has_not_writes_no_empty_list(root: Path, tmp_path: Path, capsys) -> None:
    manifest, listed = tmp_path / "manifest.csv", tmp_path / "list.txt"
    assert index_dataset.main(["--root", str(root), "--manifest", str(manifest)]) == 0
    flags = ["--dataset_path", str(root), "--target_path", str(tmp_path / "t"), "--text_path", str(listed)]
    capsys.readouterr()
    assert image2npz.main([*flags, "--manifest", str(manifest), "--shard", "7"]) == 2
    assert "no images to convert" in capsys.readouterr().err
    assert not listed.exists() and not (tmp_path / "t").exists()


@pytest.mark.parametrize("name", ["mnasnet0_6", "nonet"])
def test_an_unknown_model_is_told_before_anything_is_done(tmp_path: Path, name: str, capsys) -> None:
    flags = ["--model_library", "torchvision", "--model_name", name, "--dataset_path", str(tmp_path)]
    assert train_demo.main([*flags, "--save_path", str(tmp_path / "w.pth")]) == 2
    assert f"has no classifier '{name}'" in capsys.readouterr().err
