"""mnasbench[measure] and [build] in an environment of their own: pip installs them, and the two commands run there."""

import shutil
import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from card_step import card_step
from mnasbench.model.architecture import create
from target_machine import NOT_THERE, check, prepare

SIZE = 64


@pytest.fixture
def environment(repository: Path, tmp_path: Path) -> Iterator[Path]:
    """A Python that has the pinned versions of both extras, nearly a gigabyte; it is removed afterwards."""
    source, root = tmp_path / "source", tmp_path / "environment"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements.lock"):
        shutil.copy(repository / name, source)
    shutil.copytree(repository / "workflow", source / "workflow", ignore=shutil.ignore_patterns("__pycache__"))
    venv.create(root, with_pip=True)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pinned = ["--constraint", str(source / "requirements.lock"), f"{source}[measure,build]"]
    done = subprocess.run([root / "bin/python", *install, *pinned], capture_output=True, text=True, check=False)
    # A wrong pin names the versions that there are; without an index there are none.
    if done.returncode and "(from versions: none)" in done.stderr + done.stdout:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    yield root
    shutil.rmtree(root)


def test_the_two_commands_run_where_only_their_extras_are_installed(environment: Path, tmp_path: Path) -> None:
    net = create("torchvision", "mnasnet0_5", 10)
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    card_step(
        "export_timm_torchvision_model",
        *("--model_library", "torchvision", "--model_name", "mnasnet0_5", "--size", SIZE),
        *("--pretrained_weights", tmp_path / "weights.pth", "--save_dir", tmp_path / "onnx"),
    )
    (graph,) = (tmp_path / "onnx").glob("*.onnx")
    for program, *arguments in prepare(tmp_path, graph, SIZE):
        call = [environment / "bin" / program, *arguments]
        done = subprocess.run(call, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{program} {arguments}\n{done.stderr}"
    check(tmp_path)
    look = "import importlib.util, sys; print([name for name in sys.argv[1:] if importlib.util.find_spec(name)])"
    there = subprocess.run(
        [environment / "bin/python", "-c", look, *NOT_THERE], capture_output=True, text=True, check=True
    )
    assert there.stdout == "[]\n", "an extra brings what only the workflow needs"
