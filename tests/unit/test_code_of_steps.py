"""What counts as the code of each step of the workflow, held against edits of the real sources."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from mnasbench.code_digest import (
    CODE_THAT_DECIDES_NO_RESULT,
    LIBRARIES_THAT_DECIDE_NO_RESULT,
    Sources,
    code_of,
)
from mnasbench.data.demo import make_demo

WORKFLOW = Path(__file__).resolve().parents[2] / "workflow"
# Each step of the workflow, and some of what decides its result however its code is arranged.
DECIDING = {
    "scripts/make_demo.py": {"mnasbench/data/demo.py:make_demo", "numpy", "pillow"},
    "scripts/index_dataset.py": {"mnasbench/data/manifest.py:index_dataset", "mnasbench/data/layouts.py", "pillow"},
    "scripts/gather_manifest.py": {"mnasbench/data/manifest.py:gather_manifests"},
    "scripts/sample_calibration.py": {"mnasbench/data/calibration.py:sample_calibration"},
    "scripts/image2npz.py": {"mnasbench/data/npz_inputs.py:write_input_shard", "mnasbench/data/preprocess.py:pixels_of_bytes", "opencv-python-headless"},
    "scripts/train_demo.py": {"mnasbench/model/architecture.py:create", "torch", "torchvision"},
    "scripts/export_timm_torchvision_model.py": {"mnasbench/model/export.py:export_onnx", "torch", "timm", "onnx"},
    "scripts/import_onnx.py": {"mnasbench/model/onnx_import.py:import_onnx", "mnasbench/model/onnx_batch.py:free_batch", "onnx", "onnxruntime"},
    "scripts/condition_model.py": {"mnasbench/build/condition.py:condition", "mnasbench/build/equalize.py:equalize", "mnasbench/build/foresee.py", "numpy", "onnx"},
    "scripts/write_build_config.py": {"mnasbench/build/config.py:build_file", "mnasbench/build/vdsp_params.py:vdsp_params"},
    "scripts/call_vamc.py": {"mnasbench/build/vendor.py:compile_model"},
    "mnasbench/commands/ort_vamc.py": {"mnasbench/build/equalize.py:equalize", "mnasbench/build/rounding.py", "numpy", "onnxruntime", "openvino"},
    "scripts/call_vamp.py": {"mnasbench/run/vendor.py:run_accuracy"},
    "mnasbench/commands/ort_vamp.py": {"mnasbench/run/accuracy.py:run_accuracy", "mnasbench/run/figures.py:figures", "onnxruntime", "openvino"},
    "scripts/eval_imagenet.py": {"mnasbench/result/evaluation.py:evaluate_outputs", "mnasbench/result/evaluation.py:accuracy", "mnasbench/result/statistics.py:wilson_interval"},
    "scripts/check_parity.py": {"mnasbench/result/parity.py:certificate", "torchvision"},
    "scripts/summarize.py": {"mnasbench/result/summary.py:make_row"},
    "scripts/report.py": {"mnasbench/result/report.py:make_report", "matplotlib", "jinja2"},
}  # fmt: skip


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the workflow to edit."""
    root = tmp_path_factory.mktemp("sources") / "workflow"
    for folder in ("scripts", "mnasbench"):
        shutil.copytree(WORKFLOW / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.fixture(params=DECIDING)
def step(request: pytest.FixtureRequest, sources: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """A step's script among the copied sources, and its parts; what a test edits is put back."""
    parts = dict(code_of(WORKFLOW / request.param).parts)
    yield sources / request.param, parts
    for module in _modules(parts):
        shutil.copyfile(WORKFLOW / module, sources / module)


def _modules(parts: Iterable[str]) -> list[str]:
    return sorted({name.partition(":")[0] for name in parts if ".py" in name})


def _edit(root: Path, parts: dict[str, str], edit: Callable[[ast.Module, str], int]) -> int:
    """Edit every module that has a part, as text written anew from its tree; gives how many edits were made."""
    edits = 0
    for module in _modules(parts):
        tree = ast.parse((root / module).read_text())
        edits += edit(tree, module)
        (root / module).write_text(ast.unparse(tree))
    return edits


def _functions(tree: ast.Module) -> list[ast.FunctionDef]:
    return [node for node in tree.body if isinstance(node, ast.FunctionDef)]


def _change(function: ast.FunctionDef) -> None:
    function.body.insert(0, ast.parse("edited = 1").body[0])


def test_an_edit_of_what_decides_changes_the_digest(sources: Path, step: tuple[Path, dict[str, str]]) -> None:
    script, parts = step
    expected = DECIDING[script.relative_to(sources).as_posix()]
    missing = {name for name in expected if not any(part == name or part.startswith(f"{name}:") for part in parts)}
    assert not missing, "the digest does not see these"

    def edit(tree: ast.Module, module: str) -> int:
        reached = [function for function in _functions(tree) if f"{module}:{function.name}" in parts]
        for function in reached:
            _change(function)
        return len(reached)

    assert _edit(sources, parts, edit) > 1
    edited = Sources(sources).code_of(script).parts
    of_functions = {
        f"{module}:{function.name}"
        for module in _modules(parts)
        for function in _functions(ast.parse((sources / module).read_text()))
    }
    unseen = {name for name in of_functions & parts.keys() if parts[name] == edited[name]}
    assert not unseen


def test_an_edit_of_an_unrelated_function_of_the_same_modules_changes_nothing(
    sources: Path, step: tuple[Path, dict[str, str]]
) -> None:
    script, parts = step

    def edit(tree: ast.Module, module: str) -> int:
        others = [function for function in _functions(tree) if f"{module}:{function.name}" not in parts]
        for function in others:
            _change(function)
        return len(others)

    assert _edit(sources, parts, edit) > 1
    assert Sources(sources).code_of(script).parts == parts


def test_an_edit_of_messages_comments_and_form_changes_nothing(
    sources: Path, step: tuple[Path, dict[str, str]]
) -> None:
    script, parts = step

    def edit(tree: ast.Module, module: str) -> int:
        edits = 0
        for node in ast.walk(tree):
            raised = node.exc if isinstance(node, ast.Raise) else None
            for text in raised.args if isinstance(raised, ast.Call) else []:
                if isinstance(text, ast.JoinedStr):
                    text.values.append(ast.Constant(" (corrected)"))
                    edits += 1
                elif isinstance(text, ast.Constant) and isinstance(text.value, str):
                    text.value += " (corrected)"
                    edits += 1
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
                node.body[0] = ast.parse('"""Another text."""').body[0]
        return edits

    assert _edit(sources, parts, edit) > 0
    assert Sources(sources).code_of(script).parts == parts


# Started with every Python of a step, workers included: notes each function of ours that is called.
_HOOK = """
import os, sys, threading
noted, file = set(), os.open(os.environ["NOTES"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def note(frame, event, _):
    code = frame.f_code
    if event == "call" and code not in noted and "/workflow/" in code.co_filename:
        noted.add(code)
        os.write(file, f"{code.co_filename.rpartition('/workflow/')[2]}:{code.co_qualname}\\n".encode())
sys.setprofile(note)
threading.setprofile(note)
"""
# On a small dataset; later steps are too slow for a profiler.
_CALLS = {
    "scripts/index_dataset.py": "--root demo --shards 1 --manifest manifest.csv --workers 2",
    "scripts/gather_manifest.py": "--shards manifest.csv --manifest all.csv",
    "scripts/sample_calibration.py": "--root demo --part train --images 24 --list list.txt --folder images --workers 2",
    "scripts/image2npz.py": "--dataset_path demo --manifest all.csv --resize 40 --crop 32 --shard_file 0.npz --text_path 0.txt --workers 2",
    "scripts/write_build_config.py": '--name a --model a.json --precision fp32 --build_file a.yaml --vdsp_params v.json --work_dir build --preprocessing {"resize":256,"crop":224}',
}  # fmt: skip


def test_every_function_that_a_step_calls_is_counted(tmp_path: Path) -> None:
    """Held against what really runs, so that no way to reach code is overlooked."""
    make_demo(tmp_path / "demo", validation=24, training=24, seed=0, workers=1)
    (tmp_path / "a.json").write_text(json.dumps({"file": "a.onnx", "size": 224}))
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook/sitecustomize.py").write_text(_HOOK)
    for name, arguments in _CALLS.items():
        notes = tmp_path / "notes.txt"
        notes.unlink(missing_ok=True)
        path = os.pathsep.join([str(tmp_path / "hook"), str(WORKFLOW)])
        subprocess.run(
            [sys.executable, str(WORKFLOW / name), *arguments.split()],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": path, "NOTES": str(notes)},
            check=True,
            capture_output=True,
        )
        parts = code_of(WORKFLOW / name).parts
        called = {line for line in notes.read_text().splitlines() if not line.partition(":")[2].startswith("<")}
        uncounted = {
            line
            for line in called
            if _top(line) not in parts and not {line.partition(":")[0], _top(line)} & CODE_THAT_DECIDES_NO_RESULT
        }
        # The body of a class runs where its module is imported, whether or not it is used.
        uncounted = {line for line in uncounted if "." in line.partition(":")[2] or not _is_class(line)}
        assert len(called) > 5 and not uncounted, name


def _top(line: str) -> str:
    """The top-level definition that a function belongs to."""
    module, _, name = line.partition(":")
    return f"{module}:{name.partition('.')[0]}"


def _is_class(line: str) -> bool:
    module, _, name = line.partition(":")
    tree = ast.parse((WORKFLOW / module).read_text())
    return any(isinstance(node, ast.ClassDef) and node.name == name for node in tree.body)


def test_the_table_above_has_every_step() -> None:
    planned = (WORKFLOW / "mnasbench/plan/steps.py").read_text()
    named = set(re.findall(r'"((?:scripts|mnasbench/commands)/\w+\.py)"', planned))
    assert named == DECIDING.keys()


def test_torch_is_imported_by_the_steps_that_need_it_alone() -> None:
    """Importing it takes seconds, which a job for each shard and row would pay again."""
    using = {name for name in DECIDING if "torch" in code_of(WORKFLOW / name).parts}
    assert using == {f"scripts/{name}.py" for name in ("train_demo", "export_timm_torchvision_model", "check_parity")}


def test_what_never_counts_is_there_and_is_not_counted() -> None:
    counted = {part for name in DECIDING for part in code_of(WORKFLOW / name).parts}
    assert not counted & LIBRARIES_THAT_DECIDE_NO_RESULT
    for part in CODE_THAT_DECIDES_NO_RESULT:
        module, _, name = part.partition(":")
        tree = ast.parse((WORKFLOW / module).read_text())
        assert not name or name in {getattr(node, "name", "") for node in tree.body}, part
        assert not any(other == part or other.startswith(f"{part}:") for other in counted)
