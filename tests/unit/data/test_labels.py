"""Label files of both forms: what is taken, and which line is named where one is wrong."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnasbench.data.image_keys import composed
from mnasbench.data.labels import read_labels
from mnasbench.errors import MnasbenchError


def label_file(folder: Path, content: bytes, name: str = "labels.txt") -> Path:
    path = folder / name
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
    assert read_labels(label_file(tmp_path, content)).classes == {"a.JPEG": 0, "b c.JPEG": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"a.JPEG 0\na.JPEG 1\n", r"line 2: a\.JPEG stands twice \(first in line 1\)"),
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
        read_labels(label_file(tmp_path, content))
    assert "labels.txt" in str(error.value)


def test_wordnet_ids_keep_imagenets_indices(tmp_path: Path) -> None:
    content = b"a.JPEG n01443537\nb.JPEG n15075141\n"
    assert read_labels(label_file(tmp_path, content)).classes == {"a.JPEG": 1, "b.JPEG": 999}


@pytest.mark.parametrize(
    ("content", "classes"),
    [
        (b"path,label\na.JPEG,0\nb c.JPEG,1\n", {"a.JPEG": 0, "b c.JPEG": 1}),
        (
            b'\xef\xbb\xbfwidth,label, path\r\n9,0,"a, b.JPEG"\r\n9, 1 ,"c ""d"".JPEG"',
            {"a, b.JPEG": 0, 'c "d".JPEG': 1},
        ),
        (b"path,label\na,cat\nb,dog\nc,ant\n", {"a": 1, "b": 2, "c": 0}),
        (b"path,label\n\na,n15075141\nb,n01443537\n", {"a": 999, "b": 1}),
    ],
)
def test_a_csv_is_read(tmp_path: Path, content: bytes, classes: dict[str, int]) -> None:
    assert read_labels(label_file(tmp_path, content, "labels.CSV")).classes == classes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"a.JPEG,0,x\n", "line 1: the column 'path' is missing in the header"),
        (b"pth,label\na,0\n", "line 1: the column 'path' is missing in the header; did you mean 'pth'"),
        (b"path,label,path\na,0,b\n", "line 1: the column 'path' stands twice"),
        (b"path,label\n", "names no image"),
        (b"path,label\na,0\na,1\n", r"line 3: a stands twice \(first in line 2\)"),
        (b"path,label\na,0\nb,cat\n", "line 3: 'cat' is not a class index"),
        (b"path,label\na,cat\nb,0\n", "line 3: '0' is not a class name"),
        (b"path,label\na,n01440764\nb,cat\n", "line 3: 'cat' is not a WordNet id"),
        (b"path,label\na,-1\nb,0\n", "line 3: '0' is not a class name"),
        (b"path,label\na,0\nb\n", "line 3: has 1 columns, but the header 2"),
        (b"path,label\na, b.JPEG,0\n", "line 2: has 3 columns, but the header 2; put a text with a comma in quotes"),
        (b"path,label\na,\n", "line 2: has no label"),
        (b"path,label\n,1\n", "line 2: has no path"),
        (b'path,label\n"a"b,1\n', "line 2: "),
        (b"path,label\n\xff,1\n", "is not UTF-8"),
    ],
)  # fmt: skip
def test_a_wrong_line_of_a_csv_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(MnasbenchError, match=message) as error:
        read_labels(label_file(tmp_path, content, "labels.csv"))
    assert "labels.csv" in str(error.value) and str(error.value).isprintable()


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), min_size=1, max_size=20)


@given(rows=st.dictionaries(names, st.integers(0, 999), min_size=1), ends=st.sampled_from(["\n", "\r\n"]))
def test_any_csv_that_pythons_writer_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[str, int], ends: str
) -> None:
    rows = {composed(name): label for name, label in rows.items()}
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=ends)
    writer.writerow(["label", "note", "path"])
    writer.writerows([label, "x, y", name] for name, label in rows.items())
    path = label_file(tmp_path_factory.getbasetemp(), text.getvalue().encode(), "any.csv")
    assert read_labels(path).classes == rows


@given(content=st.binary(max_size=200), name=st.sampled_from(["labels.txt", "labels.csv"]))
def test_no_content_gives_anything_but_labels_or_our_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    path = label_file(tmp_path_factory.getbasetemp(), b"path,label\n" + content if "csv" in name else content, name)
    try:
        assert all(0 <= index < 1_000_000 for index in read_labels(path).classes.values())
    except MnasbenchError as error:
        assert "\n" not in str(error)


def test_numbers_with_a_point_are_no_names(tmp_path: Path) -> None:
    # pandas writes a column of integers so where one is missing; as texts 10.0 stands before 2.0.
    table = tmp_path / "labels.csv"
    table.write_text("path,label\na.jpg,2.0\nb.jpg,10.0\n")
    with pytest.raises(MnasbenchError, match=r"labels\.csv: classes are numbers, but 10\.0 is no class index"):
        read_labels(table)
