"""Labels by class folders, for a result text that names images in them."""

from pathlib import Path

import pytest

import eval_topk
from mnasbench.data.class_order import ClassRule
from mnasbench.errors import DatasetError
from mnasbench.result.pairing import labels_of_folders


def _text(path: Path, images: list[Path], first: int) -> Path:
    lines = [
        f"{image}: Relay top-{rank} id: {first + rank}, prob: 0.1, class name: x\n"
        for image in images
        for rank in range(5)
    ]
    path.write_text("".join(lines))
    return path


def test_class_folders_give_a_result_texts_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [tmp_path / f"val/{folder}/{number}.JPEG" for folder in ("2", "10") for number in range(2)]
    for name in ("0", "1", "2", "10"):
        (tmp_path / "val" / name).mkdir(parents=True)
    assert eval_topk.main([str(_text(tmp_path / "result.txt", images, first=10))]) == 0
    said = capsys.readouterr()
    assert "top1: 50.000" in said.out
    assert "no label file; 4 class folders by their numbers, 0 to 10" in said.err


def test_one_folder_is_no_class(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="lies in no class folder; name the label file with --label"):
        labels_of_folders([tmp_path / "val/a.JPEG", tmp_path / "val/b.JPEG"], ClassRule())


WNIDS = ["n01440764", "n02102040", "n02979186"]


@pytest.mark.parametrize(
    ("folders", "first", "flags", "said"),
    [
        (WNIDS, [0, 217, 482], [], "top1: 100.000"),  # a net of ImageNet's classes
        (WNIDS, [0, 1, 2], [], "top1: 100.000"),  # no answer above 2: a net of these three
        (WNIDS, [0, 1, 2], ["--classes", "imagenet"], "top1: 33.333"),
        (["ant", "cat", "dog"], [0, 1, 2], [], "top1: 100.000"),
        (["ant", "cat", "dog"], [0, 1, 7], [], "but an answer is class 7, so the model has others"),
        (WNIDS, [0, 1, 1000], [], "but an answer is class 1000"),
    ],
)
def test_folders_are_numbered_as_the_answers_are(
    tmp_path: Path,
    folders: list[str],
    first: list[int],
    flags: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = [
        f"/another/machine/val/{folder}/1.JPEG: Relay top-0 id: {index}, prob: 0.9, class name: x\n"
        for folder, index in zip(folders, first, strict=True)
    ]
    (tmp_path / "result.txt").write_text("".join(lines))
    eval_topk.main([str(tmp_path / "result.txt"), *flags])
    captured = capsys.readouterr()
    assert said in captured.out + captured.err


def test_the_label_file_near_the_images_is_that_of_their_layout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "val/images").mkdir(parents=True)
    (tmp_path / "wnids.txt").write_text("n02102040\nn01440764\n")
    (tmp_path / "val/val_annotations.txt").write_text("a.JPEG\tn02102040\t0\t0\t1\t1\nb.JPEG\tn01440764\t0\t0\t1\t1\n")
    images = [tmp_path / "val/images" / name for name in ("a.JPEG", "b.JPEG")]
    assert eval_topk.main([str(_text(tmp_path / "result.txt", images, first=0))]) == 0
    assert "images: 2, top1: 50.000" in capsys.readouterr().out
