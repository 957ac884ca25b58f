"""Answers from outputs: paired by name, ranked by index, added up the same whatever the shards."""

import json
from pathlib import Path, PurePosixPath

import hypothesis.extra.numpy
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eval_imagenet
from mnasbench.data.image_keys import ImageKeys, by_key, image_key
from mnasbench.data.listed import names_of_files
from mnasbench.data.manifest import write_manifest
from mnasbench.data.manifest_file import IndexedImage
from mnasbench.data.npz import write_npz
from mnasbench.data.npz_inputs import npz_paths
from mnasbench.data.shard import write_scores
from mnasbench.errors import DatasetError, InputError, PairingError
from mnasbench.result.answers import Answer, answers_table, is_top1, is_top5, read_answers, write_answers
from mnasbench.result.evaluation import accuracy, evaluate_outputs, held_out_figures
from mnasbench.result.outputs import read_outputs
from mnasbench.result.pairing import labels_of, listed_inputs
from mnasbench.result.statistics import wilson_interval
from mnasbench.run.scores import best_classes


def _folder(folder: Path, scores: dict[str, list[float]]) -> Path:
    """One npz an image."""
    for name, values in scores.items():
        write_npz(folder / f"{name}.npz", np.array(values, np.float32), "output_0")
    return folder


def _shard(path: Path, scores: dict[str, list[float]]) -> Path:
    write_scores(path, [f"val/{name}.JPEG" for name in scores], np.array(list(scores.values()), np.float32))
    return path


_SCORES = hypothesis.extra.numpy.arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(1, 30)), elements=st.floats(-10, 10, width=32)
)


@given(_SCORES)
def test_best_classes_by_brute_force(scores: np.ndarray) -> None:
    expected = [sorted(range(len(row)), key=lambda index: (-row[index], index))[:5] for row in scores.tolist()]
    assert best_classes(scores, 5).tolist() == expected


@pytest.mark.parametrize("form", [_folder, _shard])
def test_answers_and_sqnr(tmp_path: Path, form) -> None:
    mine = form(tmp_path / "int8.npz", {"a": [0.0, 1.0, 2.0], "b": [5.0, 0.0, 0.0]})
    # In another order.
    theirs = form(tmp_path / "fp32.npz", {"b": [5.0, 1.0, 0.0], "a": [0.0, 1.0, 3.0]})
    answers, reference = evaluate_outputs(read_outputs([mine]), {"a": 2, "b": 1}, read_outputs([theirs]))
    assert is_top1(answers).to_list() == [True, False] and is_top5(answers).to_list() == [True, True]
    assert answers[["signal", "noise"]].to_numpy().tolist() == [[10.0, 1.0], [26.0, 1.0]]
    pd.testing.assert_frame_equal(reference, answers_table([Answer("a", 2, (2, 1, 0)), Answer("b", 1, (0, 1, 2))]))
    figures = accuracy(answers, answers_table([Answer("a", 2, (2, 1, 0)), Answer("b", 1, (1, 0, 2))]))
    assert (figures["top1"], figures["top1_drop"], figures["agreement"]) == (50.0, 50.0, 50.0)
    assert figures["lost"] == ["b"]
    assert figures["sqnr_db"] == pytest.approx(10 * np.log10(36 / 2))


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(1, 1001), st.integers(1, 5), st.integers(0, 99))
def test_how_images_are_cut_into_shards_changes_no_bit(
    tmp_path_factory: pytest.TempPathFactory, images: int, classes: int, shards: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("scores")
    generator = np.random.default_rng(seed)
    mine, theirs = generator.normal(size=(2, images, classes)).astype(np.float32)
    names = [f"{number}.JPEG" for number in range(images)]
    labels = {str(number): int(generator.integers(classes)) for number in range(images)}

    def evaluated(parts: list[np.ndarray], what: str) -> pd.DataFrame:
        paths: dict[str, list[Path]] = {"mine": [], "theirs": []}
        for number, part in enumerate(parts):
            for side, scores in (("mine", mine), ("theirs", theirs)):
                paths[side].append(folder / f"{what}-{side}-{number}.npz")
                write_scores(paths[side][-1], [names[i] for i in part], scores[part])
        return evaluate_outputs(read_outputs(paths["mine"]), labels, read_outputs(paths["theirs"]))[0]

    cut = np.array_split(generator.permutation(images), min(shards, images))
    whole = evaluated([np.arange(images)], "whole")
    pd.testing.assert_frame_equal(evaluated(cut, "cut"), whole, check_exact=True)
    # And what one image has by itself, by the plain arithmetic.
    for answer in whole.itertuples():
        row = int(answer.name)
        expected = theirs[row].astype(np.float64)
        assert answer.signal == float(np.square(expected).sum())
        assert answer.noise == float(np.square(expected - mine[row]).sum())


def test_a_missing_output_never_shifts_the_others(tmp_path: Path) -> None:
    outputs = {"a": [1.0, 0.0], "c": [0.0, 1.0]}
    for path in (_folder(tmp_path / "out", outputs), _shard(tmp_path / "s.npz", outputs)):
        with pytest.raises(PairingError, match=r"b: has no output \(1 such of 3\)"):
            evaluate_outputs(read_outputs([path]), {"a": 0, "b": 0, "c": 0})
        with pytest.raises(PairingError, match=r"c(\.JPEG)?: has an output but belongs to no input"):
            evaluate_outputs(read_outputs([path]), {"a": 0})
    both = [tmp_path / "out", tmp_path / "s.npz"]
    with pytest.raises(PairingError, match="a: answered twice"):
        evaluate_outputs(read_outputs(both), {"a": 0, "c": 0})


@pytest.mark.parametrize("theirs", [{"a": [1.0, 0.0]}, {"a": [1.0, 0.0], "b": [0.0, 1.0]}, {}])
def test_a_reference_of_other_images_is_refused(tmp_path: Path, theirs: dict[str, list[float]]) -> None:
    mine = _shard(tmp_path / "mine.npz", {"a": [1.0, 0.0], "c": [0.0, 1.0]})
    reference = [_shard(tmp_path / "theirs.npz", theirs)] if theirs else []
    with pytest.raises(PairingError, match=r"mine\.npz.*: have other images"):
        evaluate_outputs(read_outputs([mine]), {"a": 0, "c": 1}, read_outputs(reference))


def test_a_reference_of_other_classes_is_refused(tmp_path: Path) -> None:
    paths = [_shard(tmp_path / f"{size}.npz", {"a": [0.0] * size}) for size in (2, 3)]
    with pytest.raises(PairingError, match=r"2\.npz: 2 classes, its reference 3"):
        evaluate_outputs(read_outputs(paths[:1]), {"a": 0}, read_outputs(paths[1:]))


def test_a_folder_without_outputs_or_of_two_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PairingError, match="no such outputs"):
        list(read_outputs([tmp_path / "absent"]))
    with pytest.raises(PairingError, match="holds no outputs"):
        list(read_outputs([tmp_path]))
    _folder(tmp_path, {"a": [1.0], "b": [1.0, 2.0]})
    with pytest.raises(PairingError, match=r"b\.npz: has another number of classes than a\.npz"):
        list(read_outputs([tmp_path]))


def test_a_label_out_of_range_is_named(tmp_path: Path) -> None:
    outputs = read_outputs([_folder(tmp_path, {"a": [1.0, 0.0]})])
    with pytest.raises(DatasetError, match="label is class 7, but the model has 2 classes"):
        evaluate_outputs(outputs, {"a": 7})


def test_equal_file_names_in_two_folders_are_two_images(tmp_path: Path) -> None:
    names = ["val/cat/1.jpg", "val/dog/1.jpg", "val/dog/1.png", "val/dog/2.jpg"]
    assert by_key(names) == {name: name for name in names}
    images = ImageKeys(by_key(names))
    for other in (
        {name: name for name in names},
        {f"/elsewhere/{name}": name for name in names},
        {"cat/1": names[0], "/npz/0/val/cat/1.npz": names[0], "dog/1.png.npz": names[2], "2.npz": names[3]},
        {"dog/1.JPEG": None, "1.jpg": None, "cat/2.jpg": None, "bird/1.jpg": None, "3.jpg": None},
    ):
        for name, key in other.items():
            if name in {"dog/1.JPEG", "1.jpg"}:
                with pytest.raises(DatasetError, match=f"^{name}: may be val/"):
                    images.find(name)
            else:
                assert images.find(name) == key
    (tmp_path / "list.txt").write_text("/x/n01/a.npz\n/x/n02/a.npz\n")
    labels = {"val/n01/a.jpg": 3, "val/n02/a.jpg": 4}
    assert labels_of(listed_inputs(tmp_path / "list.txt"), labels, Path("labels.txt")) == labels


def test_a_name_is_the_same_in_composed_and_decomposed_unicode() -> None:
    assert ImageKeys(["val/\u00e9.jpg"]).find("/x/val/e\u0301.npz") == "val/\u00e9.jpg"


def test_an_input_without_label_is_named() -> None:
    with pytest.raises(DatasetError, match=r"b: has no label in labels\.txt"):
        labels_of(["a", "b"], {"a": 1}, Path("labels.txt"))


def test_names_with_odd_characters_keep_their_key() -> None:
    assert by_key(["dir with space/a:b'c\".tar.JPEG"]) == {"a:b'c\".tar": "dir with space/a:b'c\".tar.JPEG"}


# From Python 3.14 on, pathlib takes a point at the end for a suffix.
_NAMES = st.from_regex(r"[^/\0]{1,20}(/[^/\0]{1,20}){0,2}", fullmatch=True)


@given(_NAMES.filter(lambda name: not name.endswith(".")))
def test_a_key_is_the_name_without_folders_and_suffix(name: str) -> None:
    assert image_key(name) == PurePosixPath(name).stem


@given(_NAMES.filter(lambda name: not {".", ".."}.intersection(name.split("/"))))
def test_the_npz_of_an_image_and_its_output_have_the_key_of_the_image(name: str) -> None:
    (made,) = npz_paths(Path("/npz"), [name])
    assert image_key(str(made)) == image_key(names_of_files([made])[0]) == image_key(name)
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
        write_answers(path, answers_table(answers[shard::shards]))
    gathered, whole = read_answers(paths), answers_table(answers)
    pd.testing.assert_frame_equal(gathered, whole, check_exact=True)
    assert accuracy(gathered, gathered) == accuracy(whole, whole)


def test_an_image_in_two_shards_is_an_error(tmp_path: Path) -> None:
    write_answers(tmp_path / "0.csv", answers_table([Answer("a", 0, (0,))]))
    with pytest.raises(PairingError, match="answered twice"):
        read_answers([tmp_path / "0.csv", tmp_path / "0.csv"])


@pytest.mark.parametrize("row", ["a,0,-7,1,2,3,4,,", "a,0,1,1,2,3,4,,", "a,-1,0,1,2,3,4,,"])
def test_classes_that_no_model_gives_are_named(tmp_path: Path, row: str) -> None:
    write_answers(tmp_path / "0.csv", answers_table([]))
    with (tmp_path / "0.csv").open("a") as stream:
        stream.write(row + "\n")
    with pytest.raises(InputError, match=r"0\.csv, line 2: is not an answer"):
        read_answers([tmp_path / "0.csv"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [("removed", "b: has no output"), ("added", "c.JPEG: has an output but"), ("doubled", "a: answered twice")],
)
def test_outputs_that_are_not_the_manifests_end_with_exit_code_2(
    tmp_path: Path, spoil: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [
        IndexedImage(f"val/{name}.JPEG", 1, 8, 8, "RGB", 9, "", 0, fault)
        for name, fault in (("a", ""), ("b", ""), ("d", "is empty"))
    ]
    write_manifest(tmp_path / "manifest.csv", images)
    keys = {"removed": ["a"], "added": ["abc"], "doubled": ["ab", "a"]}[spoil]
    shards = [
        str(_shard(tmp_path / f"{number}.npz", {key: [0.0, 1.0] for key in part})) for number, part in enumerate(keys)
    ]
    files = ["--label", str(tmp_path / "manifest.csv"), "--json", str(tmp_path / "accuracy.json")]
    assert eval_imagenet.main(["--result_path", *shards, *files]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error
    assert not (tmp_path / "accuracy.json").exists()


def test_no_images_is_an_error() -> None:
    with pytest.raises(PairingError, match="no image"):
        accuracy(answers_table([]))


def _answers(right: dict[str, bool]) -> pd.DataFrame:
    return answers_table(Answer(name, 0, (0, 1) if correct else (1, 0)) for name, correct in right.items())


def test_the_figures_without_calibration_images_stand_beside_those_of_all() -> None:
    mine, theirs = _answers({"a": True, "b": True, "c": False, "d": True}), _answers(dict.fromkeys("abcd", True))
    # b and d were calibrated with, x is of another dataset.
    figures = held_out_figures(mine, theirs, {"b", "d", "x"})
    assert figures == {
        "calibration_overlap": 2,
        "held_out": {"images": 2, "top1": 50.0, "top1_drop": 50.0, "agreement": 50.0},
    }
    assert held_out_figures(mine, None, set("abcd")) == {"calibration_overlap": 4, "held_out": {}}
    assert held_out_figures(mine, None, set())["held_out"] == {"images": 4, "top1": 75.0}


def test_calibration_images_are_told_by_their_content_and_may_be_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # c has the content of a file that was chosen from elsewhere, under another name.
    images = [IndexedImage(f"val/{name}.JPEG", 0, 8, 8, "RGB", 9, name * 64, 0, "") for name in "abc"]
    write_manifest(tmp_path / "manifest.csv", images)
    (tmp_path / "calibration.sha256").write_text(f"{'c' * 64}  ../train/1.JPEG\n{'e' * 64}  ../train/2.JPEG\n")
    scores = {"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [1.0, 0.0]}
    arguments = ["--result_path", str(_shard(tmp_path / "0.npz", scores)), "--json", str(tmp_path / "accuracy.json")]
    arguments += ["--label", str(tmp_path / "manifest.csv"), "--calibration", str(tmp_path / "calibration.sha256")]
    assert eval_imagenet.main(arguments) == 0
    figures = json.loads((tmp_path / "accuracy.json").read_text())
    assert (figures["images"], figures["calibration_overlap"], figures["calibration_left_out"]) == (3, 1, 0)
    assert figures["top1"] == pytest.approx(200 / 3) and figures["held_out"] == {"images": 2, "top1": 50.0}

    answers = tmp_path / "answers.csv"
    assert eval_imagenet.main([*arguments, "--split", "--answers", str(answers)]) == 0
    figures = json.loads((tmp_path / "accuracy.json").read_text())
    assert (figures["images"], figures["calibration_overlap"], figures["calibration_left_out"]) == (2, 0, 1)
    assert figures["top1"] == 50.0 and figures["top1_low"] == pytest.approx(100 * wilson_interval(1, 2)[0])
    assert read_answers([answers]).name.to_list() == ["a", "b"]

    digests = "".join(f"{name * 64}  {name}.JPEG\n" for name in "abc")
    (tmp_path / "calibration.sha256").write_text(digests)
    capsys.readouterr()
    assert eval_imagenet.main([*arguments, "--split"]) == 2
    assert "calibration.split leaves no image to judge: all 3" in capsys.readouterr().err
