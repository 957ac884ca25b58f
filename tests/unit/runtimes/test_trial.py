import signal
import sys

import pytest

from mnasbench.errors import BuildError
from mnasbench.runtimes import RUNTIMES, trial
from unit.build.nets import SIZE, small_mnasnet


def test_a_compiler_that_dies_is_an_error_and_one_that_reports_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime, run = RUNTIMES["openvino"], trial.subprocess.run
    for code, dies in ((f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})", True), ("exit(1)", False)):
        monkeypatch.setattr(
            trial.subprocess, "run", lambda *_, code=code, **given: run([sys.executable, "-c", code], **given)
        )
        if dies:
            with pytest.raises(BuildError, match="SIGSEGV"):
                trial.try_apart(runtime, small_mnasnet(), "input", (SIZE, SIZE), 2)
        else:
            trial.try_apart(runtime, small_mnasnet(), "input", (SIZE, SIZE), 2)


def test_a_graph_that_can_be_compiled_passes() -> None:
    pytest.importorskip("openvino")
    trial.try_apart(RUNTIMES["openvino"], small_mnasnet(), "input", (SIZE, SIZE), 2)
