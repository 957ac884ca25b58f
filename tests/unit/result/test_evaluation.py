"""Answers from outputs: paired by name, ranked by index, added up the same whatever the shards."""

from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gather_accuracy
from mnasbench.data.manifest import write_manifest
from mnasbench.data.manifest_file import IndexedImage
from mnasbench.data.npz import write_npz
from mnasbench.data.npz_inputs import npz_path
from mnasbench.errors import DatasetError, InputError, PairingError
from mnasbench.result.evaluation import (
    Answer,
    accuracy,
    by_key,
    evaluate_outputs,
    image_key,
    read_answers,
    write_answers,
)
from mnasbench.result.pairing import find_outputs, labels_of, listed_inputs
from mnasbench.run.accuracy import output_names
from mnasbench.run.scores import best_classes


def _outputs(folder: Path, scores: dict[str, list[float]]) -> dict[str, Path]:
    for name, values in scores.items():
        write_npz(folder / f"{name}.npz", np.array(values, np.float32), "output_0")
    return {name: folder / f"{name}.npz" for name in scores}


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=30))
def test_best_classes_by_brute_force(scores: list[float]) -> None:
    expected = sorted(range(len(scores)), key=lambda index: (-scores[index], index))[:5]
    assert list(best_classes(np.array(scores, np.float32), 5)) == expected


def test_answers_and_sqnr(tmp_path: Path) -> None:
    mine = _outputs(tmp_path / "int8", {"a": [0.0, 1.0, 2.0], "b": [5.0, 0.0, 0.0]})
    theirs = _outputs(tmp_path / "fp32", {"a": [0.0, 1.0, 3.0], "b": [5.0, 1.0, 0.0]})
    first, second = evaluate_outputs(mine, {"a": 2, "b": 1}, theirs)
    assert (first.is_top1, first.is_top5, second.is_top1, second.is_top5) == (True, True, False, True)
    assert (first.signal, first.noise, second.signal, second.noise) == (10.0, 1.0, 26.0, 1.0)
    figures = accuracy([first, second], [first, Answer("b", 1, (1, 0, 2))])
    assert (figures["top1"], figures["top1_drop"], figures["agreement"]) == (50.0, 50.0, 50.0)
    assert figures["lost"] == ["b"]
    assert figures["sqnr_db"] == pytest.approx(10 * np.log10(36 / 2))


def test_a_missing_output_never_shifts_the_others(tmp_path: Path) -> None:
    _outputs(tmp_path / "out", {"a": [1.0, 0.0], "c": [0.0, 1.0]})
    inputs = {name: Path(f"/images/{name}.npz") for name in "abc"}
    with pytest.raises(PairingError, match=r"b\.npz: has no output"):
        find_outputs(tmp_path / "out", inputs)
    del inputs["b"], inputs["c"]
    with pytest.raises(PairingError, match=r"c\.npz: belongs to no input"):
        find_outputs(tmp_path / "out", inputs)


def test_a_label_out_of_range_is_named(tmp_path: Path) -> None:
    outputs = _outputs(tmp_path, {"a": [1.0, 0.0]})
    with pytest.raises(DatasetError, match="label is class 7, but the model has 2 classes"):
        evaluate_outputs(outputs, {"a": 7})


def test_two_inputs_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("/x/n01/a.npz\n/x/n02/a.npz\n")
    with pytest.raises(DatasetError, match="same name"):
        listed_inputs(tmp_path / "list.txt")


def test_an_input_without_label_is_named() -> None:
    with pytest.raises(DatasetError, match=r"b\.npz: has no label"):
        labels_of({"a": Path("a.npz"), "b": Path("b.npz")}, {"a": 1}, Path("labels.txt"))


def test_names_with_odd_characters_keep_their_key() -> None:
    assert by_key(["dir with space/a:b'c\".tar.JPEG"]) == {"a:b'c\".tar": "dir with space/a:b'c\".tar.JPEG"}


# From Python 3.14 on, pathlib takes a point at the end for a suffix.
_NAMES = st.from_regex(r"[^/\0]{1,20}(/[^/\0]{1,20}){0,2}", fullmatch=True)


@given(_NAMES.filter(lambda name: not name.endswith(".")))
def test_a_key_is_the_name_without_folders_and_suffix(name: str) -> None:
    assert image_key(name) == PurePosixPath(name).stem


@given(_NAMES.filter(lambda name: not {".", ".."}.intersection(name.split("/"))))
def test_the_npz_of_an_image_and_its_output_have_the_key_of_the_image(name: str) -> None:
    made = npz_path(Path("/npz"), name)
    assert image_key(str(made)) == image_key(output_names([made])[0]) == image_key(name)
    assert made.parent == Path("/npz", name).parent


_ANSWERS = st.lists(
    st.builds(
        Answer,
        name=st.text(min_size=1, max_size=8).filter(lambda text: text.isprintable()),
        label=st.integers(0, 9),
        classes=st.permutations(range(10)).map(lambda order: tuple(order[:5])),
        signal=st.floats(0, 1e6),
        noise=st.floats(0, 1e3),
    ),
    min_size=1,
    max_size=20,
    unique_by=lambda answer: answer.name,
)


@given(_ANSWERS, st.integers(1, 5))
def test_any_number_of_shards_gives_the_same_figures(
    tmp_path_factory: pytest.TempPathFactory, answers: list[Answer], shards: int
) -> None:
    folder = tmp_path_factory.mktemp("answers")
    paths = [folder / f"{shard}.csv" for shard in range(shards)]
    for shard, path in enumerate(paths):
        write_answers(path, answers[shard::shards])
    gathered = read_answers(paths)
    assert gathered == sorted(answers, key=lambda answer: answer.name)
    whole = sorted(answers, key=lambda answer: answer.name)
    assert accuracy(gathered, gathered) == accuracy(whole, whole)


def test_an_image_in_two_shards_is_an_error(tmp_path: Path) -> None:
    write_answers(tmp_path / "0.csv", [Answer("a", 0, (0,))])
    with pytest.raises(PairingError, match="answered twice"):
        read_answers([tmp_path / "0.csv", tmp_path / "0.csv"])


@pytest.mark.parametrize("row", ["a,0,-7,1,2,3,4,,", "a,0,1,1,2,3,4,,", "a,-1,0,1,2,3,4,,"])
def test_classes_that_no_model_gives_are_named(tmp_path: Path, row: str) -> None:
    write_answers(tmp_path / "0.csv", [])
    with (tmp_path / "0.csv").open("a") as stream:
        stream.write(row + "\n")
    with pytest.raises(InputError, match=r"0\.csv, line 2: is not an answer"):
        read_answers([tmp_path / "0.csv"])


@pytest.mark.parametrize("spoil", ["removed", "other label", "doubled"])
def test_answers_that_are_not_the_manifests_end_with_exit_code_2(tmp_path: Path, spoil: str, capsys) -> None:
    images = [IndexedImage(f"val/{name}.JPEG", 1, 8, 8, "RGB", 9, "", 0, "") for name in "ab"]
    write_manifest(tmp_path / "manifest.csv", images)
    answers = {
        "removed": [Answer("a", 1, (0, 1))],
        "other label": [Answer("a", 1, (0, 1)), Answer("b", 0, (0, 1))],
        "doubled": [Answer("a", 1, (0, 1)), Answer("a", 1, (0, 1))],
    }
    write_answers(tmp_path / "0.csv", answers[spoil])
    files = {"answers": "0.csv", "manifest": "manifest.csv", "json": "accuracy.json"}
    flags = [word for flag, file in files.items() for word in (f"--{flag}", str(tmp_path / file))]
    assert gather_accuracy.main(flags) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and ("answered twice" if spoil == "doubled" else "not those of the manifest") in error
    assert not (tmp_path / "accuracy.json").exists()


def test_no_images_is_an_error() -> None:
    with pytest.raises(PairingError, match="no image"):
        accuracy([])
