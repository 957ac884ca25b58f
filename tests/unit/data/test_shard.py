"""Shards: numpy reads what is written, rows may come in any order, and nothing damaged is taken for whole."""

import io
import itertools
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mnasbench.data.datalist import read_datalist
from mnasbench.data.layouts import Dataset
from mnasbench.data.listed import listed_images
from mnasbench.data.manifest import index_dataset
from mnasbench.data.manifest_file import read_manifest
from mnasbench.data.npz import write_npz
from mnasbench.data.npz_inputs import write_input_shard
from mnasbench.data.preprocess import pixels_of
from mnasbench.data.shard import InputShard, is_shard, new_shard, read_scores, write_scores
from mnasbench.errors import DatasetError, MnasbenchError, OutputError
from mnasbench.preprocessing import Preprocessing
from unit.data.image_files import flat_dataset, write_image

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 3, 5, 4), dtype=np.uint8)
NAMES = [f"val/{number} ü.JPEG" for number in range(7)]
SCORES = np.random.default_rng(1).normal(size=(7, 4)).astype(np.float32)


def write_shard(
    path: Path, pixels: np.ndarray = PIXELS, names: list[str] = NAMES, pieces: tuple[int, ...] = ()
) -> Path:
    """A shard of inputs, its rows written from the last piece to the first."""
    bounds = [0, *pieces, len(names)]
    with new_shard(path, names, "input_0", pixels.shape[1:], np.uint8) as shard:
        parts = list(itertools.pairwise(bounds))
        crcs = {part: shard.rows.write(part[0], pixels[slice(*part)]) for part in reversed(parts)}
        for first, last in parts:
            shard.add_crc(crcs[first, last], last - first)
    return path


def test_numpy_reads_a_shard_and_its_pixels_begin_at_a_page(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "0.npz")
    with np.load(path, allow_pickle=False) as content:
        assert content.files == ["names", "input_0"]
        assert content["names"].tolist() == NAMES and np.array_equal(content["input_0"], PIXELS)
    assert zipfile.ZipFile(path).testzip() is None
    offset = path.read_bytes().index(PIXELS.tobytes())
    assert offset % 4096 == 0
    mapped = np.memmap(path, np.uint8, "r", offset, PIXELS.shape)
    assert np.array_equal(mapped, PIXELS)


@given(st.data())
def test_any_order_and_pieces_give_the_same_file_and_the_rows_again(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    pieces = tuple(sorted(data.draw(st.sets(st.integers(1, 6)))))
    path = write_shard(folder / "pieces.npz", pieces=pieces)
    assert path.read_bytes() == write_shard(folder / "whole.npz").read_bytes()
    shard = InputShard(path)
    buffer = np.empty((7, 3, 5, 4), np.uint8)
    bounds = [0, *sorted(data.draw(st.sets(st.integers(1, 6)))), 7]
    for first, last in data.draw(st.permutations(list(itertools.pairwise(bounds)))):
        assert np.array_equal(shard.rows(first, last, buffer), PIXELS[first:last])
        assert np.array_equal(shard.rows(first, last), PIXELS[first:last])
    shard.require_whole()


@given(arrays.arrays(np.float32, arrays.array_shapes(min_dims=2, max_dims=2), elements=st.floats(-9, 9, width=32)))
def test_scores_survive(tmp_path_factory: pytest.TempPathFactory, scores: np.ndarray) -> None:
    path = tmp_path_factory.getbasetemp() / "scores.npz"
    names = [str(number) for number in range(len(scores))]
    write_scores(path, names, scores)
    found, read = read_scores(path)
    assert found == names and np.array_equal(read, scores)
    with np.load(path, allow_pickle=False) as content:
        assert np.array_equal(content["output_0"], scores) and content["output_0"].dtype == np.float32


def test_what_numpy_writes_with_names_first_is_a_shard(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", names=np.array(NAMES), input_0=PIXELS)
    assert is_shard(tmp_path / "own.npz")
    assert np.array_equal(InputShard(tmp_path / "own.npz").rows(2, 5), PIXELS[2:5])
    write_npz(tmp_path / "one.npz", PIXELS[0])
    assert not is_shard(tmp_path / "one.npz") and not is_shard(tmp_path / "absent.npz")


def test_a_shard_of_more_than_four_gigabytes_has_its_rows_where_numpy_looks(tmp_path: Path) -> None:
    # Sparse: the disk holds the two rows that are written, the checksum is that of zeros between them.
    count, row = 4400, np.full((1, 3, 600, 600), 7, np.uint8)
    with new_shard(tmp_path / "0.npz", [str(n) for n in range(count)], "input_0", row.shape[1:], np.uint8) as shard:
        for number in (0, count - 1):
            shard.rows.write(number, row)
        shard.done = count
    assert (tmp_path / "0.npz").stat().st_size > 1 << 32
    with zipfile.ZipFile(tmp_path / "0.npz") as archive:
        assert archive.getinfo("input_0.npy").file_size > 1 << 32
    shard_of_inputs = InputShard(tmp_path / "0.npz")
    assert np.array_equal(shard_of_inputs.rows(count - 1, count), row)


def saved(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def packed(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


LISTED = np.array(NAMES)
BAD_SHARDS = {
    "empty": (b"", "is not a whole shard"),
    "one image": (saved(input_0=PIXELS[0]), "has no names where a shard has it"),
    "names last": (saved(input_0=PIXELS, names=LISTED), "has no names where a shard has it"),
    "another key": (saved(names=LISTED, output_0=SCORES), "has no input_0 where a shard has it"),
    "more": (saved(names=LISTED, input_0=PIXELS, other=PIXELS), "has more than names and input_0"),
    "packed": (packed(names=LISTED, input_0=PIXELS), "packed or encrypted"),
    "cut": (saved(names=LISTED, input_0=PIXELS)[:-400], "is not a whole shard"),
    "floats": (saved(names=LISTED, input_0=PIXELS.astype(np.float64)), "expected uint8"),
    "one channel": (saved(names=LISTED, input_0=PIXELS[:, :1]), r"\(7, 1, 5, 4\), expected uint8"),
    "no images": (saved(names=LISTED[:0], input_0=PIXELS[:0]), "0 different names for"),
    "Fortran order": (saved(names=LISTED, input_0=np.asfortranarray(PIXELS)), "which its bytes are not"),
    "doubled": (saved(names=np.array([*NAMES[:6], NAMES[0]]), input_0=PIXELS), "6 different names for"),
    "too few names": (saved(names=LISTED[:3], input_0=PIXELS), "3 different names for"),
    "nameless": (saved(names=np.array(["", *NAMES[1:]]), input_0=PIXELS), "different names for"),
    "bytes": (saved(names=np.array([b"a"] * 7), input_0=PIXELS), r"names that are \|S1"),
    "half a letter": (saved(names=np.array([*NAMES[:6], "\ud800"]), input_0=PIXELS), "names that are no text"),
    "pickle": (saved(names=np.array([{}], dtype=object), input_0=PIXELS), "claims object"),
}


@pytest.mark.parametrize("kind", BAD_SHARDS)
def test_what_is_no_shard_is_named(tmp_path: Path, kind: str) -> None:
    content, message = BAD_SHARDS[kind]
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=message) as error:
        InputShard(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_damaged_pixel_or_score_or_name_is_seen(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "0.npz")
    whole = path.read_bytes()
    at = whole.index(PIXELS.tobytes())
    path.write_bytes(whole[: at + 70] + bytes([whole[at + 70] ^ 1]) + whole[at + 71 :])
    shard = InputShard(path)
    for row in range(7):
        shard.rows(row, row + 1)
    with pytest.raises(DatasetError, match=r"0\.npz: has a damaged input_0 \(its checksum differs\)"):
        shard.require_whole()
    at = whole.index("ü".encode("utf-32-le"))
    path.write_bytes(whole[:at] + b"u" + whole[at + 1 :])
    with pytest.raises(DatasetError, match="damaged names"):
        InputShard(path)
    write_scores(path, NAMES, SCORES)
    whole = path.read_bytes()
    at = whole.index(SCORES.tobytes())
    path.write_bytes(whole[: at + 3] + bytes([whole[at + 3] ^ 1]) + whole[at + 4 :])
    with pytest.raises(DatasetError, match="damaged output_0"):
        read_scores(path)


def test_a_part_of_the_rows_is_not_the_whole(tmp_path: Path) -> None:
    shard = InputShard(write_shard(tmp_path / "0.npz"))
    shard.rows(0, 3)
    with pytest.raises(DatasetError, match="checksum"):
        shard.require_whole()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_named(tmp_path: Path, value: float) -> None:
    write_scores(tmp_path / "s.npz", ["a"], np.array([[1.0, value]], np.float32))
    with pytest.raises(DatasetError, match="NaN or infinity"):
        read_scores(tmp_path / "s.npz")


@given(st.data())
def test_a_spoilt_shard_gives_pixels_or_our_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = write_shard(tmp_path_factory.getbasetemp() / "spoilt.npz", PIXELS[:2], NAMES[:2])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        shard = InputShard(path)
        assert shard.rows(0, len(shard.names)).dtype == np.uint8
        shard.require_whole()
    except MnasbenchError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("workers", [1, 3])
def test_images_become_a_shard_in_the_manifests_order(tmp_path: Path, workers: int) -> None:
    root = flat_dataset(tmp_path / "data", {f"{index} ü.JPEG": 0 for index in range(60)})
    index_dataset(Dataset(root), tmp_path / "manifest.csv")
    images = read_manifest(tmp_path / "manifest.csv")
    p = Preprocessing(resize=24, crop=20)
    write_input_shard(root, images, tmp_path / "npz" / "0.npz", p, workers=workers)
    shard = InputShard(tmp_path / "npz" / "0.npz")
    assert shard.names == [image.name for image in images]
    for pixels, image in zip(shard.rows(0, 60), images, strict=True):
        assert np.array_equal(pixels, pixels_of(root / image.name, p))
    shard.require_whole()


def test_an_image_that_changed_leaves_no_shard(tmp_path: Path) -> None:
    root = flat_dataset(tmp_path / "data", {"a.JPEG": 0, "b.JPEG": 0})
    images = index_dataset(Dataset(root), tmp_path / "manifest.csv")
    write_image(root / "val" / "b.JPEG", seed=99)
    with pytest.raises(DatasetError, match=r"b\.JPEG: has changed since it was indexed"):
        write_input_shard(root, images, tmp_path / "npz" / "0.npz", Preprocessing(resize=24, crop=20), workers=1)
    assert list((tmp_path / "npz").iterdir()) == []


def test_a_disk_that_will_not_hold_a_shard_is_told_before_it_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = flat_dataset(tmp_path / "data", {"a.JPEG": 0})
    images = index_dataset(Dataset(root), tmp_path / "manifest.csv")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(OutputError, match="writing 1 images needs"):
        write_input_shard(root, images, tmp_path / "npz" / "0.npz", Preprocessing(resize=24, crop=20))
    assert not (tmp_path / "npz" / "0.npz").exists()


def test_a_list_may_name_shards_and_single_images(tmp_path: Path) -> None:
    write_shard(tmp_path / "many.npz")
    write_npz(tmp_path / "one.npz", PIXELS[3])
    (tmp_path / "list.txt").write_text("one.npz\nmany.npz\n")
    images = listed_images(read_datalist(tmp_path / "list.txt"))
    assert [image.name for image in images] == [f"{tmp_path.parent.name}/{tmp_path.name}/one", *NAMES]
    assert np.array_equal(np.stack([image.pixels() for image in images]), PIXELS[[3, *range(7)]])
    assert [str(image.path) for image in images[:2]] == [str(tmp_path / "one.npz"), NAMES[0]]
