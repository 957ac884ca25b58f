"""Receipts: what they say of what a job left, and what of it is still there."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from made_receipt import made_receipt
from mnasbench import file_memory, receipts
from mnasbench.errors import InputError
from mnasbench.file_memory import FileMemory
from mnasbench.receipts import (
    Acceptance,
    changed_since,
    damage,
    damage_of,
    input_digest,
    read_receipt,
    record_file,
    record_folder,
    write_receipt,
)


def _made(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A receipt, its output, and its folder of two files."""
    output, folder = tmp_path / "model.onnx", tmp_path / "npz"
    output.write_bytes(b"x" * 100)
    folder.mkdir()
    (folder / "a.npz").write_bytes(b"123")
    (folder / "b.npz").write_bytes(b"456")
    path = tmp_path / "step.receipt.json"
    outputs, folders = {str(output): record_file(output)}, {str(folder): record_folder(folder)}
    write_receipt(path, made_receipt(outputs=outputs, folders=folders))
    return path, output, folder


def test_a_receipt_is_read_as_it_was_written(tmp_path: Path) -> None:
    path, output, _ = _made(tmp_path)
    receipt = replace(
        read_receipt(path),
        command=["python", "x y"],
        settings={"a": [1, None]},
        inputs={"in.csv": "e" * 64},
        versions={"numpy": "2"},
        accepted=[Acceptance("d" * 64, "2026-01-02T03:04:05+00:00", "a comment")],
    )
    write_receipt(path, receipt)
    assert read_receipt(path) == receipt
    assert receipt.outputs[str(output)].bytes == 100


@pytest.mark.parametrize(
    "change",
    [
        {"format": 1},
        {"outputs": []},
        {"outputs": {"a": {"bytes": "1", "sha256": ""}}},
        {"outputs": {"a\0": {"bytes": 1, "sha256": ""}}},
        {"folders": {"a": {"files": 1, "bytes": 1, "listing_sha256": ""}}},
        {"seconds": None},
        {"peak_bytes": True},
        {"accepted": [{"at": "x"}]},
    ],
)
def test_what_is_no_receipt_is_refused(tmp_path: Path, change: dict) -> None:
    path, _, _ = _made(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match="is not a receipt; delete it, and the next run makes it again"):
        read_receipt(path)


def test_whole_outputs_are_not_damaged(tmp_path: Path) -> None:
    path, output, _ = _made(tmp_path)
    output.touch()
    assert damage_of(path, by_contents=True) is None


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("cut", "model.onnx was cut short (99 bytes, 100 were written)"),
        ("grown", "model.onnx grew (101 bytes, 100 were written)"),
        ("gone", "model.onnx is missing"),
        ("folder cut", "npz holds other files than were made"),
        ("folder lacks", "npz holds other files than were made"),
        ("folder has more", "npz holds other files than were made"),
        ("folder gone", "npz is missing"),
        ("receipt cut", "step.receipt.json: is not a receipt; delete it, and the next run makes it again"),
    ],
)
def test_damage_is_seen(tmp_path: Path, what: str, expected: str) -> None:
    path, output, folder = _made(tmp_path)
    match what:
        case "cut":
            output.write_bytes(b"x" * 99)
        case "grown":
            output.write_bytes(b"x" * 101)
        case "gone":
            output.unlink()
        case "folder cut":
            (folder / "a.npz").write_bytes(b"12")
        case "folder lacks":
            (folder / "a.npz").unlink()
        case "folder has more":
            (folder / "c.npz").write_bytes(b"")
        case "folder gone":
            folder.rename(tmp_path / "elsewhere")
        case "receipt cut":
            path.write_text(path.read_text()[:50])
    assert damage_of(path) == f"{tmp_path}/{expected}"


@pytest.mark.parametrize("what", ["nothing", "output", "folder", "swapped"])
def test_content_that_changed_at_the_same_size_is_named(tmp_path: Path, what: str) -> None:
    path, output, folder = _made(tmp_path)
    match what:
        case "output":
            output.write_bytes(b"y" * 100)
        case "folder":
            (folder / "a.npz").write_bytes(b"124")
        case "swapped":
            (folder / "a.npz").write_bytes(b"456")
            (folder / "b.npz").write_bytes(b"123")
    receipt = read_receipt(path)
    assert damage(receipt) is None, "planning looks at names and sizes alone"
    changed = {"nothing": None, "output": str(output)}.get(what, str(folder))
    assert changed_since(receipt, FileMemory(None)) == changed


@pytest.mark.parametrize("what", ["nothing", "content", "time set back", "renamed over", "restarted"])
def test_a_folder_is_read_once_and_again_when_a_file_of_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    path, _, folder = _made(tmp_path)
    receipt, file = read_receipt(path), tmp_path / "memory.json"
    read: list[Path] = []
    reading = receipts._content_digest
    monkeypatch.setattr(receipts, "_content_digest", lambda *about: (read.append(about[0]), reading(*about))[1])

    def changed() -> str | None:
        memory = FileMemory(file)
        changed = changed_since(receipt, memory)
        memory.save()
        return changed

    assert changed() is changed() is None
    assert len(read) == 2, "files of a moment ago may change again without another time"
    monkeypatch.setattr(file_memory, "TICK_NS", -1_000_000_000)  # as if it were long ago
    assert changed() is changed() is changed() is None
    assert len(read) == 3
    assert changed_since(receipt, FileMemory(None)) is None
    assert len(read) == 4, "make verify reads all"
    one, before = folder / "a.npz", (folder / "a.npz").stat()
    time.sleep(0.02)  # a tick of the file system's clock
    match what:
        case "content":
            one.write_bytes(b"124")
        case "time set back":
            one.write_bytes(b"124")
            os.utime(one, ns=(before.st_atime_ns, before.st_mtime_ns))
        case "renamed over":
            (tmp_path / "other").write_bytes(b"124")
            os.utime(tmp_path / "other", ns=(before.st_atime_ns, before.st_mtime_ns))
            (tmp_path / "other").replace(one)
        case "restarted":
            monkeypatch.setattr(file_memory, "boot_id", lambda: "another")
    assert changed() == (str(folder) if what not in {"nothing", "restarted"} else None)
    assert len(read) == (4 if what == "nothing" else 5)


def test_what_was_made_again_with_the_same_content_is_the_same_input(tmp_path: Path) -> None:
    path, output, _ = _made(tmp_path)
    before = input_digest(path, FileMemory(None))
    write_receipt(path, replace(read_receipt(path), started="2027", seconds=9.0, code_sha256="f" * 64))
    assert input_digest(path, FileMemory(None)) == before
    output.write_bytes(b"y" * 100)
    write_receipt(path, replace(read_receipt(path), outputs={str(output): record_file(output)}))
    assert input_digest(path, FileMemory(None)) != before
