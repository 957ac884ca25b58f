"""The vendor's compiler: called, its three files checked and described. docs/vacc.md has the formats.

Nothing of it can be had here, so what only a card can confirm is marked (inferred).
"""

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from mnasbench.build.config import BuildConfig, read_build_config
from mnasbench.errors import SettingsError, ToolError, one_line
from mnasbench.files import read_json, sha256_of_file

COMMANDS = {1: "build", 2: "compile"}
# What vamp's -m expects behind the prefix; published for generation 1, of generation 2 (inferred).
FILES = {"lib": ".so", "graph": ".json", "params": ".params"}


def call_tool(command: Sequence[str], log: TextIO) -> str:
    """Run a tool of the vendor's; gives what it said, which is copied to ``log`` as it comes.

    Raises ToolError where it cannot be started or fails. An interrupted call ends the tool.
    """
    log.write(f"$ {shlex.join(command)}\n")
    log.flush()
    try:
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace"
        )
    except OSError as error:
        raise ToolError(
            f"{one_line(command[0])}: cannot be started ({error.strerror}); install the vendor's tools and activate "
            "their environment, or name the tool's path in vacc.vamc and vacc.vamp"
        ) from error
    assert child.stdout is not None  # a pipe was asked for
    lines = []
    try:
        for line in child.stdout:
            log.write(line)
            log.flush()
            lines.append(line)
        code = child.wait()
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()
    if code:
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        ending = f"exit code {code}" if code > 0 else f"signal {-code}"
        raise ToolError(f"`{one_line(shlex.join(command))}` ended with {ending}: {one_line(last)}")
    return "".join(lines)


def model_files(prefix: Path) -> dict[str, Path]:
    """The three files of a model that vamc compiled, by their role."""
    return {role: prefix.with_name(prefix.name + suffix) for role, suffix in FILES.items()}


def describe_files(prefix: Path) -> dict[str, Any]:
    """Name, SHA-256 and bytes of each of the three files; ToolError names one that is missing, and what is there."""
    described: dict[str, Any] = {}
    for role, path in model_files(prefix).items():
        if not path.is_file():
            there = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
            contents = f"its folder holds {', '.join(map(one_line, there[:6]))}" if there else "its folder is not there"
            raise ToolError(f"{one_line(path)}: vamc did not write it ({contents})")
        described |= {
            role: path.name,
            f"{role}_sha256": sha256_of_file(path),
            f"{role}_bytes": path.stat().st_size,
        }
    return described


def compile_model(tool: str, build_file: Path, log: TextIO) -> dict[str, Any]:
    """Have the vendor's compiler build ``build_file``; gives what the embedded compiler's model_info says of a model.

    Raises ToolError where the call fails or leaves other files than those of its generation.
    """
    config = read_build_config(build_file, card=True)
    for path in model_files(config.prefix).values():
        path.unlink(missing_ok=True)  # a file of an earlier call must not pass for one of this
    command = [tool, COMMANDS[config.generation], str(build_file)]
    call_tool(command, log)
    return {
        "name": config.name,
        "engine": "vacc",
        "precision": config.precision,
        "prefix": str(config.prefix),
        "command": command,
        "files": describe_files(config.prefix),
        # What the vendor's compiler does between the two is not known.
        "quantization": None,
        "sources": {"checkpoint": sha256_of_file(config.checkpoint), "build_file": sha256_of_file(build_file)},
        "notes": [],
    }


def vendor_model_info(compiled: Mapping[str, Any], hwconfig: str | None) -> dict[str, str]:
    """The model_info JSON that the vendor's own sample_cls.py reads."""
    files = model_files(Path(compiled["prefix"]))
    return {
        "model_name": compiled["name"],
        "model_lib_path": str(files["lib"]),
        "model_graph_path": str(files["graph"]),
        "model_params_path": str(files["params"]),
        "hw_config_file": hwconfig or "",
    }


def prefix_of_model_info(path: Path) -> Path:
    """What the three files of a model_info JSON share; SettingsError where it names none, or files of other names."""
    content = read_json(path)
    keys = ("model_lib_path", "model_graph_path", "model_params_path")
    named = [content.get(key) for key in keys] if isinstance(content, Mapping) else []
    files = [Path(name) for name in named if isinstance(name, str)]
    prefixes = {file.with_suffix("") for file in files if file.name}
    if len(files) != len(keys) or len(prefixes) != 1:
        raise SettingsError(
            f"{one_line(path)}: is no model_info of one model, expected {', '.join(keys)} that differ in their suffix"
        )
    return prefixes.pop()


def for_the_card(config: BuildConfig) -> BuildConfig:
    """``config`` with calibration images prepared as the vendor's published files say it.

    They squeeze every image (the file has no word for a short side), and those of generation 1 by OpenCV's
    bilinear alone. Only ranges are taken from these images; the images that are scored are prepared as ever.
    """
    p = config.preprocessing
    if p is None:
        return config
    squeezed = replace(p.squeezed(), crop_at=None)
    if config.generation == 1:
        squeezed = replace(squeezed, interpolation="bilinear", library="opencv")
    return replace(config, preprocessing=squeezed)
