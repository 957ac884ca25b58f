"""The words of names: a thing is called what it is, and one thing has one name."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

# What a thing was (told, found, ...) says nothing of what it is: a message, an expected value, a baseline.
_NO_NAMES = {"told", "found", "known", "wanted", "seen"}


def _files(repository: Path, *below: str) -> list[Path]:
    """What git tracks; every file where this is no checkout of git."""
    command = ["git", "-C", str(repository), "ls-files", "-z", "--", *below]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("no checkout of git")
    return [repository / name for name in done.stdout.split("\0") if name and (repository / name).is_file()]


def _bindings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of every variable, argument, attribute and function that a module gives a name."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.ExceptHandler(name=str(name)):
                yield node.lineno, name


def test_nothing_is_named_by_what_became_of_it(repository: Path) -> None:
    bad = [
        f"{path.relative_to(repository)}:{line} {name}"
        for path in _files(repository, "workflow", "benchmarks")
        if path.suffix == ".py"
        for line, name in _bindings(ast.parse(path.read_text()))
        if name.strip("_") in _NO_NAMES
    ]
    assert bad == []


def test_images_are_called_images(repository: Path) -> None:
    other = "pic" + "ture"
    bad = []
    for path in _files(repository):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        bad += [f"{path.relative_to(repository)}:{n}" for n, line in enumerate(lines, 1) if other in line.lower()]
    assert bad == []
