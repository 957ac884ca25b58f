"""What the machine does to a command is one line and the right exit code, and nothing half-written is left."""

import argparse
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from mnasbench.commands.arguments import parser_for, real, whole
from mnasbench.commands.command_line import run
from mnasbench.files import write_text

# Commands that write 1 MB, fill the memory, or wait, after a first half was written.
_WRITE = "from mnasbench.files import write_text; write_text(Path(sys.argv[1]) / 'sub' / 'out.txt', 'x' * 1_000_000)"
_FILL = "bytearray(1 << 40)"
_WAIT = """
from mnasbench.files import written_atomically
with written_atomically(Path(sys.argv[1]) / 'out.txt') as temporary:
    temporary.write_text('half')
    print('begun', flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: folder"),
        (["a", "--on"], "unrecognized arguments: --on"),
        (["a", "--count", "0"], "argument --count: 0 is not within 1 to 1000000000"),
        (["a", "--count", "9" * 5000], "is not within 1 to"),
        (["a", "--count", "1.5"], "'1.5' is not a whole number"),
        (["a", "--count", "x\ny"], "is not a whole number"),
        (["a", "--rate", "nan"], "nan is not within 0 to 1e+09"),
        (["a", "--rate=-inf"], "is not within 0 to"),
        (["a", "--rate", "0"], "0 is not within"),
        (["a", "--rate", "fast"], "'fast' is not a number"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = parser_for("does nothing")
    parser.add_argument("folder")
    parser.add_argument("--count", type=whole())
    parser.add_argument("--rate", type=real(above=True))
    with pytest.raises(SystemExit) as ended:
        run(parser, lambda _: None, arguments)
    error = capsys.readouterr().err
    assert (ended.value.code, error.count("\n")) == (2, 1), error
    assert message in error


def _program(body: str) -> str:
    inner = "\n".join(f"    {line}" for line in body.strip().splitlines())
    return (
        "import argparse, sys, time\nfrom pathlib import Path\nfrom mnasbench.commands.command_line import run\n"
        f"def act(arguments):\n{inner}\n"
        "parser = argparse.ArgumentParser(prog='step'); parser.add_argument('folder')\n"
        "sys.exit(run(parser, act))\n"
    )


def _start(body: str, folder: Path, **options: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", _program(body), str(folder)]
    paths = os.pathsep.join(str(Path(__file__).parents[2] / name) for name in ("workflow", "workflow/scripts"))
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def test_what_was_said_before_an_error_is_not_lost(tmp_path: Path) -> None:
    child = _start("from mnasbench.errors import InputError; print('so far'); raise InputError('no further')", tmp_path)
    assert (*child.communicate(), child.returncode) == ("so far\n", "step: error: no further\n", 2)


def test_what_cannot_be_said_is_an_error(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        child = subprocess.Popen(
            [sys.executable, "-c", _program("print('x')"), str(tmp_path)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (child.communicate()[1], child.returncode) == ("step: error: No space left on device\n", 2)


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_stream_ends_nothing(closed: str, tmp_path: Path) -> None:
    descriptor = {"stdout": 1, "stderr": 2}[closed]
    body = "from mnasbench.commands.colour import coloured; print(coloured('x', 'red', sys.stdout)); print('y', file=sys.stderr)"
    child = _start(body, tmp_path, preexec_fn=lambda: os.close(descriptor))
    said, error = child.communicate(timeout=60)
    assert (child.returncode, said + error) == (0, "y\n" if closed == "stdout" else "x\n")


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    # A limit on a file's size fails as a full disk does, in the middle of a write.
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    child = _start(_WRITE, tmp_path, preexec_fn=limit)
    _, error = child.communicate(timeout=60)
    assert (child.returncode, error.count("\n")) == (2, 1), error
    assert "out.txt: cannot be written (File too large)" in error
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "sub").write_text("in the way")
    child = _start(_WRITE, tmp_path)
    _, error = child.communicate(timeout=60)
    assert (child.returncode, error.count("\n")) == (2, 1), error
    assert "cannot be written" in error


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_folder_of_somebody_else_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # In a fork, because root may write everywhere and the other user may not read this checkout.
    child = os.fork()
    if not child:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        target = Path("/usr/mnasbench-test/out.txt")
        os._exit(run(argparse.ArgumentParser(prog="step"), lambda _: write_text(target, "x"), []))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 2
    assert "out.txt: cannot be written (Permission denied)" in capfd.readouterr().err


def test_too_little_memory_is_one_line(tmp_path: Path) -> None:
    child = _start(_FILL, tmp_path)
    _, error = child.communicate(timeout=60)
    assert (child.returncode, error.count("\n")) == (1, 1), error
    assert "not enough memory" in error


@pytest.mark.parametrize(
    "raised",
    [
        "ImportError('x.so: failed to map segment from shared object')",
        'RuntimeError("can\'t start new thread")',
        "ToolError('OpenVINO is not installed (std::bad_alloc)') from ImportError('std::bad_alloc')",
        "ModelError('the graph: OpenVINO cannot load it') from RuntimeError('Cannot allocate memory')",
    ],
)
def test_want_of_memory_is_told_as_that_whatever_it_was_taken_for(raised: str, tmp_path: Path) -> None:
    child = _start(f"from mnasbench.errors import ModelError, ToolError; raise {raised}", tmp_path)
    _, error = child.communicate(timeout=60)
    assert (child.returncode, error.count("\n")) == (1, 1), error
    assert error.startswith("step: error: not enough memory") and error.endswith("a smaller batch)\n")


@pytest.mark.parametrize(("number", "message"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_signal_is_one_line_and_leaves_nothing(tmp_path: Path, number: signal.Signals, message: str) -> None:
    child = _start(_WAIT, tmp_path)
    assert child.stdout is not None and child.stdout.readline() == "begun\n"
    child.send_signal(number)
    time.sleep(0.01)
    child.send_signal(number)  # as a terminal and record.py do: the second must not disturb the cleaning up
    _, error = child.communicate(timeout=60)
    assert (child.returncode, error) == (128 + number, f"step: {message}\n")
    assert list(tmp_path.iterdir()) == []


def test_a_caller_in_the_same_process_has_its_handlers_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert run(argparse.ArgumentParser(), lambda _arguments: 0, []) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_what_is_half_written_is_private_and_what_is_whole_is_the_teams(tmp_path: Path) -> None:
    body = """
        import os; from mnasbench.files import written_atomically
        with written_atomically(Path(sys.argv[1]) / 'out.txt') as temporary:
            print(oct(temporary.stat().st_mode & 0o777))
        print(oct((Path(sys.argv[1]) / 'out.txt').stat().st_mode & 0o777))
    """
    child = _start(textwrap.dedent(body), tmp_path, umask=0o027)
    said, error = child.communicate(timeout=60)
    assert (child.returncode, said.split()) == (0, ["0o600", "0o640"]), error
