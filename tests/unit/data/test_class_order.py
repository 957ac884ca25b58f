"""Which class has which index, and why: one function decides it, and a guess is called one."""

from pathlib import Path

import pytest

from mnasbench.data.class_names import read_class_names
from mnasbench.data.class_order import ClassRule, class_order, imagenet_wnids, require_outputs
from mnasbench.errors import DatasetError


@pytest.mark.parametrize(
    ("names", "first", "reason"),
    [
        # ImageNet-V2's folders: in the order of texts, 10 would come before 2
        ([str(number) for number in range(24)], [0, 1, 2], "by their numbers, 0 to 23"),
        (["00", "01", "02", "10"], [0, 1, 2, 10], "by their numbers, 0 to 10"),
        (["0", "2", "10"], [0, 2, 10], "by their numbers"),
        ([str(number) for number in range(1, 13)], [0, 1, 2], "1 to 12, the first being class 0"),
    ],
)
def test_numbered_classes_are_in_the_order_of_numbers(names: list[str], first: list[int], reason: str) -> None:
    order = class_order(names)
    assert [order.indices[name] for name in names][: len(first)] == first
    assert order.is_guess and reason in order.reason


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["1", "3"], "numbered from 1 to 3 with 2 numbers, .* give dataset.wnids"),
        (["2", "3"], "numbered from 2 to 3"),
        (["0.0", "2.0", "10.0"], r"classes are numbers, but 0\.0 is no class index"),
        (["-1", "0", "1"], "classes are numbers, but -1 is no class index"),
        (["1", "01"], "names two of them"),
    ],
)
def test_numbers_that_say_nothing_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        class_order(names)


def test_a_part_of_imagenet_keeps_its_indices_and_that_is_a_guess() -> None:
    order = class_order(["n01443537", "n15075141"])
    assert order.indices == {"n01443537": 1, "n15075141": 999}
    assert order.is_guess and not class_order(imagenet_wnids()).is_guess


def test_imagenet_has_a_thousand_sorted_ids() -> None:
    ids = imagenet_wnids()
    assert len(ids) == 1000
    assert ids == sorted(ids)


def test_other_class_folders_are_ranked_and_a_file_overrules(tmp_path: Path) -> None:
    ranked = class_order(["dog", "cat"])
    assert (ranked.indices, ranked.is_guess) == ({"cat": 0, "dog": 1}, True)
    names = tmp_path / "wnids.txt"
    names.write_text("dog\ncat\nbird\n")
    ordered = class_order(["dog", "cat"], ClassRule(names))
    assert (ordered.indices, ordered.is_guess) == ({"dog": 0, "cat": 1, "bird": 2}, False)
    with pytest.raises(DatasetError, match=r"wnids\.txt: lacks fish"):
        class_order(["fish"], ClassRule(names))
    names.write_text("dog\ndog\n")
    with pytest.raises(DatasetError, match="dog stands twice"):
        class_order(["dog"], ClassRule(names))


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


def test_only_a_line_end_ends_a_class_name(tmp_path: Path) -> None:
    # Python's splitlines ends lines at these as well, and every later class would get another's name.
    (tmp_path / "classes.txt").write_text("a\u2028b\nc\x0cd\ne\x85f\n", encoding="utf-8")
    assert read_class_names(tmp_path / "classes.txt") == ["a\u2028b", "c\x0cd", "e\x85f"]


def test_numbers_within_names_are_sorted_as_texts_and_that_is_said() -> None:
    order = class_order(["class_1", "class_2", "class_10", "²"])
    assert order.indices == {"class_1": 0, "class_10": 1, "class_2": 2, "²": 3}
    assert "as texts (class_10 before class_2)" in order.reason and order.is_guess
    assert "as texts" not in class_order(["a1b", "a2", "b10"]).reason


def test_numbers_with_gaps_and_a_net_of_just_as_many_classes_want_a_file() -> None:
    # As a net for upside-down lines has them, 0 and 180: its order of classes is not known.
    with pytest.raises(
        DatasetError, match=r"models\.m has 2 classes, 0 to 1; give dataset\.wnids, a file of the 2 names"
    ):
        require_outputs(class_order(["0", "180"]), {"models.m": 2}, "set: class folders")
