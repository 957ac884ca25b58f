"""Label files and class orders: what is taken, and which line is named where one is wrong."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnasbench.data.labels import class_order, imagenet_wnids, read_class_names, read_labels
from mnasbench.errors import DatasetError, MnasbenchError


def label_file(folder: Path, content: bytes) -> Path:
    path = folder / "labels.txt"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"a.JPEG 0\nb c.JPEG 1\n",
        b"a.JPEG 0\r\nb c.JPEG 1\r\n",
        b"\xef\xbb\xbfa.JPEG\t0\n\nb c.JPEG  1",
    ],
)
def test_line_ends_marks_and_spaces_are_taken(tmp_path: Path, content: bytes) -> None:
    assert read_labels(label_file(tmp_path, content), classes=2) == {"a.JPEG": 0, "b c.JPEG": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"a.JPEG 0\na.JPEG 1\n", r"line 2: a\.JPEG stands twice \(first in line 1\)"),
        (b"a.JPEG 0\nb.JPEG 2\n", r"line 2: class 2 is outside 0\.\.1"),
        (b"a.JPEG 0\nb.JPEG -1\n", r"line 2: '-1' is not a class index"),
        (b"a.JPEG 0\nb.JPEG 1.0\n", r"line 2: '1\.0' is not a class index"),
        (b"a.JPEG 0\nb.JPEG n01440764\n", "line 2: 'n01440764' is not a class index"),
        (b"a.JPEG\n", "line 1: 'a.JPEG' is not '<image name> <class>'"),
        (b"a.JPEG n01440764\nb.JPEG n0144\n", "line 2: 'n0144' is not a WordNet id"),
        (b"a.JPEG \xff\n", "is not UTF-8"),
        (b"a.JPEG 99999999999999999999\n", "line 1"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(MnasbenchError, match=message) as error:
        read_labels(label_file(tmp_path, content), classes=2)
    assert "labels.txt" in str(error.value)


def test_wordnet_ids_keep_imagenets_indices(tmp_path: Path) -> None:
    content = b"a.JPEG n01443537\nb.JPEG n15075141\n"
    assert read_labels(label_file(tmp_path, content)) == {"a.JPEG": 1, "b.JPEG": 999}


def test_imagenet_has_a_thousand_sorted_ids() -> None:
    ids = imagenet_wnids()
    assert len(ids) == 1000
    assert ids == sorted(ids)


def test_other_class_folders_are_ranked_and_a_file_overrules(tmp_path: Path) -> None:
    assert class_order(["dog", "cat"]) == {"cat": 0, "dog": 1}
    names = tmp_path / "wnids.txt"
    names.write_text("dog\ncat\nbird\n")
    assert class_order(["dog", "cat"], names) == {"dog": 0, "cat": 1, "bird": 2}
    with pytest.raises(DatasetError, match=r"wnids\.txt: lacks fish"):
        class_order(["fish"], names)
    names.write_text("dog\ndog\n")
    with pytest.raises(DatasetError, match="dog stands twice"):
        class_order(["dog"], names)


def test_class_names_may_be_shared_but_not_empty(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(b"\xef\xbb\xbfcrane\r\ncrane\r\n\r\n")
    assert read_class_names(path) == ["crane", "crane"]
    path.write_text("crane\n\nheron\n")
    with pytest.raises(DatasetError, match="line 2 is empty"):
        read_class_names(path)
    path.write_text("\n")
    with pytest.raises(DatasetError, match="is empty"):
        read_class_names(path)


@given(st.binary(max_size=200))
def test_no_content_gives_anything_but_labels_or_our_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = label_file(tmp_path_factory.getbasetemp(), content)
    try:
        assert all(0 <= index < 10 for index in read_labels(path, classes=10).values())
    except MnasbenchError as error:
        assert "\n" not in str(error)


def test_only_a_line_end_ends_a_class_name(tmp_path: Path) -> None:
    # Python's splitlines ends lines at these as well, and every later class would get another's name.
    (tmp_path / "classes.txt").write_text("a\u2028b\nc\x0cd\ne\x85f\n", encoding="utf-8")
    assert read_class_names(tmp_path / "classes.txt") == ["a\u2028b", "c\x0cd", "e\x85f"]
