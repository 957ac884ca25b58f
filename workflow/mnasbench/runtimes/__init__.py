"""The runtimes: what loads and runs a compiled graph on a CPU. One module and one line here is a runtime.

Only here are sessions opened, so that a build, its gate, an accuracy run, a performance run and the parity certificate
run the same graph with the same options. Which runtime a model is for stands in its model_info.

An *engine* is something else: who compiles and measures, the embedded tools (``ort``) or the card's (``vacc``).
"""

import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

from mnasbench.errors import ModelError, SettingsError, ToolError, did_you_mean, one_line
from mnasbench.precisions import precision_named
from mnasbench.runtimes.base import Runtime
from mnasbench.runtimes.onnxruntime import OnnxRuntime
from mnasbench.runtimes.openvino import OpenVino

# In the order in which `auto` looks for one that suits; the last one suits everything.
RUNTIMES: dict[str, Runtime] = {runtime.name: runtime for runtime in (OpenVino(), OnnxRuntime())}
AUTO = "auto"
# The packages that are installed for them.
DISTRIBUTIONS = tuple(runtime.distribution for runtime in RUNTIMES.values())


def reference() -> Runtime:
    """The runtime that the compiler itself works with; every model can be run by it."""
    return next(runtime for runtime in RUNTIMES.values() if runtime.is_reference)


def choose(name: str, precision: str) -> Runtime:
    """The runtime of that name, or for ``auto`` the first that suits the precision and this machine.

    SettingsError for an unknown name, ToolError for one that is named and not installed.
    """
    if name == AUTO:
        asked, machine = precision_named(precision), platform.machine()
        return next(r for r in RUNTIMES.values() if r.suits(asked, machine) and r.is_installed())
    if name not in RUNTIMES:
        raise SettingsError(f"runtime: unknown '{one_line(name)}'{did_you_mean(name, (AUTO, *RUNTIMES))}")
    if not RUNTIMES[name].is_installed():
        raise ToolError(f"runtime: {name} is not installed; install it, or set runtime to {reference().name}")
    return RUNTIMES[name]


def runtime_of(info: Mapping[str, Any]) -> Runtime:
    """The runtime that model_info names; ModelError for one that is not known here."""
    name = str(info.get("runtime", reference().name))
    if name not in RUNTIMES:
        raise ModelError(f"model_info: its runtime is '{one_line(name)}', expected one of {', '.join(RUNTIMES)}")
    return RUNTIMES[name]


def title_of(name: str) -> str:
    """A runtime's name for people; of one that is not known here, the name itself."""
    return RUNTIMES[name].title if name in RUNTIMES else name


def described(info: Mapping[str, Any]) -> dict[str, str]:
    """Name and version of what runs a model, as the reports of both runs give them."""
    runtime = runtime_of(info)
    return {"name": runtime.name, "version": importlib.metadata.version(runtime.distribution)}
