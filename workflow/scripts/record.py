"""Run one step of the workflow and leave its receipt: what it used, what it made, how long it took.

The step's output goes to its log. When it fails, its last line is repeated on stderr, and its exit code is ours.
"""

import argparse
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from mnasbench import provenance
from mnasbench.commands.arguments import parser_for, whole
from mnasbench.commands.colour import coloured
from mnasbench.commands.command_line import not_enough_memory, run, tells_of_memory
from mnasbench.disk_room import free_bytes
from mnasbench.errors import InputError, OutputError, ToolError, one_line
from mnasbench.files import flush_to_disk, read_json, write_json
from mnasbench.machine import installed_versions
from mnasbench.processes import end_with_parent, former_holder, is_gone

FAILURES = Path("results/logs/failures.txt")
# Names the run that works on these results (common.smk).
LOCK = Path(".snakemake/mnasbench.lock")
# Where a step says how far it is (mnasbench.commands.progress), as a descriptor.
PROGRESS_VARIABLE = "MNASBENCH_PROGRESS"
_UNWANTED = "the run that wanted this was killed, and another may have begun"
# Less than this is free on a disk where a step could not end its last line.
_FULL_BYTES = 1 << 16
# With less address space (ulimit -v) the libraries of most steps do not load, and OpenBLAS tries for ever.
_LEAST_ADDRESSES = 2 << 30
# Several steps share a terminal: a line of each now and then, the first soon enough for what takes over two seconds.
_FIRST_SECONDS, _EVERY_SECONDS = 2.0, 5.0


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    parser.add_argument("--receipt", type=Path, required=True, help="file to write")
    parser.add_argument("--settings", type=json.loads, required=True, help="the settings that this step uses, as JSON")
    parser.add_argument("--code", required=True, help="digest of the code that this step runs")
    told = "file for the step's output, named <rule>-<wildcards>.log"
    parser.add_argument("--threads", type=whole(), default=1, help="cores that are reserved for the step")
    parser.add_argument("--log", type=Path, required=True, help=told)
    parser.add_argument("--inputs", type=Path, nargs="*", default=[], help="files that the step reads")
    parser.add_argument("--outputs", type=Path, nargs="*", default=[], help="files that the step must leave")
    parser.add_argument("--folders", type=Path, nargs="*", default=[], help="folders that the step fills")
    told = "receipts of jobs whose outputs and folders the step reads: all must be as they were left"
    parser.add_argument("--verified", type=Path, nargs="*", default=[], help=told)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and the command")
    return parser


def _describe_inputs(paths: Sequence[Path]) -> dict[str, Any]:
    """Digests of the inputs; InputError for one that is not what its own job wrote.

    A receipt beside them that cannot be read may be of another job, which is planned again for that.
    """
    described = {str(path): provenance.describe_file(path) for path in paths if path.is_file()}
    receipts = {receipt for path in paths for receipt in path.parent.glob(f"*{provenance.RECEIPT_SUFFIX}")}
    damaged, vouched = [], set(map(str, receipts))
    for receipt in sorted(receipts):
        try:
            told = read_json(receipt)["outputs"]
            digests = {name: told[name]["sha256"] for name in described if name in told}
        except (InputError, KeyError, TypeError):
            damaged.append(receipt)
            continue
        vouched.update(digests)
        for name, digest in digests.items():
            if digest != described[name]["sha256"]:
                raise InputError(
                    f"{one_line(name)}: was changed after the workflow made it (its SHA-256 differs from "
                    f"{receipt.name}); delete it, and the next run makes it again"
                )
    if damaged and not vouched.issuperset(described):
        raise InputError(f"{one_line(damaged[0])}: is not a receipt; delete it, and the next run makes it again")
    return described


def _say(line: str) -> None:
    # In one piece: print writes the line's end apart, and other steps write between.
    sys.stderr.write(f"{line}\n")


@contextlib.contextmanager
def _progress_shown(name: str) -> Iterator[int | None]:
    """A descriptor on which a step may say how far it is, shown on stderr; None where that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    reading, writing = os.pipe()
    # For a step that says nothing of itself, that it runs.
    silent = threading.Timer(_FIRST_SECONDS, lambda: _say(f"{name}: running"))
    silent.start()

    def show() -> None:
        due = time.monotonic() + _FIRST_SECONDS
        with os.fdopen(reading, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                silent.cancel()
                if time.monotonic() >= due:
                    _say(f"{name}: {line.rstrip()}")
                    due = time.monotonic() + _EVERY_SECONDS

    showing = threading.Thread(target=show, daemon=True)
    showing.start()
    try:
        yield writing
    finally:
        silent.cancel()
        os.close(writing)
        showing.join(timeout=1.0)  # A process that the step left behind would keep it open


def _describe_folder(folder: Path) -> dict[str, Any]:
    return {**provenance.describe_folder(folder), "content_sha256": provenance.folder_content(folder)}


def _verify(receipts: Sequence[Path]) -> None:
    """InputError where what these jobs left, folders of many files included, is no longer what they left."""
    for receipt in receipts:
        changed = provenance.changed_since(receipt, remember=True)
        if changed is not None:
            raise InputError(
                f"{one_line(changed)}: was changed after the workflow made it (its content differs from "
                f"{receipt.name}); delete {one_line(receipt)}, and the next run makes it again"
            )


def _run_logged(command: Sequence[str], log: Path) -> int:
    """Run ``command`` with its output in ``log``; a signal to us is passed on. Gives its exit code."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    environment.pop(PROGRESS_VARIABLE, None)
    with log.open("wb") as stream, _progress_shown(log.stem) as told:
        kept = () if told is None else (told,)
        if told is not None:
            environment[PROGRESS_VARIABLE] = str(told)
        try:
            child = subprocess.Popen(
                command,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=kept,
                preexec_fn=end_with_parent,
            )
        except OSError as error:
            raise ToolError(
                f"{one_line(command[0])}: cannot be started ({error.strerror}); is it installed and on PATH?"
            ) from error

        def pass_on(number: int, _frame: FrameType | None) -> None:
            child.send_signal(number)

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, pass_on)
        code = _wait(child)
    return code if code >= 0 else 128 - code


def _is_wanted() -> bool:
    """Whether the Snakemake that started this, and the run that it belongs to, are still there.

    Otherwise the job of a killed run would go on, or begin when its turn in a cluster's queue comes, and write beside
    the same job of the next.
    """
    run = os.environ.get("MNASBENCH_RUN", "")
    superseded = run and former_holder(LOCK) not in ("", run)
    return not superseded and not is_gone(os.environ.get("MNASBENCH_RUNNER", ""))


def _wait(child: subprocess.Popen[bytes]) -> int:
    """The exit code of ``child``; it is ended where nobody wants it any more."""
    while True:
        try:
            return child.wait(timeout=1)
        except subprocess.TimeoutExpired:
            if not _is_wanted():
                child.terminate()
                try:
                    child.wait(timeout=5)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
                raise ToolError(_UNWANTED) from None


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _why(code: int, log: Path) -> str:
    """In one line why a step ended with ``code``: its own last words, and what it could not say itself."""
    said = one_line(_last_line(log))
    if code == 128 + signal.SIGKILL:
        advice = "the system does that where memory is short: give it fewer cores, or a machine more memory"
        return f"was killed by signal {signal.SIGKILL} ({advice}); before that: {said}"
    if code > 128 and code - 128 not in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        return f"was ended by signal {code - 128}; before that: {said}"
    # The end of a traceback, where not even the step's own way of telling could be loaded.
    return not_enough_memory(said) if tells_of_memory(said) and "not enough memory" not in said else said


def _check_addresses() -> None:
    """ToolError where a limit on the addresses of a process (``ulimit -v``) leaves no room for a step's libraries."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < _LEAST_ADDRESSES:
        raise ToolError(
            f"a process may have {limit / 1e9:.1f} GB of addresses here (ulimit -v), too little to begin with; "
            f"allow {_LEAST_ADDRESSES / 1e9:.1f} GB or more"
        )


def _found_no_room(log: Path) -> bool:
    """Whether the step could not end its last line, and the disk is full: then it could not say why it failed."""
    text = log.read_bytes()
    return not text.endswith(b"\n") and free_bytes(log.parent) < _FULL_BYTES


def _tell_failure(line: str) -> None:
    """Say what failed now, and leave it for the end of the run, where it is not buried (see the Snakefile)."""
    _say(coloured(line, "red", sys.stderr))
    with contextlib.suppress(OSError), FAILURES.open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")


def _with_script(command: Sequence[str]) -> Sequence[str]:
    """``command`` as it is started: a bare ``name.py`` is the script of that name beside this one."""
    script = Path(__file__).with_name(command[0]) if command and command[0].endswith(".py") else None
    return command if script is None or not script.is_file() else [sys.executable, str(script), *command[1:]]


def record(arguments: argparse.Namespace) -> int:
    """Run, check, describe."""
    command = _with_script(arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command)
    rule = arguments.log.stem.partition("-")[0]
    outputs = [path for path in arguments.outputs if path != arguments.receipt]
    if not _is_wanted():
        raise ToolError(_UNWANTED)
    _check_addresses()
    inputs = _describe_inputs(arguments.inputs)
    _verify(arguments.verified)
    arguments.log.parent.mkdir(parents=True, exist_ok=True)
    started, clock = datetime.now(UTC), time.monotonic()
    code = _run_logged(command, arguments.log)
    seconds = time.monotonic() - clock
    if code and _found_no_room(arguments.log):
        _tell_failure(f"{rule}: {one_line(arguments.log)}: cannot be written (No space left on device)")
        return OutputError.exit_code
    if code:
        _tell_failure(f"{rule}: {_why(code, arguments.log)} [log: {arguments.log}]")
        return code
    missing = [path for path in outputs if not path.is_file()]
    if missing:
        raise ToolError(f"{rule}: left no {one_line(missing[0])}; its log is {one_line(arguments.log)}")
    _say(f"{arguments.log.stem}: {seconds:.1f} s")
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    # A receipt says that these are whole; of folders planning looks at each file's size, which a file that a power
    # cut emptied does not have.
    flush_to_disk(outputs)
    write_json(
        arguments.receipt,
        {
            "rule": rule,
            "command": list(command),
            "settings": arguments.settings,
            "code_sha256": arguments.code,
            "inputs": inputs,
            "outputs": {str(path): provenance.describe_file(path) for path in outputs},
            "folders": {str(path): _describe_folder(path) for path in arguments.folders},
            "git_commit": provenance.git_commit(Path(__file__).parent),
            "versions": installed_versions(),
            "machine": provenance.machine(),
            "threads": arguments.threads,
            "started": started.isoformat(timespec="milliseconds"),
            "seconds": round(seconds, 3),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
            "peak_bytes": usage.ru_maxrss * 1024,
        },
    )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one recorded step."""
    return run(build_parser(), record, argv)


if __name__ == "__main__":
    sys.exit(main())
