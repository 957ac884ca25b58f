"""What counts as an image file: Pillow's own suffixes of the formats that are decoded, and nothing that a system leaves."""

from pathlib import Path

import pytest
from PIL import Image

from mnasbench.build.calibration_images import find_images
from mnasbench.data.image_files import FORMATS, has_image_suffix, images_among, is_hidden
from mnasbench.data.listing import folders_in, walk
from mnasbench.data.manifest import look_at_folder
from mnasbench.errors import DatasetError
from unit.data.image_files import write_image


def test_suffixes_are_pillows_own() -> None:
    Image.init()
    of_pillow = {suffix: form for suffix, form in Image.registered_extensions().items() if form in FORMATS}
    assert {suffix: form for form, suffixes in FORMATS.items() for suffix in suffixes} == of_pillow
    assert set(FORMATS) <= set(Image.OPEN) and not {"EPS", "WMF", "MPEG"} & set(FORMATS)


@pytest.mark.parametrize("suffix", [".PNG", ".jpg", ".JPEG", ".webp", ".tif", ".bmp", ".gif", ".jp2", ".avif", ".tga"])
def test_a_suffix_says_image_in_any_case_and_is_decoded(tmp_path: Path, suffix: str) -> None:
    assert has_image_suffix(f"val/a b{suffix}")
    Image.new("RGB", (20, 30), (200, 10, 10)).save(tmp_path / f"a{suffix}")
    (image,) = look_at_folder(tmp_path, 1)
    assert (image.width, image.height, image.fault) == (20, 30, "")


def test_names_without_suffix_are_images_where_no_other_is() -> None:
    assert images_among(["a.jpg", "README", "b.PNG", "c.txt"]) == (["a.jpg", "b.PNG"], ["README", "c.txt"])
    assert images_among(["0a1b", "notes.txt"]) == (["0a1b"], ["notes.txt"])
    assert images_among([".jpg", "x/.png"]) == ([".jpg", "x/.png"], [])  # hidden ones are never asked about


def test_what_systems_leave_is_passed_over_and_counted(tmp_path: Path) -> None:
    junk = ["Thumbs.db", ".DS_Store", "@eaDir/a.jpg", "__MACOSX/b.jpg", "cat/.ipynb_checkpoints/c.jpg", "desktop.ini"]
    for name in ("cat/1.jpg", *junk):
        write_image(tmp_path / name)
    hidden: list[str] = []
    assert [name for name, _ in walk(tmp_path, hidden=hidden)] == ["cat/1.jpg"]
    assert len(hidden) == len(junk) and all(is_hidden(name.rpartition("/")[2]) for name in hidden)
    assert folders_in(tmp_path) == ["cat"]


def test_calibration_takes_every_image_or_those_of_a_suffix(tmp_path: Path) -> None:
    for name in ("a.png", "b.JPG", "c.jpg", "notes.txt"):
        write_image(tmp_path / name)
    assert [path.name for path in find_images(tmp_path, None, None)] == ["a.png", "b.JPG", "c.jpg"]
    assert [path.name for path in find_images(tmp_path, "jpg", 2)] == ["b.JPG", "c.jpg"]
    with pytest.raises(DatasetError, match=r"holds 1 images named \*\.png and 2 of other suffixes, but 2 are"):
        find_images(tmp_path, "png", 2)
