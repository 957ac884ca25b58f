"""Result texts of the vendor's form."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnasbench.errors import DatasetError
from mnasbench.result.answers import is_top1
from mnasbench.result.result_text import answers_from_text, read_result_text


def _text(path: str, classes: list[int], names: list[str] | None = None, first: int = 0) -> str:
    names = names or ["crane"] * len(classes)
    return "".join(
        f"{path}: Relay top-{rank + first} id: {index}, prob: {0.5 / (rank + 1):.8f}, class name: {name}\n"
        for rank, (index, name) in enumerate(zip(classes, names, strict=True))
    )


_PATHS = st.text(min_size=1, max_size=40).map(lambda text: "/v/" + "".join(c for c in text if c.isprintable()) + "x")


@given(_PATHS, st.permutations(range(8)), st.sampled_from([0, 1]))
def test_any_printable_path_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, path: str, order: list[int], first: int
) -> None:
    file = tmp_path_factory.mktemp("text") / "result.txt"
    file.write_text(_text(path, order[:5], first=first), encoding="utf-8")
    assert read_result_text(file) == {path: tuple(order[:5])}


def test_a_path_that_looks_like_an_answer(tmp_path: Path) -> None:
    file = tmp_path / "result.txt"
    path = "/v/a: Relay top-0 id: 3, prob: 0.50000000, class name: b.JPEG"
    file.write_text(_text(path, [1, 2, 3, 4, 5]))
    assert read_result_text(file) == {path: (1, 2, 3, 4, 5)}


def test_classes_are_compared_by_index_not_name(tmp_path: Path) -> None:
    # ImageNet has two classes named crane: 134 is the bird, 517 the machine.
    file = tmp_path / "result.txt"
    file.write_text(_text("/v/a.JPEG", [517, 0, 1, 2, 3]) + _text("/v/b.JPEG", [134, 0, 1, 2, 3]))
    assert is_top1(answers_from_text(file, {"a": 134, "b": 134})).to_list() == [False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no answers"),
        ("/v/a.JPEG 3\n", "line 1: expected"),
        (_text("/v/a.JPEG", [1, 2]) + _text("/v/a.JPEG", [1, 2]), "second top-0"),
        (_text("/v/a.JPEG", [1, 2, 3]).split("\n", 1)[1].split("\n", 1)[1], "lacks some of its ranks"),
    ],
)
def test_a_text_that_is_not_one_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "result.txt"
    file.write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_result_text(file)


def test_windows_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "result.txt"
    file.write_bytes(_text("/v/a.JPEG", [1, 2]).replace("\n", "\r\n").encode())
    assert read_result_text(file) == {"/v/a.JPEG": (1, 2)}
