"""ONNX Runtime: the compiler works with it, and it runs every precision."""

import importlib.util
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mnasbench.cpus import usable_cpus
from mnasbench.errors import ModelError, one_line
from mnasbench.precisions import Precision
from mnasbench.preprocessing import Preprocessing
from mnasbench.runtimes.base import TIMED_RUNS, InputFormat, OperatorCounts, Prepared, Runtime, Session, holds_int8

# Loaded where a session is opened: a model that another runtime runs starts a tenth of a second earlier without.
if TYPE_CHECKING:
    import numpy.typing as npt
    import onnxruntime
    from onnx import ModelProto

    from mnasbench.runtimes.base import Float32Array
    from mnasbench.runtimes.onnxruntime_layout import FastInput

# How far the graph is optimized before it is run; `basic` stays within standard ONNX.
Level = Literal["none", "basic", "extended", "all"]
# At session time it would requantize, for the whole tensor, the weights of a layer that was to stay in float.
DISABLED_OPTIMIZERS = ("WeightBiasQuantization",)
# Float kernels for other channel counts add in another order; some 60 layers stay a tenfold below this.
_FLOAT_ROUNDING = 1e-5
_CONVOLUTIONS = frozenset({"Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "QLinearConv", "ConvInteger"})
_OTHER_INT8 = frozenset({"QGemm", "MatMulInteger", "MatMulIntegerToFloat"})
# They move, convert or hold values.
_NO_ARITHMETIC = frozenset(
    {"Cast", "Concat", "Constant", "DequantizeLinear", "Flatten", "Identity", "MaxPool", "NhwcMaxPool", "Pad"}
    | {"QLinearConcat", "QuantizeLinear", "ReorderInput", "ReorderOutput", "Reshape", "Shape", "Slice", "Squeeze"}
    | {"Transpose", "Unsqueeze"}
)


def open_session(
    graph: "Path | ModelProto",
    *,
    threads: int | None = None,
    level: Level = "all",
    write_optimized: Path | None = None,
    write_profile: Path | None = None,
) -> "onnxruntime.InferenceSession":
    """A session on the CPU; ModelError where ONNX Runtime refuses the graph.

    ``threads`` within an operator; they do not spin while they wait, because several sessions share the CPUs. None:
    one session has all CPUs to itself. ``write_optimized``: where the graph goes as the session runs it;
    ``write_profile``: how the file begins to which it writes the time of each node.
    """
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = {
        "none": levels.ORT_DISABLE_ALL,
        "basic": levels.ORT_ENABLE_BASIC,
        "extended": levels.ORT_ENABLE_EXTENDED,
        "all": levels.ORT_ENABLE_ALL,
    }[level]
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = usable_cpus() if threads is None else threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # warnings of the graph optimizer are for its developers
    if threads is not None:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if write_optimized is not None:
        options.optimized_model_filepath = str(write_optimized)
    if write_profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(write_profile)
    source = str(graph) if isinstance(graph, Path) else graph.SerializeToString()
    where = one_line(graph) if isinstance(graph, Path) else "the graph"
    try:
        return onnxruntime.InferenceSession(
            source, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(DISABLED_OPTIMIZERS)
        )
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise ModelError(f"{where}: cannot be loaded by ONNX Runtime ({one_line(error)}); export it again") from error


def run_quietly(session: "onnxruntime.InferenceSession", name: str, images: "npt.NDArray[Any]") -> "npt.NDArray[Any]":
    """The first output for images given to the input ``name``; what ONNX Runtime raises is not printed as well."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    answers: npt.NDArray[Any] = session.run(None, {name: images}, options)[0]
    return answers


def optimized(graph: "Path | ModelProto", level: Level = "all") -> "ModelProto":
    """The graph as ONNX Runtime runs it after its optimizations of ``level``."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "optimized.onnx"
        open_session(graph, level=level, write_optimized=file)
        return onnx.load(file)


class OnnxRuntime(Runtime):
    """ONNX Runtime on the CPU."""

    name = "onnxruntime"
    title = "ONNX Runtime"
    distribution = "onnxruntime"
    is_reference = True

    def suits(self, precision: Precision, machine: str) -> bool:
        """Every precision, on every CPU."""
        return True

    def is_installed(self) -> bool:
        """Whether its package is there."""
        return importlib.util.find_spec("onnxruntime") is not None

    def load(self) -> None:
        """Have its library in memory."""
        import onnxruntime  # noqa: F401

    def prepare(self, model: "ModelProto") -> Prepared:
        """The finished graph with channels and an input that suit the kernels.

        A QDQ graph's answers stay equal to the bit, a float graph's to rounding. That is tried, on seeded noise: a
        rewrite after which it does not hold is left out, and a note says so.
        """
        from mnasbench.runtimes.onnxruntime_layout import fast_input, pad_channels

        allowed = 0.0 if holds_int8(model) else _FLOAT_ROUNDING
        faster, blocks = fast_input(model)
        notes: list[str] = []
        for what, graph, taken in (("input", faster, blocks), ("number of channels", model, None)):
            changed = pad_channels(graph)
            difference = _difference(model, changed, taken)
            if difference <= allowed:
                return Prepared(changed, taken, notes)
            notes.append(f"layout: a faster {what} was left out, it moved a score by {difference:.1e} of the largest")
        return Prepared(model, None, notes)

    def open(
        self,
        graph: "Path | ModelProto",
        input_format: InputFormat,
        threads: int = 1,
        batch: int = 1,
        preprocessing: Preprocessing | None = None,
    ) -> Session:
        """A session of any batch, which takes what model_info says."""
        return _Session(graph, input_format, threads)

    def node_seconds(self, graph: "ModelProto", images: "Float32Array") -> dict[str, float]:
        """By its profile, which it writes as JSON."""
        with tempfile.TemporaryDirectory() as folder:
            session = open_session(graph, threads=1, write_profile=Path(folder) / "profile")
            for _ in range(1 + TIMED_RUNS):
                session.run(None, {graph.graph.input[0].name: images})
            events = json.loads(Path(session.end_profiling()).read_text())
        times: dict[str, list[float]] = {}
        for event in events:
            name, is_kernel, _ = event["name"].partition("_kernel_time")
            if is_kernel:
                times.setdefault(name, []).append(event["dur"] / 1e6)
        # Behind the name that a node was given stands, for some kernels, a number or their layout.
        named = {name: name.partition("_token_")[0].removesuffix("_nchwc") for name in times}
        makers = {output: node for node in graph.graph.node for output in node.output}
        nodes = {node.name: node for node in graph.graph.node}
        seconds: dict[str, float] = {}
        for kernel, runs in times.items():
            name = named[kernel]
            maker = makers.get(nodes[name].input[0]) if name in nodes and nodes[name].input else None
            # A convolution that computes the activation behind it as well has that one's name.
            if maker is not None and maker.op_type == "Conv" and maker.name not in named.values():
                name = maker.name
            seconds[name] = seconds.get(name, 0.0) + min(runs)
        return seconds


class _Session(Session):
    def __init__(self, graph: "Path | ModelProto", input_format: InputFormat, threads: int) -> None:
        self.format, self._graph, self._threads = input_format, graph, threads
        self._session = open_session(graph, threads=threads)
        self.input_names = [node.name for node in self._session.get_inputs()]
        self._outputs = [self._session.get_outputs()[0].name]

    def infer(self, tensor: "npt.NDArray[Any]") -> "Float32Array":
        scores: Float32Array = self._session.run(self._outputs, {self.format.name: tensor})[0]
        return scores

    def another(self) -> Session:
        return _Session(self._graph, self.format, self._threads)

    def count_operators(self) -> OperatorCounts:
        """Counted in the graph that a second session writes: the one that runs does not show its own."""
        import onnx

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "optimized.onnx"
            open_session(self._graph, threads=self._threads, write_optimized=file)
            kinds = [node.op_type for node in onnx.load(file, load_external_data=False).graph.node]
        computing = [kind for kind in kinds if kind not in _NO_ARITHMETIC]
        int8 = [kind for kind in computing if kind.startswith("QLinear") or kind in _OTHER_INT8]
        convolutions = [kind for kind in computing if kind in _CONVOLUTIONS]
        int8_convolutions = sum(kind in _CONVOLUTIONS for kind in int8)
        return OperatorCounts(
            len(int8), len(computing) - len(int8), int8_convolutions, len(convolutions) - int8_convolutions
        )


def _difference(before: "ModelProto", after: "ModelProto", blocks: "FastInput | None") -> float:
    """Largest change of a score, in shares of the largest score."""
    import numpy as np

    _, channels, height, width = (dim.dim_value for dim in before.graph.input[0].type.tensor_type.shape.dim)
    noise = np.random.default_rng(0).normal(size=(1, channels, height, width)).astype(np.float32)
    name = before.graph.input[0].name
    expected = open_session(before).run(None, {name: noise})[0]
    scores = open_session(after).run(None, {name: noise if blocks is None else blocks.quantize(noise)})[0]
    # An untrained model may answer noise with nothing but zeros; then any score at all is a change.
    return float(np.abs(expected - scores).max() / (np.abs(expected).max() or 1.0))
