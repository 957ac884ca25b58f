"""The digest of a step's code: what changes it, what must not, and that every Python gives the same."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mnasbench.code_digest import Code, Sources

REPOSITORY = Path(__file__).resolve().parents[2]
STEPS = sorted(
    path.relative_to(REPOSITORY / "workflow").as_posix()
    for path in [
        *(REPOSITORY / "workflow/scripts").glob("*.py"),
        *(REPOSITORY / "workflow/mnasbench/commands").glob("ort_*.py"),
    ]
)

# Whatever Python has differed in from version to version is in here.
STEP = '''
"""A step."""
import argparse
import sys
from mnasbench import kept, table
from mnasbench.numbers import LIMIT, scaled
from mnasbench.errors import StepError


def main(argv=None) -> int:
    """Run it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=3, help="so many")
    count = parser.parse_args(argv).count
    if count > LIMIT:
        raise StepError(f"{count}: is more than {LIMIT}") from None
    print(scaled(count), kept.read(f"{count:>{LIMIT}} {count!r}é\\N{BULLET}" "and" f'{"x"}'), -1.5e300, b"\\xff", 1_000j, table.ROWS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
'''
NUMBERS = """
from typing import TypeVar, overload
Item = TypeVar("Item")
LIMIT: "int" = 5
UNUSED = 6


def scaled(value: Item, /, *more: int, by=2, **rest: str) -> Item:
    match value:
        case {"a": [1, *_], **others}:
            return others
        case None | True:
            return 0
    try:
        return [by * each for each in (value, *more) if (twice := each * 2)][-1] + _offset(0)
    except (ValueError, TypeError) as error:
        return lambda value=..., *, by=None: (value, by, error, twice)


def _offset(value):
    return value[1:, ::2, ...] if value else UNREACHED_LOCALLY()


def UNREACHED_LOCALLY():
    global LIMIT
    with open("x") as one, open("y"):
        yield LIMIT


def unrelated():
    return 1
"""
KEPT = """
import functools

READERS = {}


def reader(function):
    READERS[function.__name__] = function
    return function


@reader
def of_text(text):
    return text


@functools.cache
def not_called(text):
    return text


def read(text):
    return READERS["of_text"](text)
"""
TABLE = """
class Row:
    def __init__(self, name):
        self.name = name


ROWS = (Row("a"), Row("b"))


def unrelated():
    return 1
"""
GOLDEN = "04bb2e6234d6e9b462c57569d3df95c4bf1e536014f7c7a49e6f3784c2eb889f"


def _fixture(root: Path) -> Path:
    files = {"scripts/step.py": STEP, "mnasbench/__init__.py": "", "mnasbench/numbers.py": NUMBERS}
    files |= {"mnasbench/kept.py": KEPT, "mnasbench/table.py": TABLE}
    files |= {"mnasbench/errors.py": 'class StepError(Exception):\n    """What goes wrong."""\n'}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root / "scripts/step.py"


def _code(script: Path) -> Code:
    return Sources(script.parents[1]).code_of(script)


def test_the_digest_of_a_source_is_this_one(tmp_path: Path) -> None:
    """Equal on every machine and Python; where this changes on purpose, every result of everybody is made again."""
    assert _code(_fixture(tmp_path)).digest == GOLDEN


def _pythons() -> list[str]:
    """This Python, and those of other versions that can be started here."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    versions = ("3.11", "3.12", "3.13", "3.14")
    there = [str(path) for version in versions for path in sorted(pyenv.glob(f"versions/{version}*/bin/python"))]
    there += [found for version in versions if (found := shutil.which(f"python{version}"))]
    works = [
        python
        for python in there
        if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0
    ]
    return list(dict.fromkeys([sys.executable, *works]))


def test_every_python_of_this_machine_gives_the_same(tmp_path: Path) -> None:
    script = _fixture(tmp_path / "fixture")
    own = REPOSITORY / "workflow/scripts/gather_manifest.py"  # of no library whose version counts
    program = (
        "import sys; from pathlib import Path; from mnasbench.code_digest import code_digest; "
        f"print(code_digest(Path({str(script)!r})), code_digest(Path({str(own)!r})))"
    )
    digests = {}
    for python in _pythons():
        environment = {"PYTHONPATH": str(REPOSITORY / "workflow"), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run([python, "-c", program], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{python}: {done.stderr}"
        digests[python] = done.stdout
    assert len(set(digests.values())) == 1, digests


@pytest.mark.parametrize(
    ("file", "before", "after", "changes"),
    [
        ("scripts/step.py", "default=3", "default=4", {"scripts/step.py:main"}),
        ("scripts/step.py", 'help="so many"', 'help="so very many"', set()),
        ("scripts/step.py", "is more than", "is above", set()),
        ("scripts/step.py", '"""Run it."""', '"""Run this."""', set()),
        ("scripts/step.py", "(argv=None) -> int:", "(argv = None)->'int':  # a comment", set()),
        ("scripts/step.py", "-1.5e300", "-1.5e301", {"scripts/step.py:main"}),
        ("scripts/step.py", "import sys\n", "import sys\nprint(1)\n", {"scripts/step.py"}),
        ("mnasbench/numbers.py", "value: Item", "value: int", set()),
        ("mnasbench/numbers.py", "by=2", "by=3", {"mnasbench/numbers.py:scaled"}),
        ("mnasbench/numbers.py", "value[1:", "value[2:", {"mnasbench/numbers.py:_offset"}),
        ("mnasbench/numbers.py", "yield LIMIT", "yield -LIMIT", {"mnasbench/numbers.py:UNREACHED_LOCALLY"}),
        ("mnasbench/numbers.py", '= 5', '= 7', {"mnasbench/numbers.py:LIMIT"}),
        ("mnasbench/numbers.py", "UNUSED = 6", "UNUSED = 7", set()),
        ("mnasbench/numbers.py", "return 1", "return 2", set()),
        ("mnasbench/kept.py", "def of_text(text):\n    return text", "def of_text(text):\n    return 0", {"mnasbench/kept.py:of_text"}),
        ("mnasbench/kept.py", "def not_called(text):\n    return text", "def not_called(text):\n    return 0", set()),
        ("mnasbench/table.py", "self.name = name", "self.name = 0", {"mnasbench/table.py:Row"}),
        ("mnasbench/table.py", "return 1", "return 2", set()),
        ("mnasbench/errors.py", "Exception", "ValueError", set()),
    ],
)  # fmt: skip
def test_what_an_edit_changes(tmp_path: Path, file: str, before: str, after: str, changes: set[str]) -> None:
    script = _fixture(tmp_path)
    first = _code(script)
    text = (tmp_path / file).read_text()
    assert text.count(before) == 1
    (tmp_path / file).write_text(text.replace(before, after))
    second = _code(script)
    assert {name for name in first.parts if first.parts[name] != second.parts.get(name)} == changes
    assert (first.digest != second.digest) == bool(changes)


def _parts_of(tmp_path: Path, script: str, **modules: str) -> set[str]:
    """The parts of a script on top of these modules of the library."""
    script_file = tmp_path / "scripts/step.py"
    library = {tmp_path / f"mnasbench/{name}.py": text for name, text in modules.items()}
    for path, text in (library | {script_file: script}).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return set(_code(script_file).parts)


def test_a_module_that_hands_on_what_another_defines_counts_with_what_it_does(tmp_path: Path) -> None:
    through = "import numpy\ndef patched():\n    return 1\nif not patched():\n    print(1)\n"
    parts = _parts_of(
        tmp_path, "def main():\n    from mnasbench.through import numpy\n    numpy.ones(1)\n", through=through
    )
    assert parts == {"scripts/step.py:main", "mnasbench/through.py", "mnasbench/through.py:patched", "numpy"}


@pytest.mark.parametrize(
    "use",
    [
        "import mnasbench.one",  # for its effect
        "from mnasbench import one\nprint(one)",
        "from mnasbench import one\nprint(one.made_elsewhere)",
        "from mnasbench.one import *",
        "from mnasbench.two import one_by_name\none_by_name('f')",
        "import importlib\nimportlib.import_module('mnasbench.one')",
        "import importlib, mnasbench.one\nimportlib.import_module('mnasbench.' + 'one')",
    ],
)
def test_what_cannot_be_told_apart_counts_together(tmp_path: Path, use: str) -> None:
    one = "def f():\n    return 1\n"
    two = "from mnasbench import one\ndef one_by_name(name):\n    return eval('one.' + name)()\n"
    assert "mnasbench/one.py:f" in _parts_of(tmp_path, f"{use}\n", one=one, two=two)
