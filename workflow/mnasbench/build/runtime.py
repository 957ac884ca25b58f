"""The runtimes that a compiled graph is run by on a CPU, and which of them a build is for.

ONNX Runtime takes a graph that is laid out for its kernels (:mod:`mnasbench.build.layout`); OpenVINO takes the plain
one and lays it out itself. Which is meant stands in model_info, so accuracy and performance come from the same one.
"""

import copy
import importlib.metadata
import importlib.util
import platform
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnasbench.errors import ModelError, SettingsError, ToolError, did_you_mean, one_line
from mnasbench.preprocessing import Preprocessing

RUNTIMES = ("onnxruntime", "openvino")
Float32Array = npt.NDArray[np.float32]


def choose(wanted: str, precision: str) -> str:
    """The runtime for ``auto``: OpenVINO for int8 on x86, where its kernels are faster, ONNX Runtime for all else.

    A runtime that is named is taken. SettingsError for an unknown name, ToolError for OpenVINO where it is missing.
    """
    if wanted not in ("auto", *RUNTIMES):
        raise SettingsError(f"runtime: unknown '{one_line(wanted)}'{did_you_mean(wanted, ('auto', *RUNTIMES))}")
    has_openvino = importlib.util.find_spec("openvino") is not None
    if wanted == "openvino" and not has_openvino:
        raise ToolError("runtime: openvino is not installed; install it, or set runtime to onnxruntime")
    if wanted != "auto":
        return wanted
    is_x86 = platform.machine() in {"x86_64", "AMD64"}
    return "openvino" if precision.startswith("int8") and is_x86 and has_openvino else "onnxruntime"


def runtime_of(info: dict[str, Any]) -> str:
    """The runtime that model_info names; ModelError for one that is not known here."""
    name = str(info.get("runtime", "onnxruntime"))
    if name not in RUNTIMES:
        raise ModelError(f"model_info: its runtime is '{one_line(name)}', expected one of {', '.join(RUNTIMES)}")
    return name


def version_of(runtime: str) -> str:
    """The installed version of a runtime."""
    return importlib.metadata.version(runtime)


def described(info: dict[str, Any]) -> dict[str, str]:
    """Name and version of what runs a model, as the reports of both runs give them."""
    name = runtime_of(info)
    return {"name": name, "version": version_of(name)}


def load_runtime(info: dict[str, Any]) -> None:
    """Have in memory the library that runs a model; ToolError where OpenVINO is meant and not installed."""
    if runtime_of(info) == "openvino":
        _load_openvino()
    else:
        import onnxruntime  # noqa: F401


def _load_openvino() -> Any:  # the module; it has no types
    try:
        import openvino
        import openvino.preprocess
    except ImportError as error:
        raise ToolError(
            f"the model was built for OpenVINO, which is not installed ({one_line(error)}); install it, or build "
            "the model with runtime onnxruntime"
        ) from error
    return openvino


class OpenVinoModel:
    """A graph in OpenVINO: one stream of ``threads`` threads, fp32 wherever the graph is not int8.

    With ``pixels`` it takes uint8 (n, 3, size, size) and normalises as that preprocessing does; otherwise float32 as
    the graph does. Its kernels are made for one number of images, ``batch``, and are made anew for a larger one;
    fewer images are filled up with zeros, which changes no score.
    """

    def __init__(self, graph: Path | bytes, threads: int, batch: int = 1, pixels: Preprocessing | None = None) -> None:
        """ModelError where OpenVINO refuses the graph, ToolError where it is not installed."""
        openvino = _load_openvino()
        self._openvino, self._batch, self._request = openvino, 0, None
        self._bound: npt.NDArray[Any] | None = None
        # Without the precision hint newer CPUs would compute what is fp32 in bf16; without pinning, processes that
        # were given cores keep to them.
        self._options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,
        }
        where = one_line(graph) if isinstance(graph, Path) else "the graph"
        try:
            self._core = openvino.Core()
            model = self._core.read_model(graph)
            if pixels is not None:
                preparation = openvino.preprocess.PrePostProcessor(model)
                tensor, inside = preparation.input().tensor(), preparation.input().model()
                tensor.set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NCHW"))
                inside.set_layout(openvino.Layout("NCHW"))
                steps = preparation.input().preprocess().convert_element_type(openvino.Type.f32)
                steps.mean([255 * value for value in pixels.mean]).scale([255 * value for value in pixels.std])
                model = preparation.build()
            self._model = model
            self.input_names = [name for port in model.inputs for name in port.names]
            self._make(batch)
        except RuntimeError as error:
            raise ModelError(f"{where}: OpenVINO cannot load it ({one_line(error)})") from error

    def _make(self, batch: int) -> None:
        model = self._model.clone()
        model.reshape([batch, *(side.get_length() for side in list(model.input().partial_shape)[1:])])
        self._compiled = self._core.compile_model(model, "CPU", self._options)
        self._request, self._batch, self._bound = self._compiled.create_infer_request(), batch, None

    def another(self) -> "OpenVinoModel":
        """The same for another thread: its kernels are taken over, where to make them takes six times as long."""
        twin = copy.copy(self)
        try:
            exported = self._compiled.export_model()
            twin._compiled = self._core.import_model(exported, "CPU", self._options)
            twin._request, twin._bound = twin._compiled.create_infer_request(), None
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot load the graph a second time ({one_line(error)})") from error
        return twin

    def run(self, tensor: npt.NDArray[Any]) -> Float32Array:
        """Scores, float32 (n, classes). The same array again, with other images in it, is read where it lies."""
        count = len(tensor)
        if count > self._batch:
            self._make(count)
        assert self._request is not None
        if tensor is not self._bound:
            self._bind(tensor)
        self._request.infer(share_outputs=True)
        return np.array(self._request.get_output_tensor(0).data[:count], np.float32)

    def _bind(self, tensor: npt.NDArray[Any]) -> None:
        """Have the request read from ``tensor``; OpenVINO's own dispatch takes four times as long, at every call."""
        whole = tensor
        if len(tensor) < self._batch:
            missing = self._batch - len(tensor)
            whole = np.concatenate([tensor, np.zeros((missing, *tensor.shape[1:]), tensor.dtype)])
        whole = np.ascontiguousarray(whole)
        assert self._request is not None
        self._request.set_input_tensor(self._openvino.Tensor(whole, shared_memory=True))
        self._memory = whole  # the request does not keep it alive
        self._bound = tensor if whole is tensor else None  # a copy would not see what is put into the array later

    def convolutions(self) -> Counter[str]:
        """How many convolutions are run in each element type (``i8`` and ``u8`` count as ``int8``)."""
        counts: Counter[str] = Counter()
        for node in self._compiled.get_runtime_model().get_ops():
            about = node.get_rt_info()
            kind = str(about["layerType"].astype(str)) if "layerType" in about else ""
            if "Convolution" in kind:
                precision = str(about["runtimePrecision"].astype(str))
                counts["int8" if precision in {"i8", "u8"} else precision] += 1
        return counts
