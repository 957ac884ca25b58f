"""Datasets as people have them, each a tiny folder whose classes are known: what is read, what is said, what is refused."""

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mnasbench.data import listing
from mnasbench.data.available import check_data
from mnasbench.data.class_names import read_class_names
from mnasbench.data.class_order import imagenet_wnids
from mnasbench.data.layouts import Dataset, labelled
from mnasbench.errors import DatasetError, MnasbenchError
from mnasbench.plan.configured import numbered
from mnasbench.plan.steps import sample_calibration
from mnasbench.settings import load_settings

TEN = [
    "n01440764",
    "n02102040",
    "n02979186",
    "n03000684",
    "n03028079",
    "n03394916",
    "n03417042",
    "n03425413",
    "n03445777",
    "n03888257",
]
IMAGENET = {wnid: index for index, wnid in enumerate(imagenet_wnids())}


def _touch(root: Path, *names: str) -> Path:
    """Empty files: nothing is opened where classes are read."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def _write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")


def _in(root: Path) -> dict[str, int]:
    return labelled(Dataset(root)).classes


# ------------------------------------------------------------------------------------------------------------ layouts
def _imagenet_v2(root: Path) -> dict[str, int]:
    names = {f"{number}/{letter}.jpeg": number for number in range(1000) for letter in "ab"}
    _touch(root, *names)
    return names


def _imagenette(root: Path) -> dict[str, int]:
    names = {f"val/{wnid}/{wnid}_{k}.JPEG": IMAGENET[wnid] for wnid in TEN for k in range(2)}
    _touch(root, *names, "train/n01440764/x.JPEG")
    _write(
        root, "noisy_imagenette.csv", "path,noisy_labels_0,is_valid\nval/n01440764/n01440764_0.JPEG,n02102040,True\n"
    )
    return names


def _tiny_imagenet(root: Path) -> dict[str, int]:
    wnids = ["n02124075", "n04067472", "n01443537"]
    _write(root, "wnids.txt", "\n".join(wnids))
    rows = {f"val_{k}.JPEG": wnids[(2 * k) % 3] for k in range(6)}
    _touch(root, *(f"val/images/{name}" for name in rows), "train/n01443537/images/a.JPEG", "test/images/test_0.JPEG")
    _write(root, "val/val_annotations.txt", "".join(f"{n}\t{w}\t0\t32\t44\t62\n" for n, w in rows.items()))
    return {f"val/images/{name}": wnids.index(wnid) for name, wnid in rows.items()}


def _kaggles_ilsvrc(root: Path) -> dict[str, int]:
    rows = {f"ILSVRC2012_val_{k:08d}": TEN[k] for k in (3, 1, 9)}
    _touch(root, *(f"ILSVRC/Data/CLS-LOC/val/{name}.JPEG" for name in rows))
    text = "".join(f"{name},{wnid} 85 1 499 272 {wnid} 1 2 3 4\n" for name, wnid in rows.items())
    _write(root, "LOC_val_solution.csv", f"ImageId,PredictionString\n{text}")
    _write(root, "LOC_synset_mapping.txt", "n01440764 tench, Tinca tinca\n")
    return {f"ILSVRC/Data/CLS-LOC/val/{name}.JPEG": IMAGENET[wnid] for name, wnid in rows.items()}


def _imagefolder_csv(root: Path) -> dict[str, int]:
    _touch(
        root,
        "validation/1.png",
        "validation/2.png",
        "validation/more/3.png",
        "validation/unlabelled.png",
        "train/1.png",
    )
    _write(root, "validation/metadata.csv", "file_name,text,label\n1.png,a cat,cat\n2.png,,ant\nmore/3.png,x,dog\n")
    return {"validation/1.png": 1, "validation/2.png": 0, "validation/more/3.png": 2}


def _imagefolder_jsonl(root: Path) -> dict[str, int]:
    _touch(root, "test/1.png", "test/2.png", "train/1.png")
    rows = [{"file_name": "test/1.png", "label": 4}, {"file_name": "train/1.png", "label": 0}]
    rows += [{"label": 0, "file_name": "test/2.png"}]
    _write(root, "metadata.jsonl", "\n".join(map(json.dumps, rows)))
    return {"test/1.png": 4, "test/2.png": 0}


def _captions_alone(root: Path) -> dict[str, int]:
    """Metadata without labels says no class; the folders do."""
    _touch(root, "val/cat/1.png", "val/dog/1.png")
    _write(root, "val/metadata.csv", "file_name,text\ncat/1.png,a cat\n")
    return {"val/cat/1.png": 0, "val/dog/1.png": 1}


def _mixed_suffixes(root: Path) -> dict[str, int]:
    names = {"valid/a/1.PNG": 0, "valid/a/1.jpg": 0, "valid/b/1.webp": 1, "valid/b/2.TIFF": 1}
    _touch(
        root,
        *names,
        "valid/a/README",
        "valid/b/notes.txt",
        "valid/Thumbs.db",
        "valid/__MACOSX/x.jpg",
        "valid/@eaDir/y.png",
    )
    return names


def _no_suffixes(root: Path) -> dict[str, int]:
    names = {"val/a/0a1b": 0, "val/b/0a1c": 1}
    _touch(root, *names)
    return names


def _tinys_training(root: Path) -> dict[str, int]:
    names = {"cat/images/1.JPEG": 0, "dog/images/1.JPEG": 1}
    _touch(root, *names, "cat/cat_boxes.txt")
    return names


def _linked_folders(root: Path) -> dict[str, int]:
    _touch(root.parent / "elsewhere", "1.jpg")
    _touch(root, "val/b/1.jpg")
    (root / "val/a").symlink_to(root.parent / "elsewhere")
    (root / "val/b/2.jpg").symlink_to(root.parent / "elsewhere/1.jpg")
    return {"val/a/1.jpg": 0, "val/b/1.jpg": 1, "val/b/2.jpg": 1}


def _names_in_a_text(root: Path) -> dict[str, int]:
    _touch(root, "val/1.jpg", "val/b c.jpg")
    _write(root, "val_label.txt", "1 dog\nb c.jpg cat\n")
    return {"val/1.jpg": 1, "val/b c.jpg": 0}


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (_imagenet_v2, "class folders, 1000 classes by their numbers, 0 to 999; .*the images are those of"),
        (_imagenette, "class folders, 10 classes with ImageNet's own indices; dataset.wnids"),
        (
            _tiny_imagenet,
            r"annotations, 3 classes in the order of .*wnids.txt; .*\(test lies there, too\); dataset.classes",
        ),
        (_kaggles_ilsvrc, "LOC_val_solution.csv, 3 classes with ImageNet's own indices"),
        (_imagefolder_csv, "metadata, 3 classes in the sorted order .*those of .*validation"),
        (_imagefolder_jsonl, "metadata, 2 classes as .*metadata.jsonl numbers them, 0 to 4"),
        (_captions_alone, "class folders, 2 classes in the sorted order of their names"),
        (_mixed_suffixes, "2 files are no images by their names: .*; 3 hidden files or folders are passed over"),
        (_no_suffixes, "class folders, 2 classes"),
        (_tinys_training, "1 files are no images by their names: cat/cat_boxes.txt"),
        (_linked_folders, "class folders, 2 classes"),
        (_names_in_a_text, "a label file, 2 classes in the sorted order of their names"),
    ],
)
def test_a_dataset_of_this_kind_has_its_right_classes(
    tmp_path: Path, made: Callable[[Path], dict[str, int]], said: str
) -> None:
    expected = made(tmp_path / "set")
    images = labelled(Dataset(tmp_path / "set"))
    assert images.classes == expected
    assert re.search(said, images.message), images.message


TABLES = {
    "labels.csv": "path,label\nval/1.jpg,dog\nval/2.jpg,cat\n",
    "with a mark.csv": "\ufeffid;breed\r\n1;dog\r\n2;cat\r\n",
    "labels.tsv": "image_id\tname, or so\n1\tdog\n2\tcat\n",
    "quoted.csv": 'label,"file_name"\n"dog","1.jpg"\n"cat","2.jpg"\n',
    "no_header.csv": "1.jpg,n02102040\n2.jpg,n01440764\n",
    "numbers.csv": "1,1\n2,0\n",
    "timm.csv": "Filename,Label\n1.jpg,1\n2.jpg,0\n",
    "any.jsonl": '{"file_name": "1.jpg", "label": "dog"}\n\n{"file_name": "2.jpg", "label": "cat"}\n',
    "commas.txt": "1.jpg,dog\n2.jpg,cat\n",
    "tabs.txt": "1.jpg\tdog\n2.jpg\tcat\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_labels_in_any_dialect_are_the_same(tmp_path: Path, name: str) -> None:
    _touch(tmp_path, "val/1.jpg", "val/2.jpg")
    _write(tmp_path, name, TABLES[name])
    classes = labelled(Dataset(tmp_path, labels=tmp_path / name)).classes
    one, other = classes["val/1.jpg"], classes["val/2.jpg"]
    assert (one, other) == ((217, 0) if "n02102040" in TABLES[name] else (1, 0))


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("disk", ["NFC", "NFD"])
def test_names_match_in_composed_and_decomposed_unicode(tmp_path: Path, form: str, disk: str) -> None:
    one, two = (unicodedata.normalize(disk, word) for word in ("\u00e9toile", "zèbre"))
    _touch(tmp_path / "folders", f"val/{one}/1.jpg", f"val/{two}/1.jpg")
    _write(tmp_path, "names.txt", unicodedata.normalize(form, "zèbre\n\u00e9toile\n"))
    assert [*labelled(Dataset(tmp_path / "folders", wnids=tmp_path / "names.txt")).classes.values()] in ([1, 0], [0, 1])
    by_folder = labelled(Dataset(tmp_path / "folders", wnids=tmp_path / "names.txt")).classes
    assert by_folder == {f"val/{one}/1.jpg": 1, f"val/{two}/1.jpg": 0}
    _touch(tmp_path / "flat", f"val/{one}.jpg", f"val/{two}.jpg")
    text = unicodedata.normalize(form, "zèbre.jpg 0\n\u00e9toile.jpg 1\n")
    _write(tmp_path, "flat/val_label.txt", text)
    _write(tmp_path, "flat/labels.csv", "path,label\n" + text.replace(" ", ","))
    for labels in (None, tmp_path / "flat/labels.csv"):
        classes = labelled(Dataset(tmp_path / "flat", labels=labels)).classes
        assert classes == {f"val/{one}.jpg": 1, f"val/{two}.jpg": 0}


# ------------------------------------------------------------------------------------------------------------ refused
def _two_forms(root: Path) -> None:
    _touch(root, *(unicodedata.normalize(form, "val/\u00e9/1.jpg") for form in ("NFC", "NFD")))


def _nested(root: Path) -> None:
    _touch(root, "val/dog/poodle/1.jpg", "val/dog/terrier/1.jpg", "val/cat/1.jpg")


def _contrary_wnids(root: Path) -> None:
    _touch(root, *(f"val/{wnid}/1.jpg" for wnid in TEN))
    _write(root, "wnids.txt", "\n".join(TEN[::-1]))


def _training_alone(root: Path) -> None:
    _touch(root, "train/a/1.jpg", "train/b/1.jpg")


def _table_unnamed(root: Path) -> None:
    _touch(root, "val/1.jpg")
    _write(root, "labels.csv", "path,label\nval/1.jpg,0\n")


def _two_of_a_stem(root: Path) -> None:
    _touch(root, "val/1.jpg", "val/1.png")
    _write(root, "val_label.txt", "1 0\n")


def _numbers_with_gaps(root: Path) -> None:
    _touch(root, "val/1/a.jpg", "val/5/a.jpg")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (_two_forms, "two classes are called .*, in two forms of Unicode; rename one"),
        (
            _nested,
            "dog/.* lies in a folder of a class folder, so whether dog or (poodle|terrier) is its class is not known",
        ),
        (
            _contrary_wnids,
            "wnids.txt lies there and has n01440764 as class 9, .*; say which with dataset.classes: file or",
        ),
        (_training_alone, r"has train/, but none of val, .*; name the folder of images itself \(.*/train\)"),
        (_table_unnamed, r"no label file, .* for val/1.jpg; .*; dataset.labels may name labels.csv"),
        (_two_of_a_stem, "1 names two images"),
        (_numbers_with_gaps, "numbered from 1 to 5 with 2 numbers"),
    ],
)
def test_what_may_be_read_in_two_ways_is_refused(tmp_path: Path, made: Callable[[Path], None], message: str) -> None:
    made(tmp_path)
    with pytest.raises(DatasetError, match=message) as error:
        _in(tmp_path)
    assert str(error.value).isprintable()


def test_a_file_that_lies_there_and_agrees_is_used_and_one_of_other_names_is_not(tmp_path: Path) -> None:
    _touch(tmp_path, "val/ant/1.jpg", "val/cat/1.jpg")
    _write(tmp_path, "wnids.txt", "ant\ncat\ndog\n")
    images = labelled(Dataset(tmp_path))
    assert images.classes == {"val/ant/1.jpg": 0, "val/cat/1.jpg": 1} and images.empty_classes == ["dog"]
    _write(tmp_path, "wnids.txt", "n01440764\nn01443537\n")
    assert "names none of them and is not used" in labelled(Dataset(tmp_path)).message
    for name in ("classes.txt", "labels.json"):
        _write(tmp_path, name, '["cat", "ant"]')
    assert _in(tmp_path) == {"val/ant/1.jpg": 0, "val/cat/1.jpg": 1}


def test_a_folder_that_cannot_be_listed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _touch(tmp_path, "val/a/1.jpg", "val/b/1.jpg")
    scandir = listing.os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(listing.os, "scandir", refuse)
    with pytest.raises(DatasetError, match=r"val/b: cannot be listed \(Permission denied\)"):
        _in(tmp_path)


# -------------------------------------------------------------------------------------- the classes that a model has
def _check(root: Path, outputs: Mapping[str, int], **dataset: Any) -> Any:
    models = {variant: {"name": "mnasnet0_5", "weights": "IMAGENET1K_V1"} for variant in outputs}
    config = {"dataset": {"name": "set", "root": str(root), **dataset}, "models": models, "precisions": ["fp32"]}
    return check_data(load_settings(config), outputs=lambda: outputs)


@pytest.mark.parametrize(
    ("outputs", "setting", "classes", "numbering"),
    [
        ({"m": 1000}, None, 772, "imagenet"),
        ({"m": 10}, None, 10, "folders"),
        ({"m": 10, "n": 10}, None, 10, "folders"),
        ({}, None, 772, "imagenet"),
        ({"m": 10}, "folders", 10, "folders"),
        ({"m": 1000}, "imagenet", 772, "imagenet"),
    ],
)
def test_ids_of_imagenet_are_numbered_as_the_models_are(
    tmp_path: Path, outputs: dict[str, int], setting: str | None, classes: int, numbering: str
) -> None:
    _imagenette(tmp_path)
    extent = _check(tmp_path, outputs or {"m": 1000}, classes=setting)
    assert (extent.numbering, extent.classes) == (numbering, 1 + (IMAGENET[TEN[-1]] if classes > 10 else 9))


def test_a_source_of_calibration_images_is_numbered_as_the_dataset_is(tmp_path: Path) -> None:
    _imagenette(tmp_path)
    _touch(tmp_path, *(f"train/{wnid}/x.JPEG" for wnid in TEN))
    for classes in (10, 1000):
        config = {
            "dataset": {"name": "set", "root": str(tmp_path)},
            "calibration": {"images": 10, "source": str(tmp_path / "train")},
            "models": {"m": {"name": "mnasnet0_5", "weights": "IMAGENET1K_V1"}},
        }
        settings = load_settings(config)
        numbering = check_data(settings, outputs=lambda classes=classes: {"m": classes}).numbering
        step = sample_calibration(numbered(settings, numbering or ""))
        flags = ["--classes", "folders"] if classes == 10 else []
        assert [*step.arguments][step.arguments.index("--root") + 2 :][: len(flags)] == flags


def _labels(root: Path, first: int, last: int) -> None:
    names = [f"{k}.jpg" for k in range(first, last + 1)]
    _touch(root, *(f"val/{name}" for name in names))
    _write(root, "val_label.txt", "".join(f"{name} {name.partition('.')[0]}\n" for name in names))


def _folders(root: Path, *names: str) -> None:
    _touch(root, *(f"val/{name}/1.jpg" for name in names))


@pytest.mark.parametrize(
    ("made", "outputs", "setting", "message"),
    [
        (_imagenette, {"m": 7}, None, "10 classes by ImageNet's ids, and models of 7 classes"),
        (_imagenette, {"m": 10, "n": 1000}, None, "models of 10 and of 1000 classes.*set dataset.classes"),
        (_imagenette, {"m": 10}, "imagenet", "models.m has 10 classes, 0 to 9; give dataset.wnids, a file of the 10 names"),
        (_imagenette, {"m": 1000}, "folders", "models.m has 1000 classes, so which of them is which is not known"),
        (_imagenette, {"m": 1001}, None, "models.m has 1001 classes, as nets with a class for the background"),
        (lambda root: _labels(root, 0, 999), {"m": 1001}, None, "as nets with a class for the background"),
        (lambda root: _labels(root, 1, 24), {"m": 24}, None, "models.m has 24 classes, 0 to 23; if the labels count from 1"),
        (lambda root: _folders(root, "a", "b", "c"), {"m": 4}, None, "3 classes in the sorted order .* models.m has 4 classes"),
        (lambda root: _folders(root, "1", "2", "3"), {"m": 4}, None, "1 to 3, the first being class 0; but models.m has 4"),
        (lambda root: _folders(root, "0", "2", "4"), {"m": 4}, None, "by their numbers, 0 to 4; but models.m has 4 classes"),
        (lambda root: _folders(root, "a", "b"), {"m": 2}, "imagenet", "these are none of ImageNet's 1,000 ids: a, b"),
        (lambda root: _folders(root, "a", "b"), {"m": 2}, "file", "dataset.classes is file, but there is no such file"),
    ],
)  # fmt: skip
def test_classes_that_are_not_the_models_are_refused(
    tmp_path: Path, made: Callable[[Path], Any], outputs: dict[str, int], setting: str | None, message: str
) -> None:
    made(tmp_path)
    with pytest.raises(MnasbenchError, match=message) as error:
        _check(tmp_path, outputs, classes=setting)
    assert "\n" not in str(error.value) and error.value.exit_code == 2


def test_labels_without_class_0_are_told(tmp_path: Path) -> None:
    _labels(tmp_path, 1, 23)
    assert "no image is of class 0: if the labels count from 1, write them" in _check(tmp_path, {"m": 24}).message


# ------------------------------------------------------------------------------------------------- files of class names
NAMES = ["tench, Tinca tinca", "English springer", "cassette player"]
NAME_FILES = {
    "lines.txt": "".join(f"{name}\n" for name in NAMES),
    "synset_words.txt": "".join(f"{wnid} {name}\n" for wnid, name in zip(TEN, NAMES, strict=False)),
    "list.json": json.dumps(NAMES),
    "by_index.json": json.dumps({str(k): NAMES[k] for k in (2, 0, 1)}),
    "imagenet_class_index.json": json.dumps({str(k): [TEN[k], NAMES[k]] for k in range(3)}),
    "class_to_idx.json": json.dumps({name: k for k, name in enumerate(NAMES)}),
    "imagenet1000_clsidx_to_labels.txt": "{0: 'tench, Tinca tinca',\n 1: 'English springer',\n 2: 'cassette player'}\n",
}


@pytest.mark.parametrize("name", NAME_FILES)
def test_class_names_are_read_in_any_form(tmp_path: Path, name: str) -> None:
    _write(tmp_path, name, NAME_FILES[name])
    assert read_class_names(tmp_path / name) == NAMES


@pytest.mark.parametrize("name", ["synset_words.txt", "imagenet_class_index.json"])
def test_class_names_with_ids_number_the_classes_of_ids(tmp_path: Path, name: str) -> None:
    _write(tmp_path, name, NAME_FILES[name])
    _touch(tmp_path / "set", f"val/{TEN[2]}/1.jpg", f"val/{TEN[1]}/1.jpg")
    images = labelled(Dataset(tmp_path / "set", wnids=tmp_path / name))
    assert sorted(images.classes.values()) == [1, 2] and images.empty_classes == [TEN[0]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"0": "a", "2": "b"}', "has no class 1; expected"),
        ("[]", "expected a list of class names"),
        ("3", "expected a list of class names"),
        ('["a", 3]', "class 1 is 3; expected"),
        ('{"0": []}', "class 0 is"),
    ],
)
def test_json_that_is_no_names_is_refused(tmp_path: Path, content: str, message: str) -> None:
    _write(tmp_path, "names.json", content)
    with pytest.raises(DatasetError, match=message):
        read_class_names(tmp_path / "names.json")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            "background\na\nb\n",
            r"class_names: .*names.txt: has 3 class names \(the first: background\), but models.m has 2",
        ),
        ("a\n", "has 1 class names .*, but models.m has 2 classes"),
        ("b\na\n", "names.txt has a as class 1, which in the sorted order of their names is class 0 of the dataset"),
    ],
)
def test_names_that_would_be_shifted_are_refused(tmp_path: Path, names: str, message: str) -> None:
    _folders(tmp_path, "a", "b")
    _write(tmp_path, "names.txt", names)
    with pytest.raises(MnasbenchError, match=message):
        _check(tmp_path, {"m": 2}, class_names=str(tmp_path / "names.txt"))
