"""record.py: what it makes of the receipts that lie beside a step's inputs."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import record
from made_receipt import made_receipt
from mnasbench.files import sha256_of_bytes
from mnasbench.processes import this_process
from mnasbench.receipts import FileRecord
from mnasbench.recorded_step import LOCK


@pytest.mark.parametrize(
    ("own", "neighbour", "message"),
    [
        ("made", "made", ""),
        ("made", "", ""),  # as a power cut leaves it: of a job that is planned again
        ("made", "[]", ""),
        ("", "made", "in.receipt.json: is not a receipt; delete it"),
        ("edited", "made", "in.csv: was changed after the workflow made it"),
    ],
)
def test_an_input_is_what_its_own_receipt_says(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    own: str,
    neighbour: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in (("in", own), ("other", neighbour)):
        Path(f"{name}.csv").write_text("made")
        made = {f"{name}.csv": FileRecord(4, sha256_of_bytes(content.encode()))}
        receipt = made_receipt(outputs=made)
        Path(f"{name}.receipt.json").write_text(json.dumps(receipt.to_json()) if content.isalpha() else content)
    arguments = ["--receipt", "r.json", "--settings", "{}", "--code", "0", "--log", "step-x.log"]
    code = record.main([*arguments, "--inputs", "in.csv", "--", "true"])
    assert (code, Path("r.json").is_file()) == ((2, False) if message else (0, True))
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_job_that_a_killed_run_left_ends_when_the_next_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], when: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MNASBENCH_RUN", "login:1:1")
    LOCK.parent.mkdir()
    LOCK.write_text("login:1:1\n" if when == "meanwhile" else f"{this_process()}\n")
    arguments = ["--receipt", "r.json", "--settings", "{}", "--code", "0", "--log", "step-x.log", "--"]
    if when == "meanwhile":
        arguments += ["sh", "-c", f"echo {this_process()} > {LOCK}; exec sleep 60"]
    else:
        arguments += ["touch", "ran"]
    assert record.main(arguments) == 1
    assert "the run that wanted this was killed" in capsys.readouterr().err
    assert not Path("ran").exists() and not Path("r.json").exists()


def test_a_job_of_the_run_that_holds_the_results_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MNASBENCH_RUN", "login:1:1")
    arguments = ["--receipt", "r.json", "--settings", "{}", "--code", "0", "--log", "step-x.log", "--"]
    assert record.main([*arguments, "true"]) == 0  # a file system where no run could sign
    LOCK.parent.mkdir()
    LOCK.write_text("login:1:1\n")
    assert record.main([*arguments, "true"]) == 0


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("kill -KILL $$", 137, "step: was killed by signal 9 (the system does that where memory is short"),
        ("echo half; kill -SEGV $$", 139, "step: was ended by signal 11; before that: half"),
        ("exit 3", 3, "step: it said nothing"),
        ("echo Traceback; echo MemoryError; exit 1", 1, "step: not enough memory (MemoryError); free some, or give"),
        ("echo 'x.so: failed to map segment from shared object'; exit 1", 1, "step: not enough memory (x.so: failed"),
        ("echo 'step: error: not enough memory; x'; exit 1", 1, "step: step: error: not enough memory; x [log"),
        (r"printf '\033]0;title\007\n'; exit 2", 2, r"step: \x1b]0;title\x07"),
    ],
)
def test_what_ended_a_step_is_one_line_that_a_terminal_shows_as_it_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["--receipt", "r.json", "--settings", "{}", "--code", "0", "--log", "step-x.log"]
    assert record.main([*arguments, "--", "bash", "-c", command]) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and error.rstrip("\n").isprintable()
    assert not Path("r.json").exists()


def test_a_limit_on_addresses_that_no_step_fits_in_is_told(tmp_path: Path, repository: Path) -> None:
    # What a step's libraries do there differs: an error, a crash, and OpenBLAS tries for ever.
    arguments = ["--receipt", "r.json", "--settings", "{}", "--code", "0", "--log", "step-x.log", "--", "touch", "ran"]
    done = subprocess.run(
        [sys.executable, repository / "workflow/scripts/record.py", *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(repository / "workflow")},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)),
        capture_output=True,
        text=True,
        check=False,
    )
    message = "a process may have 1.1 GB of addresses here (ulimit -v), too little to begin with; allow 2.1 GB or more"
    assert (done.returncode, done.stderr) == (1, f"record.py: error: {message}\n")
    assert list(tmp_path.iterdir()) == []


def test_no_secret_of_the_environment_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    monkeypatch.setenv("https_proxy", "http://me:hf_0123456789@proxy")
    arguments = ["--receipt", "r.json", "--settings", "{}", "--code", "0", "--log", "step-x.log"]
    assert record.main([*arguments, "--", "true"]) == 0
    assert all(b"hf_0123456789" not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
