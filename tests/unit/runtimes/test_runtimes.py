"""A runtime is one module and one line: who is chosen, what is run, and that nobody else opens a session."""

import ast
import importlib.util
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnasbench.build.compiler import Built, Recipe, compile_model
from mnasbench.build.graph import layers, prepare
from mnasbench.errors import ModelError, SettingsError, ToolError
from mnasbench.runtimes import RUNTIMES, choose, described, reference, runtime_of
from mnasbench.runtimes.base import InputFormat, OperatorCounts, Runtime
from unit.build.nets import SIZE, random_images, small_mnasnet

LIBRARY = Path(importlib.util.find_spec("mnasbench").origin).parent  # type: ignore[union-attr,arg-type]
IMAGES = random_images(24, seed=3)


@pytest.mark.parametrize("machine", ("x86_64", "aarch64"))
@pytest.mark.parametrize("precision", ("fp32", "fp16", "int8-max"))
def test_auto_takes_openvino_for_int8_on_x86_alone(
    machine: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    expected = "openvino" if (machine, precision) == ("x86_64", "int8-max") else "onnxruntime"
    assert choose("auto", precision).name == expected
    assert all(choose(name, precision) is runtime for name, runtime in RUNTIMES.items())


def test_a_missing_openvino_is_done_without_unless_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else True)
    assert choose("auto", "int8-max").name == "onnxruntime"
    with pytest.raises(ToolError, match="openvino is not installed"):
        choose("openvino", "fp32")


def test_unknown_runtimes_are_errors() -> None:
    with pytest.raises(SettingsError, match="did you mean 'openvino'"):
        choose("openvin", "fp32")
    with pytest.raises(ModelError, match="tensorrt"):
        runtime_of({"runtime": "tensorrt"})
    assert runtime_of({}) is reference()


def test_versions_are_reported() -> None:
    assert all(described({"runtime": name})["version"][0].isdigit() for name in RUNTIMES)


# ------------------------------------------------------------------------------------------------ operators as run
def as_run(made: Built, name: str) -> OperatorCounts:
    prepared = RUNTIMES[name].prepare(made.model)
    return RUNTIMES[name].open(prepared.model, InputFormat("input", (SIZE, SIZE), prepared.blocks)).count_operators()


def built(precision: str = "int8-max", **recipe: object) -> Built:
    return compile_model(small_mnasnet(), precision, lambda: iter([IMAGES]), Recipe(**recipe))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("layers", ((), ("conv_05",), ("conv_02", "conv_05", "conv_10"), ("gemm_01",)))
def test_a_layer_that_stays_in_float_is_float_when_it_is_run(name: str, layers: tuple[str, ...]) -> None:
    counts, all_int8 = as_run(built(float_layers=layers), name), as_run(built(), name)
    convs = sum(layer.startswith("conv") for layer in layers)
    assert (counts.int8_convolutions, counts.float_convolutions) == (10 - convs, convs)
    assert counts.int8 <= all_int8.int8 - len(layers)


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("precision", ("fp32", "fp16"))
def test_nothing_of_a_float_model_is_run_in_int8(name: str, precision: str) -> None:
    counts = as_run(built(precision), name)
    assert (counts.int8, counts.int8_convolutions, counts.float_convolutions) == (0, 0, 10) and counts.float > 10


def test_only_layers_with_weights_can_stay_in_float() -> None:
    with pytest.raises(SettingsError, match="add_01 has no weights"):
        built(float_layers=("add_01",))


# ----------------------------------------------------------------------------------------------------- one place
def modules() -> Iterator[tuple[str, ast.Module]]:
    for folder in (LIBRARY, LIBRARY.parent / "scripts"):
        for path in folder.rglob("*.py"):
            if path.parent != LIBRARY / "runtimes":
                yield path.relative_to(LIBRARY.parent).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


# There these are names of other people's quantizers, which a graph is conditioned for.
_NAME_QUANTIZERS = ("settings.py", "build/condition.py", "build/conditioned_files.py", "commands/condition.py")


def test_no_other_module_opens_a_session_or_asks_which_runtime_it_is() -> None:
    libraries = {runtime.distribution for runtime in RUNTIMES.values()}
    found = []
    for name, tree in modules():
        for node in ast.walk(tree):
            imported = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            # The quantizer's tools open no session.
            tools = [one for one in imported if not one.startswith("onnxruntime.quantization")]
            found += [f"{name}: imports {one}" for one in tools if one.partition(".")[0] in libraries]
            is_name = isinstance(node, ast.Constant) and node.value in RUNTIMES
            if is_name and not name.endswith(_NAME_QUANTIZERS):
                found.append(f"{name}:{node.lineno}: '{node.value}'")
            if isinstance(node, ast.Attribute) and node.attr == "InferenceSession":
                found.append(f"{name}:{node.lineno}: InferenceSession")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_session_loads_no_other_runtime(name: str, tmp_path: Path) -> None:
    graph = tmp_path / "graph.onnx"
    graph.write_bytes(RUNTIMES[name].prepare(built("fp32").model).model.SerializeToString())
    program = f"""
import sys
from pathlib import Path
from mnasbench.run import performance, accuracy
from mnasbench.runtimes import RUNTIMES
from mnasbench.runtimes.base import InputFormat
RUNTIMES["{name}"].open(Path({str(graph)!r}), InputFormat("input", ({SIZE}, {SIZE}), None))
print(*(other for other in {list(RUNTIMES)} if other in sys.modules))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [name]


def test_planning_loads_no_runtime_and_no_graph() -> None:
    program = "import sys; from mnasbench.settings import schema; schema(); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"onnx", "onnxruntime", "openvino", "numpy"} & set(run.stdout.split())


@pytest.mark.parametrize("runtime", RUNTIMES.values(), ids=RUNTIMES)
def test_each_layer_has_a_time_in_float_and_in_int8(runtime: Runtime) -> None:
    model = prepare(small_mnasnet())
    quantized = compile_model(small_mnasnet(), "int8-max", lambda: iter([IMAGES])).model
    weighted = {node.name for node in layers(model)}
    for graph in (model, quantized):
        seconds = runtime.node_seconds(graph, IMAGES[:8])
        assert weighted <= set(seconds) and min(seconds.values()) >= 0 < sum(seconds.values())
