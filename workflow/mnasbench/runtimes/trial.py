"""A runtime's compiler tried on a graph in a process of its own: where it dies, the one that asked lives.

``python -m mnasbench.runtimes.trial RUNTIME GRAPH INPUT HEIGHT WIDTH BATCH`` is that process.
"""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mnasbench.errors import BuildError, MnasbenchError
from mnasbench.preprocessing import Preprocessing
from mnasbench.processes import end_with_parent
from mnasbench.runtimes.base import InputFormat, Runtime

if TYPE_CHECKING:
    from onnx import ModelProto


def try_apart(runtime: Runtime, graph: "ModelProto", name: str, size: tuple[int, int], batch: int) -> None:
    """BuildError where the runtime's compiler ends the process that it runs in.

    ``name`` and ``size`` (height, width): of the graph's input. An error that it reports comes again later.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "graph.onnx"
        file.write_bytes(graph.SerializeToString())
        command = [sys.executable, "-m", "mnasbench.runtimes.trial", runtime.name, str(file), name]
        command += map(str, (*size, batch))
        done = subprocess.run(command, capture_output=True, check=False, preexec_fn=end_with_parent)
    if done.returncode < 0:
        raise BuildError(
            f"{runtime.title}'s compiler ends with {signal.Signals(-done.returncode).name} on this graph; "
            "it was tried in a process of its own"
        )


def main(arguments: list[str]) -> None:
    """Open a graph as a build, and as both runs open it."""
    from mnasbench.runtimes import RUNTIMES

    runtime, file, name, *sizes = arguments
    height, width, batch = map(int, sizes)
    taken = InputFormat(name, (height, width), None)
    for preprocessing in (None, Preprocessing(resize=height, crop=height)):
        try:
            RUNTIMES[runtime].open(Path(file), taken, batch=batch, preprocessing=preprocessing)
        except MnasbenchError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
