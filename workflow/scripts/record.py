"""Run one step of the workflow and leave its receipt: what it used, what it made, how long it took.

The step's output goes to its log. When it fails, its last line is repeated on stderr, and its exit code is ours.
"""

# ruff: noqa: E402
import signal

# An interrupt while modules are read ends this without a traceback; nothing has begun.
signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mnasbench.commands.arguments import parser_for, whole
from mnasbench.commands.colour import coloured
from mnasbench.commands.command_line import run
from mnasbench.file_memory import memory_of_this_machine
from mnasbench.recorded_step import Step, StepFailed, run_step


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    add = parser.add_argument
    add("--receipt", type=Path, required=True, help="file to write")
    add("--settings", type=json.loads, required=True, help="the settings that this step uses, as JSON")
    add("--code", required=True, help="digest of the code that this step runs")
    add("--threads", type=whole(), default=1, help="cores that are reserved for the step")
    add("--log", type=Path, required=True, help="file for the step's output, named <rule>-<wildcards>.log")
    add("--inputs", type=Path, nargs="*", default=[], help="files that the step reads")
    add("--outputs", type=Path, nargs="*", default=[], help="files that the step must leave")
    add("--folders", type=Path, nargs="*", default=[], help="folders that the step fills")
    verified = "receipts of jobs whose outputs and folders the step reads: all must be as they were left"
    add("--verified", type=Path, nargs="*", default=[], help=verified)
    add("command", nargs=argparse.REMAINDER, help="-- and the command")
    return parser


def _say(line: str) -> None:
    # In one piece: print writes the line's end apart, and other steps write between.
    sys.stderr.write(f"{line}\n")


def _with_script(command: Sequence[str]) -> Sequence[str]:
    """``command`` as it is started: a bare ``name.py`` is the script of that name beside this one."""
    script = Path(__file__).with_name(command[0]) if command and command[0].endswith(".py") else None
    return command if script is None or not script.is_file() else [sys.executable, str(script), *command[1:]]


def record(arguments: argparse.Namespace) -> int:
    """Run and describe."""
    command = _with_script(arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command)
    step = Step(
        command=command,
        receipt=arguments.receipt,
        settings=arguments.settings,
        code_sha256=arguments.code,
        threads=arguments.threads,
        log=arguments.log,
        inputs=arguments.inputs,
        outputs=arguments.outputs,
        folders=arguments.folders,
        verified=arguments.verified,
    )
    try:
        run_step(step, memory_of_this_machine(), _say, say_progress=sys.stderr.isatty())
    except StepFailed as failure:
        _say(coloured(str(failure), "red", sys.stderr))
        return failure.code
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one recorded step."""
    return run(build_parser(), record, argv)


if __name__ == "__main__":
    sys.exit(main())
