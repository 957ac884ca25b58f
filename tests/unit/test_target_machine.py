"""ort-vamc and ort-vamp need nothing of what only the workflow needs."""

import os
import subprocess
import sys
from pathlib import Path

import onnx

from small_classifier import float_classifier
from target_machine import NOT_THERE, check, prepare

# None in sys.modules is Python's own way to say that a module cannot be imported.
_WITHOUT = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({NOT_THERE!r}))
command = importlib.import_module("mnasbench.commands." + sys.argv[1].replace("-", "_"))
sys.exit(command.main(sys.argv[2:]))
"""


def test_a_model_is_built_and_measured_without_what_only_the_workflow_needs(repository: Path, tmp_path: Path) -> None:
    onnx.save(float_classifier(), tmp_path / "net.onnx")
    environment = os.environ | {"PYTHONPATH": str(repository / "workflow")}
    for call in prepare(tmp_path, tmp_path / "net.onnx", 32):
        done = subprocess.run(
            [sys.executable, "-c", _WITHOUT, *call],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{call}\n{done.stderr}"
    check(tmp_path)
