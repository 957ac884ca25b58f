"""What a runtime is: the protocol of what loads a compiled graph and runs it on a CPU."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mnasbench.precisions import Precision

# A runtime is asked for its name while a run is planned; nothing heavy is loaded for that.
if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from onnx import ModelProto

    from mnasbench.preprocessing import Preprocessing, Size
    from mnasbench.runtimes.onnxruntime_layout import FastInput
    from mnasbench.runtimes.openvino_layout import InterleavedInput

    Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class InputFormat:
    """What a session takes: float32 (batch, 3, *size), normalised, where ``blocks`` is None.

    ``size``: (height, width). With ``blocks`` uint8 (batch, rows, width / 2, 12 * parts), quantized; see ``FastInput``.
    With ``pixels`` uint8 (batch, 3, *size) as the crop leaves it, because the session normalises; with ``interleaved``
    uint8 (batch, *size, 3), quantized, see ``InterleavedInput``.
    """

    name: str
    size: "Size"
    blocks: "FastInput | None"
    pixels: bool = False
    interleaved: "InterleavedInput | None" = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image."""
        if self.interleaved is not None:
            return *self.size, 3
        if self.blocks is None:
            return 3, *self.size
        return self.blocks.rows, self.size[1] // 2, 12 * self.blocks.parts

    @property
    def dtype(self) -> "npt.DTypeLike":
        """Element type of the tensor."""
        return "uint8" if self.blocks or self.pixels or self.interleaved else "float32"


@dataclass(frozen=True)
class OperatorCounts:
    """How many operators a runtime computes in int8 and in float, counted in the graph as it runs it.

    What only moves or converts values (Transpose, QuantizeLinear) is in neither count. The convolutions, where nearly
    all of the work is, are counted once more by themselves.
    """

    int8: int
    float: int
    int8_convolutions: int
    float_convolutions: int

    def as_json(self) -> dict[str, int]:
        """For model_info and reports."""
        return asdict(self)


@dataclass(frozen=True)
class Prepared:
    """A graph as it is stored for one runtime: its input where that changed, and what there is to say about it."""

    model: "ModelProto"
    blocks: "FastInput | None" = None
    notes: list[str] = field(default_factory=list)


def holds_int8(model: "ModelProto") -> bool:
    """Whether any part of a graph is quantized."""
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)


class Session(ABC):
    """A graph that is loaded. One thread at a time may call ``infer``.

    ``format``: what it takes. ``input_names``: as the graph itself names them.
    """

    format: InputFormat
    input_names: list[str]

    @abstractmethod
    def infer(self, tensor: "npt.NDArray[Any]") -> "Float32Array":
        """Scores, float32 (n, classes), of a tensor in the session's format; n may be any size."""

    @abstractmethod
    def another(self) -> "Session":
        """The same for another thread, made in the fastest way that the runtime has."""

    @abstractmethod
    def count_operators(self) -> OperatorCounts:
        """What is computed in int8 and what in float, in the graph as this session runs it."""


class Runtime(ABC):
    """What loads and runs a graph.

    ``name``: in settings, model_info and reports. ``title``: for people. ``distribution``: the package that is
    installed for it. ``is_reference``: whether the compiler's own gate has looked at its answers already.
    ``fuses_gates``: whether it computes HardSwish, SiLU and the like within the int8 convolution before them.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    distribution: ClassVar[str]
    is_reference: ClassVar[bool] = False
    fuses_gates: ClassVar[bool] = False

    @abstractmethod
    def suits(self, precision: Precision, machine: str) -> bool:
        """Whether ``auto`` takes it for this precision on this kind of CPU (``platform.machine()``)."""

    @abstractmethod
    def is_installed(self) -> bool:
        """Whether its package is there; nothing is imported to find out."""

    @abstractmethod
    def load(self) -> None:
        """Have its library in memory; ToolError where it is not installed."""

    @abstractmethod
    def prepare(self, model: "ModelProto") -> Prepared:
        """The finished graph, float or QDQ, as this runtime runs it fastest, with the same answers."""

    @abstractmethod
    def open(
        self,
        graph: "Path | ModelProto",
        input_format: InputFormat,
        threads: int = 1,
        batch: int = 1,
        preprocessing: "Preprocessing | None" = None,
    ) -> Session:
        """Load a graph that ``prepare`` gave, to be run by ``threads`` threads on ``batch`` images at a time.

        ``input_format``: the input as model_info describes it. With ``preprocessing`` the session may take pixels, or
        bytes that are quantized; what it takes, its own ``format`` says. ModelError where the graph is refused,
        ToolError where the runtime is not installed.
        """

    @abstractmethod
    def node_seconds(self, graph: "ModelProto", images: "Float32Array") -> dict[str, float]:
        """Seconds that a run on ``images`` (n, 3, H, W), normalised, takes in each node, by the runtime's own counters.

        By the name of a node of ``graph``; a kernel that does the work of several has the name of one of them. One
        thread; the shortest of some runs, for other programs can only lengthen them.
        """


# Runs by which nodes are timed, after one that warms up.
TIMED_RUNS = 5
