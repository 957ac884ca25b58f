"""Room on a disk is asked for before anything is written."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from mnasbench.disk_room import free_bytes, on_disk, require_room
from mnasbench.errors import OutputError


def test_a_disk_without_room_for_all_folders_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5_000_000_000))
    needs = {tmp_path / "npz/0": 3_000_000_000, tmp_path / "npz/1": 2_000_000_000}
    require_room(needs, "this run")
    message = f"{re.escape(str(tmp_path))}: this run needs about 5.1 GB there, but 5.0 GB are free"
    with pytest.raises(OutputError, match=message):
        require_room(needs | {tmp_path / "outputs": 100_000_000}, "this run")


def test_a_folder_that_is_not_there_yet_is_judged_by_its_disk(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "a/b/c") > 0
    with pytest.raises(OutputError, match=re.escape(str(tmp_path))):
        require_room({tmp_path / "a/b/c": 1 << 60}, "this run")


def test_files_take_whole_blocks() -> None:
    assert [on_disk(size) for size in (0, 1, 4096, 4097)] == [0, 4096, 4096, 8192]
