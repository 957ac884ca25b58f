"""docs/promises.md names tests that exist, the lock file is whole, and nothing of ours evaluates data."""

import ast
import importlib.metadata
import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Calls that would let data act.
_FORBIDDEN = {
    "eval",
    "exec",
    "os.system",
    "os.popen",
    "pickle.load",
    "pickle.loads",
    "yaml.unsafe_load",
    "yaml.full_load",
}


def test_every_promise_names_tests_that_exist(repository: Path) -> None:
    text = (repository / "docs/promises.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) > 30
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not (repository / file).is_file() or f"def {name}(" not in (repository / file).read_text()
    ]
    assert missing == []


def test_the_lock_file_pins_all_that_is_needed(repository: Path) -> None:
    lines = (repository / "requirements.lock").read_text().splitlines()
    pinned = {
        canonicalize_name(name): version
        for name, _, version in (line.partition("==") for line in lines if "==" in line and not line.startswith("#"))
    }
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    waiting = [Requirement(text) for text in (*project["dependencies"], *project["optional-dependencies"]["dev"])]
    seen: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if requirement.name == "mnasbench":  # an extra that names another one
            waiting += [
                Requirement(text) for extra in requirement.extras for text in project["optional-dependencies"][extra]
            ]
            continue
        if name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        assert name in pinned, f"{name} is needed and not pinned"
        assert pinned[name].partition("+")[0] == importlib.metadata.version(name).partition("+")[0], name
        waiting += [Requirement(text) for text in importlib.metadata.requires(name) or ()]


def test_no_command_takes_a_number_without_bounds(repository: Path) -> None:
    # A process number of -1, a rate of NaN, 10^30 images: argparse's int and float take them all.
    found = [
        f"{path.name}: {line.strip()}"
        for folder in ("workflow/scripts", "workflow/mnasbench/commands")
        for path in sorted((repository / folder).glob("*.py"))
        for line in path.read_text().splitlines()
        if re.search(r"type=(int|float)\b(?!.*choices=)", line)
    ]
    assert found == []


def test_nothing_of_ours_evaluates_data_or_goes_through_a_shell(repository: Path) -> None:
    found = []
    for path in sorted((repository / "workflow").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            shell = any(word.arg == "shell" and ast.unparse(word.value) != "False" for word in node.keywords)
            loads = called == "torch.load" and not any(
                word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in node.keywords
            )
            if called in _FORBIDDEN or shell or loads:
                found.append(f"{path.name}:{node.lineno} {called}")
    assert found == []
