"""Code digests and receipts: what changes them, and what must not."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mnasbench import provenance
from mnasbench.files import write_json


def _digest(root: Path, script: str) -> str:
    """The digest as a fresh process of that checkout computes it."""
    program = (
        "import sys; from pathlib import Path; from mnasbench.provenance import code_digest; "
        f"print(code_digest(Path({str(root / 'workflow/scripts' / script)!r})))"
    )
    command = [sys.executable, "-c", program]
    environment = {"PYTHONPATH": str(root / "workflow"), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def checkout(repository: Path, tmp_path: Path) -> Path:
    shutil.copytree(repository / "workflow", tmp_path / "elsewhere" / "workflow")
    return tmp_path / "elsewhere"


def test_the_digest_survives_what_changes_no_code(repository: Path, checkout: Path) -> None:
    before = _digest(repository, "eval_imagenet.py")
    assert _digest(checkout, "eval_imagenet.py") == before
    file = checkout / "workflow/mnasbench/result/statistics.py"
    file.write_text(file.read_text().replace('"""The statistics of', '"""A text about') + "\n\n# a comment\n")
    assert _digest(checkout, "eval_imagenet.py") == before


def test_the_digest_sees_an_edit_in_what_the_step_imports_and_in_nothing_else(checkout: Path) -> None:
    before = {script: _digest(checkout, script) for script in ("eval_imagenet.py", "export_timm_torchvision_model.py")}
    file = checkout / "workflow/mnasbench/result/statistics.py"
    file.write_text(file.read_text().replace("CONFIDENCE = 0.95", "CONFIDENCE = 0.9"))
    assert _digest(checkout, "eval_imagenet.py") != before["eval_imagenet.py"]
    assert _digest(checkout, "export_timm_torchvision_model.py") == before["export_timm_torchvision_model.py"]


def _scripts() -> list[Path]:
    library = Path(provenance.__file__).parent
    return sorted([*(library.parent / "scripts").glob("*.py"), *(library / "commands").glob("ort_*.py")])


@pytest.mark.parametrize("path", _scripts(), ids=lambda path: path.name)
def test_the_digest_covers_every_module_that_the_script_really_imports(repository: Path, path: Path) -> None:
    # The oracle: run the script's imports, and ask Python which of our files it then holds.
    program = (
        "import runpy, sys; "
        f"runpy.run_path({str(path)!r}, run_name='imported'); "
        "print('\\n'.join(m.__file__ for n, m in list(sys.modules.items())"
        " if n.startswith('mnasbench') and getattr(m, '__file__', None)))"
    )
    environment = {"PYTHONPATH": str(repository / "workflow"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    loaded = {Path(line).resolve() for line in done.stdout.split()}
    assert loaded <= set(provenance.imported_files(path))
    assert loaded or "mnasbench" not in path.read_text(), "the oracle saw no module of ours"


def test_torch_is_imported_by_the_steps_that_need_it_alone() -> None:
    """Importing it takes seconds, which a job for each shard and row would pay again."""
    using = {path.name for path in _scripts() if "torch" in provenance.library_versions(path)}
    # The last one is called by hand.
    assert using == {"train_demo.py", "export_timm_torchvision_model.py", "check_parity.py", "write_presets.py"}


def test_what_is_imported_where_it_is_used_counts_as_used() -> None:
    command = Path(provenance.__file__).parent / "commands/ort_vamp.py"
    assert {"openvino", "onnxruntime", "numba"} <= set(provenance.library_versions(command))


def _receipt(tmp_path: Path) -> tuple[Path, Path, Path]:
    output, folder = tmp_path / "model.onnx", tmp_path / "npz"
    output.write_bytes(b"x" * 100)
    folder.mkdir()
    (folder / "a.npz").write_bytes(b"123")
    receipt = tmp_path / "step.receipt.json"
    told = {
        "outputs": {str(output): provenance.describe_file(output)},
        "folders": {str(folder): provenance.describe_folder(folder)},
    }
    write_json(receipt, told)
    return receipt, output, folder


def test_whole_outputs_are_not_damaged(tmp_path: Path) -> None:
    receipt, output, _ = _receipt(tmp_path)
    output.touch()
    assert provenance.damaged_outputs(receipt) == []


@pytest.mark.parametrize("what", ["nothing", "output", "folder", "swapped"])
def test_content_that_changed_at_the_same_size_is_named(tmp_path: Path, what: str) -> None:
    receipt, output, folder = _receipt(tmp_path)
    (folder / "b.npz").write_bytes(b"456")
    content = json.loads(receipt.read_text())
    listed = provenance.describe_folder(folder)
    content["folders"][str(folder)] = {**listed, "content_sha256": provenance.folder_content(folder)}
    write_json(receipt, content)
    match what:
        case "output":
            output.write_bytes(b"y" * 100)
        case "folder":
            (folder / "a.npz").write_bytes(b"124")
        case "swapped":
            (folder / "a.npz").write_bytes(b"456")
            (folder / "b.npz").write_bytes(b"123")
    assert provenance.damaged_outputs(receipt) == [], "planning looks at names and sizes alone"
    changed = {"nothing": None, "output": str(output)}.get(what, str(folder))
    assert provenance.changed_since(receipt) == changed


@pytest.mark.parametrize("what", ["nothing", "content", "time set back", "renamed over", "restarted"])
def test_a_folder_is_read_once_and_again_when_a_file_of_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    receipt, _, folder = _receipt(tmp_path)
    content = json.loads(receipt.read_text())
    listed = provenance.describe_folder(folder)
    content["folders"][str(folder)] = {**listed, "content_sha256": provenance.folder_content(folder)}
    write_json(receipt, content)
    read: list[Path] = []
    reading = provenance.folder_content
    monkeypatch.setattr(provenance, "folder_content", lambda path: (read.append(path), reading(path))[1])
    assert provenance.changed_since(receipt, remember=True) is None
    assert provenance.changed_since(receipt, remember=True) is None
    assert len(read) == 2, "files of a moment ago may change again without another time"

    monkeypatch.setattr(provenance, "_TICK_NS", -1_000_000_000)  # as if it were long ago
    for _ in range(3):
        assert provenance.changed_since(receipt, remember=True) is None
    assert len(read) == 3
    assert provenance.changed_since(receipt) is None
    assert len(read) == 4, "make verify reads all"
    path, before = folder / "a.npz", (folder / "a.npz").stat()
    time.sleep(0.02)  # a tick of the file system's clock
    match what:
        case "content":
            path.write_bytes(b"124")
        case "time set back":
            path.write_bytes(b"124")
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        case "renamed over":
            (tmp_path / "other").write_bytes(b"124")
            os.utime(tmp_path / "other", ns=(before.st_atime_ns, before.st_mtime_ns))
            (tmp_path / "other").replace(path)
        case "restarted":
            monkeypatch.setattr(provenance, "_boot", lambda: "another")
    changed = provenance.changed_since(receipt, remember=True)
    assert changed == (str(folder) if what not in {"nothing", "restarted"} else None)
    assert len(read) == (4 if what == "nothing" else 5)


@pytest.mark.parametrize("damage", ["cut", "gone", "folder cut", "folder lacks", "folder has more", "receipt cut"])
def test_damage_is_seen(tmp_path: Path, damage: str) -> None:
    receipt, output, folder = _receipt(tmp_path)
    match damage:
        case "cut":
            output.write_bytes(b"x" * 99)
        case "gone":
            output.unlink()
        case "folder cut":
            (folder / "a.npz").write_bytes(b"12")
        case "folder lacks":
            (folder / "a.npz").unlink()
        case "folder has more":
            (folder / "b.npz").write_bytes(b"")
        case "receipt cut":
            receipt.write_text(receipt.read_text()[:50])
    expected = [str(receipt if damage == "receipt cut" else output)]
    assert provenance.damaged_outputs(receipt) == expected


def test_a_remembered_folder_is_looked_at_again_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt, output, folder = _receipt(tmp_path)
    os.utime(folder, (0, 0))
    monkeypatch.setattr(provenance, "LOOKED_AT", 0)
    memory = tmp_path / "looked-at.json"
    assert provenance.damaged_receipts([receipt], memory) == {}
    (folder / "a.npz").write_bytes(b"")  # as a power cut leaves a file that was new: its directory does not change
    assert provenance.damaged_receipts([receipt], memory) == {}, "a folder that was whole is not walked again"
    monkeypatch.setattr(provenance, "_boot", lambda: "another")
    assert provenance.damaged_receipts([receipt], memory) == {receipt: [str(output)]}
