"""The manifest says what the dataset is, and planning notices whatever changes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mnasbench import file_memory
from mnasbench.data import changes as changes_module
from mnasbench.data import manifest as manifest_module
from mnasbench.data.changes import dataset_changes
from mnasbench.data.layouts import Dataset, scan
from mnasbench.data.manifest import gather_manifests, index_dataset, shard_of
from mnasbench.data.manifest_file import read_manifest
from mnasbench.errors import DatasetError, MnasbenchError
from mnasbench.files import sha256_of_file
from unit.data.image_files import flat_dataset, foldered_dataset, write_image

LABELS = {"a.JPEG": 1, "b c.JPEG": 0, "d'é:\".JPEG": 1}


@pytest.fixture(autouse=True)
def no_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were written just now are remembered, too."""
    monkeypatch.setattr(file_memory, "TICK_NS", 0)


def looks_of(manifest: Path) -> Path:
    return manifest.with_name(f"{manifest.name}.looks.json")


def changes_of(root: Path, *manifests: Path) -> list[str]:
    return [str(change) for change in dataset_changes(Dataset(root), manifests)]


def test_a_flat_dataset_is_indexed(tmp_path: Path) -> None:
    root = flat_dataset(tmp_path, LABELS)
    images = index_dataset(Dataset(root), tmp_path / "manifest.csv", shards=3)
    assert {image.name.removeprefix("val/"): image.class_index for image in images} == LABELS
    for image in images:
        path = root / image.name
        assert (image.width, image.height, image.mode) == (48, 40, "RGB")
        assert image.bytes == path.stat().st_size
        assert image.sha256 == sha256_of_file(path)
        assert image.shard == shard_of(image.name, 3)
    assert read_manifest(tmp_path / "manifest.csv") == images
    shards = [read_manifest(tmp_path / "manifest.csv", shard) for shard in range(3)]
    assert sorted((p for shard in shards for p in shard), key=lambda p: p.name) == images


def test_class_folders_are_indexed_and_links_followed(tmp_path: Path) -> None:
    root = foldered_dataset(tmp_path / "real", {"n01443537": 2, "n15075141": 1})
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "val").symlink_to(root / "val")
    images = index_dataset(Dataset(tmp_path / "linked"), tmp_path / "manifest.csv")
    assert [image.class_index for image in images] == [1, 1, 999]


def test_real_photographs_are_indexed(real: Path, tmp_path: Path) -> None:
    images = index_dataset(Dataset(real), tmp_path / "manifest.csv")
    assert len(images) == 300
    assert sum(image.mode == "L" for image in images) == 9
    for image in images[::30]:
        assert (image.width, image.height) == Image.open(real / image.name).size


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "val" / "stray.JPEG").write_bytes(b"x"), r"has no label for val/stray\.JPEG"),
        (lambda root: (root / "val" / "a.JPEG").unlink(), r"labels images that are not in val/: a\.JPEG"),
        (lambda root: (root / "val_label.txt").unlink(), "no label file, and no class folder for"),
        (lambda root: (root / "val" / "a\nb.JPEG").write_bytes(b"x"), "line break"),
        (lambda root: Path(os.fsdecode(os.fsencode(root) + b"/val/\xff.JPEG")).write_bytes(b"x"), "not UTF-8"),
        (lambda root: [path.unlink() for path in (root / "val").iterdir()], "holds no images"),
    ],
)
def test_a_dataset_that_does_not_fit_its_labels_is_named(tmp_path: Path, spoil, message: str) -> None:
    root = flat_dataset(tmp_path, LABELS)
    spoil(root)
    with pytest.raises(DatasetError, match=message) as error:
        index_dataset(Dataset(root), tmp_path / "manifest.csv")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "manifest.csv").exists()


def faulty_dataset(root: Path) -> Path:
    names = ["cut.JPEG", "empty.JPEG", "fine.JPEG", "link.JPEG", "text.JPEG", "sixteen.JPEG"]
    flat_dataset(root, dict.fromkeys(names, 0))
    val = root / "val"
    (val / "cut.JPEG").write_bytes((val / "cut.JPEG").read_bytes()[:-300])
    (val / "empty.JPEG").write_bytes(b"")
    (val / "text.JPEG").write_text("no image")
    (val / "link.JPEG").unlink()
    (val / "link.JPEG").symlink_to(val / "gone")
    Image.new("I;16", (30, 30)).save(val / "sixteen.JPEG", "PNG")
    return root


def test_faulty_images_are_all_named_and_nothing_is_written(tmp_path: Path) -> None:
    root = faulty_dataset(tmp_path)
    with pytest.raises(DatasetError, match="5 of 6 images cannot be used") as error:
        index_dataset(Dataset(root), tmp_path / "manifest.csv")
    for name in ("cut", "empty", "link", "text", "sixteen"):
        assert f"val/{name}.JPEG" in str(error.value)
    assert not (tmp_path / "manifest.csv").exists()


def test_faulty_images_can_be_excluded_and_stay_counted(tmp_path: Path) -> None:
    root = faulty_dataset(tmp_path)
    images = index_dataset(Dataset(root), tmp_path / "manifest.csv", on_fault="exclude")
    faults = {Path(image.name).stem: image.fault for image in images if image.fault}
    assert "cut short" in faults["cut"]
    assert "empty file" in faults["empty"]
    assert "cannot be read" in faults["link"]
    assert "unknown format" in faults["text"]
    assert "16" in faults["sixteen"]
    assert [image.name for image in read_manifest(tmp_path / "manifest.csv")] == ["val/fine.JPEG"]
    assert len(read_manifest(tmp_path / "manifest.csv", with_faulty=True)) == 6
    assert changes_of(root, tmp_path / "manifest.csv") == []
    (root / "val" / "fine.JPEG").write_bytes(b"")
    with pytest.raises(DatasetError, match="no usable image is left"):
        index_dataset(Dataset(root), tmp_path / "manifest.csv", on_fault="exclude")


def test_a_second_index_reads_only_what_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = flat_dataset(tmp_path, LABELS)
    first = index_dataset(Dataset(root), tmp_path / "manifest.csv")
    read = []
    look = manifest_module.look_at
    monkeypatch.setattr(manifest_module, "look_at", lambda root, name: read.append(name) or look(root, name))
    assert index_dataset(Dataset(root), tmp_path / "manifest.csv") == first
    assert read == []
    write_image(root / "val" / "a.JPEG", seed=99)
    index_dataset(Dataset(root), tmp_path / "manifest.csv")
    assert read == ["val/a.JPEG"]
    index_dataset(Dataset(root), tmp_path / "manifest.csv", rehash=True)
    assert len(read) == 4


def test_every_change_is_noticed_and_a_touch_is_none(tmp_path: Path) -> None:
    root = flat_dataset(tmp_path, LABELS)
    manifest = tmp_path / "manifest.csv"
    index_dataset(Dataset(root), manifest)
    assert changes_of(root, manifest) == []
    os.utime(root / "val" / "a.JPEG", (1, 1))
    assert changes_of(root, manifest) == []

    content = bytearray((root / "val" / "a.JPEG").read_bytes())
    content[300] ^= 1
    (root / "val" / "a.JPEG").write_bytes(content)
    assert changes_of(root, manifest) == ["val/a.JPEG: has changed"]
    looks_of(manifest).write_text("{}")
    assert changes_of(root, manifest) == ["val/a.JPEG: has changed"]
    looks_of(manifest).unlink()
    assert changes_of(root, manifest) == ["val/a.JPEG: has changed"]

    index_dataset(Dataset(root), manifest)
    (root / "val" / "b c.JPEG").rename(root / "val" / "e.JPEG")
    text = (root / "val_label.txt").read_text().replace("b c.JPEG 0", "e.JPEG 0").replace("a.JPEG 1", "a.JPEG 0")
    (root / "val_label.txt").write_text(text)
    changes = ["val/b c.JPEG: is gone", "val/a.JPEG: class 1 became 0", "val/e.JPEG: is new"]
    assert changes_of(root, manifest) == changes


def test_a_replaced_image_stays_in_its_shard(tmp_path: Path) -> None:
    labels = {f"{index}.JPEG": 0 for index in range(20)}
    root = flat_dataset(tmp_path, labels)
    before = index_dataset(Dataset(root), tmp_path / "manifest.csv", shards=4)
    write_image(root / "val" / "7.JPEG", seed=99)
    after = index_dataset(Dataset(root), tmp_path / "manifest.csv", shards=4)
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert [image.name for image in changed] == ["val/7.JPEG"]
    assert [image.shard for image in before] == [image.shard for image in after]
    assert len({image.shard for image in before}) > 1


def test_shards_are_indexed_one_by_one_and_gathered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = flat_dataset(tmp_path, {f"{index}.JPEG": index % 3 for index in range(20)})
    whole = index_dataset(Dataset(root), tmp_path / "whole.csv", shards=3)
    paths = [tmp_path / "shards" / f"{shard}.csv" for shard in range(3)]
    for shard, path in enumerate(paths):
        index_dataset(Dataset(root), path, shards=3, shard=shard)
    assert gather_manifests(paths, tmp_path / "gathered.csv") == whole
    assert (tmp_path / "gathered.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert changes_of(root, *paths) == []

    write_image(root / "val" / "7.JPEG", seed=99)
    (change,) = dataset_changes(Dataset(root), paths)
    assert (change.name, change.shard, change.is_of_content) == ("val/7.JPEG", shard_of("val/7.JPEG", 3), True)
    with pytest.raises(DatasetError, match=r"does not belong to shard 0 of 2"):
        gather_manifests(paths[1:], tmp_path / "gathered.csv")

    # Another number of shards takes over what was read before.
    read = []
    look = manifest_module.look_at
    monkeypatch.setattr(manifest_module, "look_at", lambda root, name: read.append(name) or look(root, name))
    index_dataset(Dataset(root), tmp_path / "shards" / "0.csv", shards=1, shard=0)
    assert read == ["val/7.JPEG"]


def test_an_empty_shard_is_told(tmp_path: Path) -> None:
    root = flat_dataset(tmp_path, LABELS)
    empty = next(shard for shard in range(8) if all(shard_of(f"val/{name}", 8) != shard for name in LABELS))
    with pytest.raises(DatasetError, match=f"none of its 3 images falls into shard {empty} of 8; set shards to fewer"):
        index_dataset(Dataset(root), tmp_path / "manifest.csv", shards=8, shard=empty)


def test_what_was_seen_once_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = flat_dataset(tmp_path, LABELS)
    manifest = tmp_path / "manifest.csv"
    index_dataset(Dataset(root), manifest)
    assert changes_of(root, manifest) == []
    with monkeypatch.context() as patch:
        patch.setattr(changes_module, "read_manifest", None)
        assert changes_of(root, manifest) == []
    read = []
    digest = changes_module.digest_or_empty
    monkeypatch.setattr(changes_module, "digest_or_empty", lambda path: read.append(path) or digest(path))
    assert dataset_changes(Dataset(root), [manifest], rehash=True) == []
    assert len(read) == len(LABELS)


def test_a_limit_takes_the_same_images_whatever_they_hold(tmp_path: Path) -> None:
    root = flat_dataset(tmp_path, {f"{index}.JPEG": index % 3 for index in range(20)})
    chosen = list(scan(Dataset(root, limit=8)))
    write_image(root / chosen[0], seed=99)
    assert list(scan(Dataset(root, limit=8))) == chosen
    assert set(chosen) < set(scan(Dataset(root, limit=12)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a manifest"),
        ("name,class\n", "is not a manifest"),
        ("{header}\na,1,2\n", "line 2"),
        ("{header}\na,one,1,1,RGB,1,x,0,\n", "line 2"),
    ],
)
def test_a_damaged_manifest_is_named(tmp_path: Path, text: str, message: str) -> None:
    header = "name,class_index,width,height,mode,bytes,sha256,shard,fault"
    path = tmp_path / "manifest.csv"
    path.write_text(text.format(header=header))
    with pytest.raises(MnasbenchError, match=message):
        read_manifest(path)


def test_planning_imports_nothing_heavy(repository: Path) -> None:
    heavy = "numpy", "pandas", "PIL", "numba", "simplejpeg", "torch"
    code = f"import sys, mnasbench.data.changes; print([name for name in {heavy} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(repository / "workflow")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "[]"


def test_labels_and_parts_can_be_named(tmp_path: Path) -> None:
    root = flat_dataset(tmp_path, {"a.JPEG": 0}, part="train")
    (root / "train_label.txt").rename(tmp_path / "elsewhere.txt")
    dataset = Dataset(root, part="train", labels=tmp_path / "elsewhere.txt")
    assert [found.class_index for found in scan(dataset).values()] == [0]


@pytest.mark.parametrize("loop", [".", ".."])
def test_links_in_a_circle_are_named(tmp_path: Path, loop: str) -> None:
    # Two such links are 2^40 folders, before the system finds them too many.
    root = flat_dataset(tmp_path, {"a.JPEG": 0})
    (root / "val/class").mkdir()
    for name in ("one", "two"):
        (root / "val/class" / name).symlink_to(root / "val/class" / loop)
    with pytest.raises(DatasetError, match=r"class/(one|two): links to a folder that it stands in; remove the link"):
        scan(Dataset(root))
