"""npz files: equal arrays give equal files, and nothing unexpected is let in."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnasbench.data.datalist import write_datalist
from mnasbench.data.layouts import Dataset
from mnasbench.data.manifest import index_dataset
from mnasbench.data.manifest_file import read_manifest
from mnasbench.data.npz import read_npz, read_output, write_npz
from mnasbench.data.npz_inputs import npz_paths, write_npz_inputs
from mnasbench.data.preprocess import decode_rgb, pixels_of
from mnasbench.errors import DatasetError, InputError, MnasbenchError, OutputError
from mnasbench.preprocessing import Preprocessing
from unit.data.image_files import flat_dataset, write_image

PIXELS = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def test_pixels_survive_and_equal_arrays_give_equal_files(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", PIXELS)
    write_npz(tmp_path / "b.npz", PIXELS.copy())
    assert np.array_equal(read_npz(tmp_path / "a.npz"), PIXELS)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz") as content:
        assert content.files == ["input_0"]


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 24), (7,), (), (0, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, ">f2"])
def test_files_are_those_that_numpy_writes(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    for one in (array, array.T.copy().T):
        write_npz(tmp_path / "ours.npz", one, "some_key")
        with np.load(tmp_path / "ours.npz") as content:
            assert np.array_equal(content["some_key"], array) and content["some_key"].dtype == array.dtype
        np.savez(tmp_path / "numpys.npz", some_key=array)
        assert (tmp_path / "ours.npz").read_bytes() == (tmp_path / "numpys.npz").read_bytes()


@pytest.mark.parametrize("compress", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_outputs_of_any_float_are_read_flat(tmp_path: Path, compress, dtype: type) -> None:
    compress(tmp_path / "o.npz", output_0=np.asfortranarray([[1, 2, 3]], dtype=dtype))
    output = read_output(tmp_path / "o.npz")
    assert output.dtype == np.float32
    assert output.tolist() == [1, 2, 3]


def saved(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def zipped(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("input_0.npy", content)
    return stream.getvalue()


def many_members() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(1001):
            archive.writestr(str(number), b"")
    return stream.getvalue()


def header(shape: str, descr: str = "'|u1'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


BAD_INPUTS = {
    "empty": (b"", "not a whole npz"),
    "no zip": (b"PK but no zip", "not a whole npz"),
    "cut": (saved(input_0=PIXELS)[:-40], "not a whole npz"),
    "other key": (saved(input=PIXELS), "has no key input_0, but input"),
    "dtype": (saved(input_0=PIXELS.astype(np.float64)), "float64"),
    "shape": (saved(input_0=PIXELS[0]), r"\(4, 5\)"),
    "channels": (saved(input_0=PIXELS.transpose(1, 2, 0)), r"\(4, 5, 3\)"),
    "pickle": (saved(input_0=np.array([{}], dtype=object)), "claims object"),
    "raw pickle": (zipped(pickle.dumps(PIXELS)), "not a numpy array"),
    "bomb": (zipped(bytes(300_000_000)), "unpacks to 300000000 bytes"),
    "lying header": (zipped(header("(3, 100000, 100000)")), "which its bytes are not"),
    "code in header": (zipped(header("__import__('os').getpid()")), "not a numpy array"),
    "many members": (many_members(), "has more than 1000 members, expected input_0 alone"),
    "negative": (zipped(header("(3, -1, -1)") + b"abc"), "npz|bytes|expected"),
}


@pytest.mark.parametrize("kind", BAD_INPUTS)
def test_what_is_no_input_is_named(tmp_path: Path, kind: str) -> None:
    content, message = BAD_INPUTS[kind]
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=message) as error:
        read_npz(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("values", [[1, np.nan], [np.inf], []])
def test_outputs_that_are_no_scores_are_named(tmp_path: Path, values: list[float]) -> None:
    np.savez(tmp_path / "o.npz", output_0=np.array(values, dtype=np.float32))
    with pytest.raises(DatasetError, match=r"NaN|expected float"):
        read_output(tmp_path / "o.npz")


@given(st.data())
def test_a_spoilt_file_gives_pixels_or_our_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(saved(input_0=PIXELS))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "spoilt.npz"
    path.write_bytes(content)
    try:
        assert read_npz(path).dtype == np.uint8
    except MnasbenchError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("workers", [1, 2])
def test_images_become_npz_files_in_the_manifests_order(tmp_path: Path, workers: int) -> None:
    root = flat_dataset(tmp_path / "data", {f"{index} ü.JPEG": 0 for index in range(40)})
    index_dataset(Dataset(root), tmp_path / "manifest.csv")
    images = read_manifest(tmp_path / "manifest.csv")
    p = Preprocessing(resize=24, crop=20)
    files = write_npz_inputs(root, images, tmp_path / "npz", p, workers=workers)
    assert files == npz_paths(tmp_path / "npz", [image.name for image in images])
    for file, image in zip(files, images, strict=True):
        assert np.array_equal(read_npz(file), pixels_of(root / image.name, p))
    whole = write_npz_inputs(root, images[:2], tmp_path / "whole", None, workers=workers)
    assert np.array_equal(read_npz(whole[1]), decode_rgb(root / images[1].name).transpose(2, 0, 1))


def test_an_image_that_changed_or_vanished_since_it_was_indexed_is_named(tmp_path: Path) -> None:
    root = flat_dataset(tmp_path / "data", {"a.JPEG": 0, "b.JPEG": 0})
    images = index_dataset(Dataset(root), tmp_path / "manifest.csv")
    write_image(root / "val" / "b.JPEG", seed=99)
    with pytest.raises(DatasetError, match=r"b\.JPEG: has changed since it was indexed"):
        write_npz_inputs(root, images, tmp_path / "npz", None, workers=1)
    (root / "val" / "b.JPEG").unlink()
    with pytest.raises(DatasetError, match=r"b\.JPEG: cannot be read"):
        write_npz_inputs(root, images, tmp_path / "npz", None, workers=1)


@pytest.mark.parametrize(("name", "message"), [("a\nb", "line break"), ("a\udcff", "a name in it is not UTF-8")])
def test_a_folder_that_no_list_can_name_is_told(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        write_datalist(tmp_path / "list.txt", [tmp_path / name / "a.npz"])
    assert str(error.value).isprintable() and not (tmp_path / "list.txt").exists()


def test_npz_are_not_written_through_a_link_that_leads_out(tmp_path: Path) -> None:
    root = flat_dataset(tmp_path / "data", {"a.JPEG": 0})
    images = index_dataset(Dataset(root), tmp_path / "manifest.csv", workers=1)
    for folder in ("npz", "outside"):
        (tmp_path / folder).mkdir()
    (tmp_path / "npz/val").symlink_to(tmp_path / "outside")
    with pytest.raises(OutputError, match=r"npz/val: leads out of .*npz by a link"):
        write_npz_inputs(root, images, tmp_path / "npz", None)
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = flat_dataset(tmp_path / "data", {"a.JPEG": 0})
    images = index_dataset(Dataset(root), tmp_path / "manifest.csv")
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match=r"writing 1 npz files needs about \d+\.\d MB there, but 0\.0 MB are free"):
        write_npz_inputs(root, images, tmp_path / "npz", None)
    assert list((tmp_path / "npz").rglob("*.npz")) == []


def test_images_whose_names_differ_in_their_suffix_alone_keep_it(tmp_path: Path) -> None:
    root = flat_dataset(tmp_path / "data", {"a.JPEG": 0, "a.jpg": 0, "b.jpg": 1})
    images = index_dataset(Dataset(root), tmp_path / "manifest.csv")
    files = write_npz_inputs(root, images, tmp_path / "npz", None)
    assert [file.name for file in files] == ["a.JPEG.npz", "a.jpg.npz", "b.npz"]
    with pytest.raises(DatasetError, match=r"/a\.jpg\.npz: two images"):
        npz_paths(tmp_path, ["a.JPEG", "a.jpg", "a.jpg.png"])
