"""One step of the workflow, run and recorded: its command, its output in a log, and the receipt that it leaves."""

import contextlib
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from mnasbench.disk_room import free_bytes
from mnasbench.errors import InputError, OutputError, ToolError, one_line
from mnasbench.file_memory import FileMemory
from mnasbench.files import flush_to_disk
from mnasbench.machine import git_commit, installed_versions, machine, used_by_children
from mnasbench.out_of_memory import not_enough_memory, tells_of_memory
from mnasbench.processes import end_with_parent, former_holder, is_gone
from mnasbench.receipts import (
    RECEIPT_SUFFIX,
    Receipt,
    changed_since,
    input_digest,
    is_receipt,
    read_receipt,
    record_file,
    record_folder,
    write_receipt,
)

FAILURES = Path("results/logs/failures.txt")
# Names the run that works on these results (mnasbench.plan).
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


@dataclass(frozen=True)
class Step:
    """A job of the workflow.

    ``settings``: what its command depends on besides its files. ``code_sha256``: digest of the code that it runs.
    ``log``: named <rule>-<wildcards>.log. ``outputs`` must be there in the end; ``folders`` are filled. ``verified``:
    receipts of jobs whose outputs and folders it reads; all must be as they were left.
    """

    command: Sequence[str]
    receipt: Path
    settings: Any
    code_sha256: str
    threads: int
    log: Path
    inputs: Sequence[Path] = ()
    outputs: Sequence[Path] = ()
    folders: Sequence[Path] = ()
    verified: Sequence[Path] = ()

    @property
    def rule(self) -> str:
        """Name of the job's rule."""
        return self.log.stem.partition("-")[0]


class StepFailed(ToolError):
    """The step's command failed; ``code`` is its exit code, 128 + n where signal n ended it."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def run_step(step: Step, memory: FileMemory, say: Callable[[str], None], say_progress: bool) -> None:
    """Run a step and leave its receipt. ``say`` is called with one line at a time.

    ``say_progress``: whether it is to hear how far the step is. Raises StepFailed where the command failed, InputError
    where a file that it reads is not what its own job left, ToolError where an output is missing or the run that
    wanted the step was killed.
    """
    outputs = [path for path in step.outputs if path != step.receipt]
    if not _is_wanted():
        raise ToolError(_UNWANTED)
    _check_addresses()
    inputs = _verified_inputs(step.inputs, memory)
    _verify(step.verified, memory)
    memory.save()
    step.log.parent.mkdir(parents=True, exist_ok=True)
    started, clock = datetime.now(UTC), time.monotonic()
    code = _run_logged(step, say, say_progress)
    seconds = time.monotonic() - clock
    if code:
        raise _failure(step, code)
    missing = [path for path in outputs if not path.is_file()]
    if missing:
        raise ToolError(f"{step.rule}: left no {one_line(missing[0])}; its log is {one_line(step.log)}")
    say(f"{step.log.stem}: {seconds:.1f} s")
    cpu_seconds, peak_bytes = used_by_children()
    # A receipt says that these are whole; of folders planning looks at each file's size, which a file that a power
    # cut emptied does not have.
    flush_to_disk(outputs)
    write_receipt(
        step.receipt,
        Receipt(
            rule=step.rule,
            command=list(step.command),
            settings=step.settings,
            code_sha256=step.code_sha256,
            inputs=inputs,
            outputs={str(path): record_file(path) for path in outputs},
            folders={str(path): record_folder(path) for path in step.folders},
            git_commit=git_commit(Path(__file__).parent),
            versions=installed_versions(),
            machine=machine(),
            threads=step.threads,
            started=started.isoformat(timespec="milliseconds"),
            seconds=round(seconds, 3),
            cpu_seconds=round(cpu_seconds, 3),
            peak_bytes=peak_bytes,
        ),
    )


# -------------------------------------------------------------------------------------------------------------- inputs
def _verified_inputs(paths: Sequence[Path], memory: FileMemory) -> dict[str, str]:
    """Digests of the inputs; InputError for one that is not what its own job left.

    A receipt beside them that cannot be read may be of another job, which is planned again for that.
    """
    there = [path for path in paths if path.is_file()]
    beside = sorted({receipt for path in there for receipt in path.parent.glob(f"*{RECEIPT_SUFFIX}")})
    digests = {str(path): memory.sha256(path) for path in there if not is_receipt(path)}
    damaged, vouched = [], set()
    for receipt in beside:
        try:
            outputs = read_receipt(receipt).outputs
        except InputError as error:
            damaged.append(error)
            continue
        for name in outputs.keys() & digests.keys():
            vouched.add(name)
            if outputs[name].sha256 != digests[name]:
                raise InputError(
                    f"{one_line(name)}: was changed after the workflow made it (its SHA-256 differs from "
                    f"{receipt.name}); delete it, and the next run makes it again"
                )
    if damaged and not vouched.issuperset(digests):
        raise damaged[0]
    return {str(path): digests.get(str(path)) or input_digest(path, memory) for path in there}


def _verify(receipts: Sequence[Path], memory: FileMemory) -> None:
    """InputError where what these jobs left, folders of many files included, is no longer what they left."""
    for receipt in receipts:
        changed = changed_since(read_receipt(receipt), memory)
        if changed is not None:
            raise InputError(
                f"{one_line(changed)}: was changed after the workflow made it (its content differs from "
                f"{receipt.name}); delete {one_line(receipt)}, and the next run makes it again"
            )


# ------------------------------------------------------------------------------------------------------------- running
@contextlib.contextmanager
def _progress_shown(name: str, say: Callable[[str], None]) -> Iterator[int]:
    """A descriptor on which a step may say how far it is; what it says there is said on now and then."""
    reading, writing = os.pipe()
    # For a step that says nothing of itself, that it runs.
    silent = threading.Timer(_FIRST_SECONDS, lambda: say(f"{name}: running"))
    silent.start()

    def show() -> None:
        due = time.monotonic() + _FIRST_SECONDS
        with os.fdopen(reading, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                silent.cancel()
                if time.monotonic() >= due:
                    say(f"{name}: {line.rstrip()}")
                    due = time.monotonic() + _EVERY_SECONDS

    showing = threading.Thread(target=show, daemon=True)
    showing.start()
    try:
        yield writing
    finally:
        silent.cancel()
        os.close(writing)
        showing.join(timeout=1.0)  # A process that the step left behind would keep it open


def _run_logged(step: Step, say: Callable[[str], None], say_progress: bool) -> int:
    """Run the command with its output in the log; a signal to us is passed on. Gives its exit code."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    environment.pop(PROGRESS_VARIABLE, None)
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(step.log.open("wb"))
        descriptors = [stack.enter_context(_progress_shown(step.log.stem, say))] if say_progress else []
        if descriptors:
            environment[PROGRESS_VARIABLE] = str(descriptors[0])
        try:
            child = subprocess.Popen(
                step.command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=descriptors,
                preexec_fn=end_with_parent,
            )
        except OSError as error:
            raise ToolError(
                f"{one_line(step.command[0])}: cannot be started ({error.strerror}); is it installed and on PATH?"
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


def _check_addresses() -> None:
    """ToolError where a limit on the addresses of a process (``ulimit -v``) leaves no room for a step's libraries."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < _LEAST_ADDRESSES:
        raise ToolError(
            f"a process may have {limit / 1e9:.1f} GB of addresses here (ulimit -v), too little to begin with; "
            f"allow {_LEAST_ADDRESSES / 1e9:.1f} GB or more"
        )


# ------------------------------------------------------------------------------------------------------------ failures
def _failure(step: Step, code: int) -> StepFailed:
    """The failure of a step, in one line; noted for the end of the run as well, where it is not buried."""
    if _has_no_room(step.log):
        message = f"{step.rule}: {one_line(step.log)}: cannot be written (No space left on device)"
        code = OutputError.exit_code
    else:
        message = f"{step.rule}: {_why(code, step.log)} [log: {step.log}]"
    with contextlib.suppress(OSError), FAILURES.open("a", encoding="utf-8") as stream:
        stream.write(message + "\n")
    return StepFailed(message, code)


def _has_no_room(log: Path) -> bool:
    """Whether the step could not end its last line, and the disk is full: then it could not say why it failed."""
    return not log.read_bytes().endswith(b"\n") and free_bytes(log.parent) < _FULL_BYTES


def _why(code: int, log: Path) -> str:
    """In one line why a step ended with ``code``: its own last words, and what it could not say itself."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = one_line(lines[-1]) if lines else "it said nothing"
    if code == 128 + signal.SIGKILL:
        advice = "the system does that where memory is short: give it fewer cores, or a machine more memory"
        return f"was killed by signal {signal.SIGKILL} ({advice}); before that: {last}"
    if code > 128 and code - 128 not in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        return f"was ended by signal {code - 128}; before that: {last}"
    # The end of a traceback, where not even the step's own way of telling could be loaded.
    return not_enough_memory(last) if tells_of_memory(last) and "not enough memory" not in last else last
