"""A disk that is really full: whatever a command was writing, it says so in one line, and works once there is room.

Each command writes to a file system of its own (tmpfs) that has as little room as is asked for, which needs root.
Elsewhere test_command_line.py has the limit on a file's size, which fails in the middle of a write as well.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import onnx
import pytest
import torch

import check_parity
import eval_imagenet
import eval_topk
import export_timm_torchvision_model as export
import gather_manifest
import image2npz
import index_dataset
import make_demo
import record
import report
import sample_calibration
import sample_cls
import summarize
import train_demo
import valprep
import vamp_npz_decode
import write_build_config
from made_results import described, make_results
from mnasbench.commands import ort_vamc, ort_vamp
from mnasbench.errors import one_line
from mnasbench.files import canonical_json
from mnasbench.model import architecture

_PAGE = 4096
_BALLAST = ".ballast"
_REFUSAL = "No space left on device"


class Disk:
    """A file system whose room can be set; needs root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no file system of our own can be mounted ({one_line(done.stderr.strip())})")
        # A size of 0 would stand for no limit, so something is always there.
        (folder / _BALLAST).write_bytes(bytes(_PAGE))

    @contextlib.contextmanager
    def room(self, pages: int) -> Iterator[None]:
        """Leave room for so many pages more than there are."""
        self._resize(str(shutil.disk_usage(self.folder).used + pages * _PAGE))
        try:
            yield
        finally:
            self._resize("64m")

    def clear(self) -> None:
        """Remove all that was written."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != _BALLAST:
                path.unlink()

    def close(self) -> None:
        """Take the file system away."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    def _resize(self, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True)


@dataclass(frozen=True)
class Step:
    """A command: what it is called with, for a folder of inputs and one to write to."""

    script: ModuleType
    arguments: Callable[[Path, Path], Sequence[object]]
    # Shares of the room it needs that it is given, beside none and all but a page.
    shares: tuple[float, ...] = (0.5,)
    # How it says that there is no room, where it sees that before the system does.
    message: str = ""

    def run(self, inputs: Path, out: Path) -> int:
        return self.script.main([str(word) for word in self.arguments(inputs, out)])


def _vamp(inputs: Path, out: Path, *more: object) -> list[object]:
    load = ["--iterations", 3, "--warmup", 0, "--datalist", inputs / "npz.txt"]
    return ["-m", _prefix(inputs), "--vdsp_params", inputs / "vdsp_params.json", *load, *more]


def _prefix(folder: Path) -> Path:
    return folder / "build" / "small-fp32-none-3_32_32-ort" / "small"


_EXPORTED = Path("onnx/mnasnet0_5_32.json")
_GEOMETRY = canonical_json({"resize": 36, "crop": 32})
_TORCHVISION = ("--model_library", "torchvision", "--model_name", "mnasnet0_5")


def _config(inputs: Path, out: Path, precision: str = "fp32") -> list[object]:
    names = ["--name", "small", "--precision", precision, "--preprocessing", _GEOMETRY, "--model", inputs / _EXPORTED]
    files = ["--build_file", out / f"{precision}.yaml", "--vdsp_params", out / "vdsp_params.json"]
    calibration = ["--calibration", inputs / "calibration", "--images", 24] if precision != "fp32" else []
    return [*names, *calibration, "--work_dir", out / "build", *files]


def _build_file(inputs: Path, out: Path) -> Path:
    """The build file of ``inputs``, for a build in ``out``."""
    file = out.with_name(f"{out.name}.yaml")
    file.write_text((inputs / "fp32.yaml").read_text().replace(f"{inputs}/build", f"{out}/build"))
    return file


def _results(inputs: Path, out: Path) -> list[object]:
    """What the summary's command is given."""
    rows = described(inputs / "made" / "results", ("mnasnet0_5",), ("fp32",))
    rows["files"] |= {"compiled": f"{_prefix(inputs)}.json", "parity": None}
    rows["variants"][0] |= {"exported": str(inputs / _EXPORTED), "reference": {"top1": None}}
    files = [word for name in ("csv", "markdown", "files") for word in (f"--{name}", out / f"summary.{name}")]
    return ["--rows", canonical_json(rows), *files]


# In the order in which one makes what the next reads.
STEPS = {
    "demo images": Step(
        make_demo,
        lambda _, o: ["--target_path", o / "demo", "--validation", 24, "--training", 24],
    ),
    "manifest": Step(
        index_dataset,
        lambda i, o: ["--root", i / "demo", "--manifest", o / "manifest.csv"],
    ),
    "gathered manifest": Step(
        gather_manifest, lambda i, o: ["--shards", i / "manifest.csv", "--manifest", o / "gathered.csv"]
    ),
    "calibration folder": Step(
        sample_calibration,
        lambda i, o: [
            *("--root", i / "demo", "--images", 24, "--copy"),
            *("--list", o / "calibration.txt", "--folder", o / "calibration"),
        ],
    ),
    "npz": Step(
        image2npz,
        lambda i, o: [
            *("--dataset_path", i / "demo", "--manifest", i / "manifest.csv", "--target_path", o / "npz"),
            *("--text_path", o / "npz.txt", "--resize", 36, "--crop", 32),
        ],
        shares=(0.9,),
        message=" MB are free",
    ),
    "npz of a shard": Step(
        image2npz,
        lambda i, o: [
            *("--dataset_path", i / "demo", "--manifest", i / "manifest.csv", "--shard_file", o / "shard" / "0.npz"),
            *("--text_path", o / "shard.txt", "--resize", 36, "--crop", 32),
        ],
        shares=(0.9,),
        message=" MB are free",
    ),
    "weights": Step(
        train_demo,
        lambda i, o: [*_TORCHVISION, "--dataset_path", i / "demo", "--save_path", o / "w.pth"],
    ),
    "ONNX": Step(
        export,
        lambda i, o: [*_TORCHVISION, "--pretrained_weights", i / "w.pth", "--save_dir", o / "onnx", "--size", 32],
    ),
    "TorchScript": Step(
        export,
        lambda i, o: [
            *(*_TORCHVISION, "--pretrained_weights", i / "w.pth", "--save_dir", o / "pt", "--size", 32),
            *("--convert_mode", "pt"),
        ],
    ),
    "build file": Step(
        write_build_config,
        lambda i, o: _config(i, o),
    ),
    "three files": Step(ort_vamc, lambda i, o: ["build", _build_file(i, o)]),
    "performance": Step(ort_vamp, lambda i, o: _vamp(i, o, "--json", o / "performance.json")),
    "outputs": Step(
        ort_vamp,
        lambda i, o: _vamp(i, o, "--path_output", o / "outputs", "--json", o / "accuracy-run.json"),
    ),
    "scores of a shard": Step(
        ort_vamp,
        lambda i, o: _vamp(i, o, "--path_output", o / "scores.npz", "--json", o / "scores-run.json"),
    ),
    "answers": Step(
        eval_imagenet,
        lambda i, o: [
            *("--result_path", i / "outputs", "--datalist", i / "npz.txt", "--label", i / "manifest.csv"),
            *("--answers", o / "answers.csv", "--json", o / "evaluated.json"),
        ],
    ),
    "parity": Step(
        check_parity,
        lambda i, o: [
            *("--model", _prefix(i), "--root", i / "demo", "--manifest", i / "manifest.csv"),
            *("--datalist", i / "npz.txt", "--vdsp_params", i / "vdsp_params.json", "--json", o / "parity.json"),
        ],
    ),
    "result text": Step(
        sample_cls,
        lambda i, o: [
            *("--save_dir", o / "result.txt", "--file_path", i / "demo" / "val", "--model_prefix_path", _prefix(i)),
            *("--label_txt", i / "demo" / "classes.txt"),
        ],
    ),
    "decoded text": Step(
        vamp_npz_decode,
        lambda i, o: [i / "npz.txt", i / "outputs", o / "decoded.txt", i / "demo" / "classes.txt"],
    ),
    "top-k": Step(
        eval_topk,
        lambda i, o: [i / "decoded.txt", "--label", i / "demo" / "val_label.txt", "--json", o / "topk.json"],
    ),
    "summary": Step(
        summarize,
        _results,
    ),
    "report": Step(
        report,
        lambda i, o: [i / "made" / "results", "--html", o / "report.html"],
    ),
    "class folders": Step(
        valprep,
        lambda i, o: ["--dataset_path", i / "demo", "--target_path", o / "folders", "--mode", "copy"],
    ),
}


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """Leave out the work that no disk has to do with: training, and torch's own export."""
    torch.manual_seed(0)
    model = architecture.create("torchvision", "mnasnet0_5", 24)
    kept = {}

    def exported(model: torch.nn.Module, size: int) -> onnx.ModelProto:
        if size not in kept:
            kept[size] = to_onnx(model, size)
        return kept[size]

    with pytest.MonkeyPatch.context() as patch:
        from mnasbench.model import export as library

        to_onnx = library._to_onnx
        patch.setattr(library, "_to_onnx", exported)
        patch.setattr("mnasbench.model.train_demo.train_demo", lambda *_: model.state_dict())
        patch.setenv("XDG_CACHE_HOME", os.devnull)
        yield


@pytest.fixture(scope="module")
def made(quick: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[Path, int]]]:
    """A folder with what every step makes where there is room, and which files (with their sizes) each of them made."""
    folder = tmp_path_factory.mktemp("made")
    make_results(folder / "made", variants=("mnasnet0_5",), extras=False)
    files: dict[str, dict[Path, int]] = {}
    for name, step in STEPS.items():
        before = _files(folder)
        assert step.run(folder, folder) == 0, name
        files[name] = {path: size for path, size in _files(folder).items() if path not in before}
    return folder, files


def _files(folder: Path) -> dict[Path, int]:
    # A memory of files holds none that changed a moment ago, so whether there is one depends on how long a test took.
    return {
        path.relative_to(folder): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and path.name != _BALLAST and not path.name.endswith(".looks.json")
    }


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "disk")
    yield disk
    disk.close()


@pytest.mark.parametrize("name", STEPS)
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(
    name: str, made: tuple[Path, dict[str, dict[Path, int]]], disk: Disk, capfd: pytest.CaptureFixture[str]
) -> None:
    whole, files = made
    step = STEPS[name]
    pages = sum(-(-size // _PAGE) for size in files[name].values())
    # The kernel's count of pages is an estimate where there are many.
    for room in sorted({0, *(int(share * pages) for share in step.shares), pages - 1 - pages // 50}):
        disk.clear()
        with disk.room(room):
            code = step.run(whole, disk.folder)
        said = capfd.readouterr().err
        message = f"{room} of {pages} pages: {said}"
        *notes, error = said.splitlines() or [""]
        assert code == 2 and ": error: " in error and not any("rror" in note for note in notes), message
        refusals = (_REFUSAL, *([step.message] if step.message else []))
        assert any(words in error for words in refusals) and str(disk.folder) in error, message
        for path in _files(disk.folder):
            assert path in files[name], f"{message}: {path} was left behind"
            content = (disk.folder / path).read_bytes().replace(bytes(disk.folder), bytes(whole))
            assert content == (whole / path).read_bytes(), f"{message}: {path} is half"
    assert step.run(whole, disk.folder) == 0
    assert set(_files(disk.folder)) == set(files[name])


def test_an_image_that_finds_no_room_stays_where_it_is(
    made: tuple[Path, dict[str, dict[Path, int]]], disk: Disk, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "dataset"
    shutil.copytree(made[0] / "demo", root)
    before = {path: (root / path).read_bytes() for path in _files(root)}
    flags = ["--dataset_path", str(root), "--target_path", str(disk.folder / "out"), "--mode", "move"]
    # Of images of some 20 KB about every second fits.
    with disk.room(40):
        code = valprep.main(flags)
    assert (code, capfd.readouterr().err.count("\n")) == (2, 1)
    assert {path: (root / path).read_bytes() for path in _files(root)} == before
    assert _files(disk.folder) == {}
    assert valprep.main(flags) == 0
    assert valprep.main(["--undo", *flags[2:4]]) == 0
    assert {path: (root / path).read_bytes() for path in _files(root)} == before


def test_calibration_that_finds_no_room_for_its_images(
    made: tuple[Path, dict[str, dict[Path, int]]],
    disk: Disk,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    # They are kept in a file without a name where temporary files are, not where the results are.
    monkeypatch.setattr("tempfile.tempdir", str(disk.folder))
    assert write_build_config.main([str(word) for word in _config(made[0], tmp_path, "int8-max")]) == 0
    with disk.room(2):
        code = ort_vamc.main(["build", str(tmp_path / "int8-max.yaml")])
    error = capfd.readouterr().err
    assert code == 2 and f"{disk.folder}: cannot be written ({_REFUSAL})" in error.splitlines()[-1]
    assert not (tmp_path / "build").exists() and _files(disk.folder) == {}


@pytest.mark.parametrize("pages", [0, 1], ids=["log", "receipt"])
def test_a_step_whose_record_finds_no_room(
    pages: int, disk: Disk, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(disk.folder)
    (disk.folder / "results/logs").mkdir(parents=True)
    files = ["--receipt", "results/step.receipt.json", "--log", "results/logs/step.log"]
    words = [*files, "--settings", "{}", "--code", "x", "--", sys.executable, "-c", "print('hello')"]
    with disk.room(pages):
        code = record.main(words)
    *said, error = capfd.readouterr().err.splitlines()
    written = files[1] if pages else files[3]
    assert code == 2 and f"{written}: cannot be written (No space left on device)" in error
    assert not any("rror" in line for line in said)
    assert not (disk.folder / files[1]).exists()
    assert record.main(words) == 0
