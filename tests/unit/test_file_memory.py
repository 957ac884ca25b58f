"""The memory of files: what it believes, and that nothing rests on it."""

import os
import time
from pathlib import Path

import pytest

from mnasbench import file_memory
from mnasbench.file_memory import FileMemory, digest_of_states, memory_of_this_machine, state_of
from mnasbench.files import sha256_of_bytes


@pytest.fixture(autouse=True)
def _long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a moment ago count as old."""
    monkeypatch.setattr(file_memory, "TICK_NS", -1_000_000_000)


def _remembered(tmp_path: Path, **options: bool) -> tuple[FileMemory, Path]:
    file = tmp_path / "a.pth"
    file.write_bytes(b"123")
    memory = FileMemory(tmp_path / "memory.json", **options)
    memory.sha256(file)
    memory.save()
    return FileMemory(tmp_path / "memory.json", **options), file


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, file = _remembered(tmp_path)
    monkeypatch.setattr(file_memory, "sha256_of_file", lambda path: pytest.fail(f"{path} was read again"))
    assert memory.sha256(file) == sha256_of_bytes(b"123")


@pytest.mark.parametrize("how", ["content", "time set back", "renamed over"])
def test_a_changed_file_is_read_again(tmp_path: Path, how: str) -> None:
    memory, file = _remembered(tmp_path)
    before = file.stat()
    time.sleep(0.02)  # a tick of the file system's clock
    if how == "renamed over":
        (tmp_path / "other").write_bytes(b"124")
        (tmp_path / "other").replace(file)
    else:
        file.write_bytes(b"124")
    if how != "content":
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert memory.sha256(file) == sha256_of_bytes(b"124")


def test_what_changed_a_moment_ago_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_memory, "TICK_NS", 2_000_000_000)
    memory, file = _remembered(tmp_path)
    assert memory.recall(str(file), state_of(file)) is None


def test_nothing_is_believed_after_a_restart_but_what_others_wrote_long_ago(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A power cut may empty a file that was new, and leave its times.
    for across_boots in (False, True):
        with monkeypatch.context() as patch:
            _remembered(tmp_path, across_boots=across_boots)
            patch.setattr(file_memory, "boot_id", lambda: "another")
            memory = FileMemory(tmp_path / "memory.json", across_boots=across_boots)
            file = tmp_path / "a.pth"
            assert (memory.recall(str(file), state_of(file)) is not None) == across_boots


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1}', '{"format":1,"boot":"","files":[1]}', "\0\xff"])
def test_a_damaged_memory_is_none(tmp_path: Path, content: str) -> None:
    _, file = _remembered(tmp_path)
    (tmp_path / "memory.json").write_text(content)
    memory = FileMemory(tmp_path / "memory.json")
    assert memory.sha256(file) == sha256_of_bytes(b"123")
    memory.save()
    assert FileMemory(tmp_path / "memory.json").recall(str(file), state_of(file)) == sha256_of_bytes(b"123")


@pytest.mark.parametrize("entry", ["[]", "null", "[1,2,3,4]", "5", "[[],2,3,4,5]"])
def test_a_damaged_entry_is_none(tmp_path: Path, entry: str) -> None:
    boot = file_memory.boot_id()
    (tmp_path / "memory.json").write_text(f'{{"format":1,"boot":"{boot}","files":{{"a":{entry}}}}}')
    (tmp_path / "a").write_bytes(b"")
    assert FileMemory(tmp_path / "memory.json").recall("a", state_of(tmp_path / "a")) is None


def test_two_processes_lose_nothing_of_each_other(tmp_path: Path) -> None:
    states = {}
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode())
        states[name] = state_of(tmp_path / name)
    one, other = FileMemory(tmp_path / "memory.json"), FileMemory(tmp_path / "memory.json")
    for memory, name in ((one, "a"), (other, "b")):
        assert memory.recall_all(states) == {}
        memory.remember(name, states[name], [name, 1])
    one.save()
    other.save()
    assert FileMemory(tmp_path / "memory.json").recall_all(states) == {"a": ["a", 1], "b": ["b", 1]}


def test_it_holds_no_more_than_it_may(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    state = state_of(tmp_path / "file")
    memory = FileMemory(tmp_path / "memory.json", most=2)
    memory.remember_all({name: (state, name) for name in "abc"})
    memory.save()
    assert FileMemory(tmp_path / "memory.json").recall_all(dict.fromkeys("abc", state)) == {"b": "b", "c": "c"}


def test_a_folder_that_cannot_be_written_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    memory = FileMemory(tmp_path / "a" / "memory.json")
    memory.sha256(tmp_path / "a")
    memory.save()


def test_each_machine_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    for number in range(70):
        monkeypatch.setattr(file_memory, "boot_id", lambda boot=f"boot-{number}": boot)
        memory = memory_of_this_machine(tmp_path / "memory")
        memory.sha256(tmp_path / "file")
        memory.save()
    files = sorted((tmp_path / "memory").iterdir())
    assert len(files) == 64 and tmp_path / "memory/boot-69.json" in files


def test_one_digest_says_whether_any_of_many_files_changed(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(b"")
    states = {name: state_of(tmp_path / name) for name in "ab"}
    digest = digest_of_states(states, "labels")
    assert digest_of_states(dict(reversed(states.items())), "labels") == digest
    assert digest_of_states(states, "other labels") != digest
    assert digest_of_states({"a": states["a"]}, "labels") != digest
    time.sleep(0.02)
    (tmp_path / "b").touch()
    assert digest_of_states(states | {"b": state_of(tmp_path / "b")}, "labels") != digest
