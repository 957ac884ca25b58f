"""Labels by class folders, for a result text that names images in them."""

from pathlib import Path

import pytest

import eval_topk
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
        labels_of_folders([tmp_path / "val/a.JPEG", tmp_path / "val/b.JPEG"])
