"""Who imports what: a stage from those before it, the commands alone argparse, and pyproject.toml names all of it."""

import ast
import functools
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARY = REPOSITORY / "workflow/mnasbench"
COMMANDS = LIBRARY / "commands"
STAGES = ["data", "model", "build", "run", "result"]

# Needed by what we import or call, and imported by nothing of ours.
OF_OTHERS = {
    "onnxscript": "torch.onnx.export",
    "pygments": "snakemake --report",
    "snakemake-executor-plugin-slurm": "profiles/slurm",
}
# Imported where it is found, by a script that only a maintainer calls: it makes the documents' screenshot.
OF_MAINTAINERS = {"playwright"}


def _modules() -> list[Path]:
    return sorted(LIBRARY.rglob("*.py"))


@functools.cache
def _names(path: Path) -> frozenset[str]:
    """Every module that a file imports, in functions as well; a name from a package counts as a module of it, too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{path}: imports of ours are absolute"
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


def _file(module: str) -> Path | None:
    """The file of one of our modules."""
    package, _, rest = module.partition(".")
    base = LIBRARY.joinpath(*rest.split(".")) if rest else LIBRARY
    files = (base.with_suffix(".py"), base / "__init__.py") if package == "mnasbench" else ()
    return next((file for file in files if file.is_file()), None)


def _reached(start: Iterable[Path]) -> set[Path]:
    """These files, and those of ours that they import, directly or not."""
    reached: set[Path] = set()
    waiting = list(start)
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            waiting += [file for name in _names(path) if (file := _file(name))]
    return reached


def _place(path: Path) -> str:
    """The package of the library that a module belongs to; "" for the ground, which the runtimes are part of."""
    parts = path.relative_to(LIBRARY).parts
    return parts[0] if len(parts) > 1 and parts[0] != "runtimes" else ""


@pytest.mark.parametrize("path", _modules(), ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_a_module_imports_from_the_stages_before_it_and_the_ground(path: Path) -> None:
    place = _place(path)
    if place in STAGES:
        allowed = {"", *STAGES[: STAGES.index(place) + 1]}
    else:
        # Planning and the commands may use everything; only the ground stands on itself.
        allowed = {"": {""}, "plan": {"", "plan", *STAGES}, "commands": {"", "plan", "commands", *STAGES}}[place]
    imported = {_place(file) for name in _names(path) if (file := _file(name))}
    assert imported <= allowed, f"{path.relative_to(REPOSITORY)}: imports from {sorted(imported - allowed)}"


def test_only_the_commands_parse_arguments_and_the_library_knows_no_snakemake() -> None:
    for path in _modules():
        heads = {name.partition(".")[0] for name in _names(path)}
        assert _place(path) == "commands" or "argparse" not in heads, f"{path}: imports argparse"
        assert not any(head.startswith("snakemake") for head in heads), f"{path}: imports Snakemake"


def _distributions(files: Iterable[Path]) -> set[str]:
    """The packages that these files import."""
    return _packages({name.partition(".")[0] for file in files for name in _names(file)})


def _packages(modules: set[str]) -> set[str]:
    """The distributions that install these top-level modules; those of Python and of ours belong to none."""
    installed = importlib.metadata.packages_distributions()
    heads = {module for module in modules - sys.stdlib_module_names if module in installed}
    return {canonicalize_name(installed[head][0]) for head in heads} - {"mnasbench"}


def _of_rules() -> set[str]:
    """The packages that the Snakefile and the rules import, which are not quite Python."""
    files = [REPOSITORY / "Snakefile", *(REPOSITORY / "workflow/rules").glob("*.smk")]
    text = "\n".join(file.read_text() for file in files)
    return _packages(set(re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE)))


def _extras() -> dict[str, set[str]]:
    """What each extra of pyproject.toml installs, those that it names included; "" without one."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    lists = {"": project["dependencies"], **project["optional-dependencies"]}

    def packages(extra: str) -> set[str]:
        found: set[str] = set()
        for requirement in map(Requirement, lists[extra]):
            if requirement.name == "mnasbench":
                found = found.union(*map(packages, requirement.extras))
            else:
                found.add(canonicalize_name(requirement.name))
        return found | ({*map(canonicalize_name, lists[""])} if extra else set())

    return {extra: packages(extra) for extra in lists}


def test_what_a_machine_that_measures_or_builds_installs_is_what_is_imported_there() -> None:
    extras = _extras()
    assert extras[""] == extras["measure"] == _distributions(_reached([COMMANDS / "ort_vamp.py"]))
    needed = _distributions(_reached([COMMANDS / "ort_vamc.py"]))
    assert needed <= extras["build"]
    assert extras["build"] - extras[""] == needed - extras[""]


def test_what_the_workflow_installs_is_what_is_imported_there() -> None:
    scripts = (REPOSITORY / "workflow/scripts").glob("*.py")
    imported = _distributions(_reached([*scripts, *_modules()])) | _of_rules()
    assert _extras()["all"] - OF_OTHERS.keys() == imported - OF_MAINTAINERS


def test_what_the_tests_import_is_installed_for_them() -> None:
    tests = (REPOSITORY / "tests").rglob("*.py")
    assert _distributions(tests) <= _extras()["dev"]
