"""The vendor's performance tool: called, its report and its outputs turned into what the embedded engine gives.

What vamp says, it says of the card; nothing here measures. docs/vacc.md has the formats.
"""

import math
import re
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from mnasbench.build.vendor import call_tool, describe_files
from mnasbench.data.datalist import write_datalist
from mnasbench.data.listed import names_of_images
from mnasbench.data.npz import read_output
from mnasbench.data.shard import write_scores
from mnasbench.errors import MeasurementError, ToolError, one_line

# "  forwad time (s): 1.31991", and "*** number of instances in each device:1 ****" as of 2024.
_LINE = re.compile(r"[-*\s]*(?P<key>[a-z][a-z0-9 ]*?(?: \([^)]*\))?) *: *(?P<value>[^*]*?)[\s*]*")
_SECTIONS = {"e2e latency (us)": "latency_us", "model latency (us)": "service_us"}
_PERCENTILES = ("p50", "p90", "p95", "p99")
# Said by newer versions only.
_OPTIONAL = {"card power (W)": "card_power_w", "temperature (°C)": "temperature_c"}
_NO_VERDICT = "vamp does not say what else the card and the host were doing"


@dataclass(frozen=True)
class Vamp:
    """How vamp is called: the tool, the model's prefix, the preprocessing, and the load.

    ``shape``: of one image as vamp reads it, (3, height, width). ``device``: as vamp's ``-d`` takes it.
    """

    tool: str
    prefix: Path
    vdsp_params: Path
    instances: int
    processes: int
    batch: int
    shape: tuple[int, int, int]
    device: str = "0"
    hwconfig: str | None = None

    def command(self, *more: str) -> list[str]:
        """The argument list of a call."""
        sides = ",".join(map(str, self.shape))
        command = [self.tool, "-m", str(self.prefix), "--vdsp_params", str(self.vdsp_params)]
        command += ["-i", str(self.instances), "-p", str(self.processes), "-b", str(self.batch)]
        command += ["-s", f"[{sides}]", "-d", self.device]
        if self.hwconfig is not None:
            command += ["--hwconfig", self.hwconfig]
        return [*command, *more]


# ------------------------------------------------------------------------------------------------------ performance
def measure_performance(vamp: Vamp, requests: int | None, log: TextIO) -> dict[str, Any]:
    """One performance run, in the shape of the embedded engine's report; what vamp does not say is None.

    ``requests`` of ``vamp.batch`` images each; None leaves vamp its default (1,024 images).
    Raises ToolError where vamp fails or its report lacks a line.
    """
    files = describe_files(vamp.prefix)
    # vamp's --iterations counts images: its published reports have as many samples, whatever the batch.
    command = vamp.command(*(["--iterations", str(requests * vamp.batch)] if requests else []))
    said = read_report(call_tool(command, log))
    per_second = said["throughput_qps"] / vamp.batch
    return {
        "engine": "vacc",
        "command": command,
        **said,
        "throughput_interval": None,
        "requests": -(-said["samples"] // vamp.batch),
        "settings": {"instances": vamp.instances, "processes": vamp.processes, "batch": vamp.batch},
        "littles_law": {
            "in_flight": None,
            "throughput_times_latency": per_second * said["latency_us"]["avg"] / 1e6,
            "ratio": None,
        },
        "verdict": {"status": "", "reasons": [_NO_VERDICT], "advice": ["watch the card while it is measured"]},
        "digests": {key: value for key, value in files.items() if key.endswith("_sha256")},
    }


def read_report(text: str) -> dict[str, Any]:
    """The figures of vamp's report: samples, seconds, images a second, microseconds, percent, megabytes.

    ``latency_us`` and ``service_us`` (vamp's e2e and model latency) have avg, min, max and, of newer versions,
    percentiles; None where they are not said. ToolError names the line that is missing or no number.
    """
    fields, sections = _fields(text)
    figures: dict[str, Any] = {
        "samples": int(_number(fields, "samples")),
        "elapsed_seconds": _number(fields, "forwad time (s)", "forward time (s)"),
        "throughput_qps": _number(fields, "throughput (qps)"),
    }
    for title, key in _SECTIONS.items():
        if title not in sections:
            raise ToolError(f"vamp's report has no '{title}'; its output is in the log")
        named = sections[title]
        # A published report ends before the model latency's maximum.
        needed = ("avg", "min", "max") if key == "latency_us" else ("avg", "min")
        required = {name: _number(named, f"{name} latency", where=f" of '{title}'") for name in needed}
        rest = {name: _optional(named, f"{name} latency") for name in ("max", *_PERCENTILES) if name not in required}
        figures[key] = {**required, **rest}
    figures["card"] = {
        "devices": fields.get("devices"),
        "ai_utilize_percent": _number(fields, "ai utilize (%)"),
        "die_memory_mb": _number(fields, "die memory used (MB)"),
        **{key: _optional(fields, name) for name, key in _OPTIONAL.items()},
    }
    return figures


def _fields(text: str) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Lines ``key: value`` outside and inside the two latency sections; of a key said twice the last counts."""
    fields: dict[str, str] = {}
    sections: dict[str, dict[str, str]] = {}
    current = fields
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        key, value = match["key"], match["value"].strip()
        if key in _SECTIONS and not value:
            current = sections[key] = {}
        elif key.endswith(" latency"):
            current[key] = value
        else:
            fields[key] = value
    return fields, sections


def _number(fields: Mapping[str, str], *names: str, where: str = "") -> float:
    """The value of the first of ``names`` that was said."""
    value = next((fields[name] for name in names if name in fields), None)
    if value is None:
        raise ToolError(f"vamp's report has no '{names[0]}'{where}; its output is in the log")
    number = _as_number(value)
    if number is None:
        raise ToolError(f"vamp's report says '{names[0]}: {one_line(value)}'{where}, expected a positive number")
    return number


def _optional(fields: Mapping[str, str], name: str) -> float | None:
    return _as_number(fields.get(name, ""))


def _as_number(text: str) -> float | None:
    number = float(text) if re.fullmatch(r"\d+(\.\d+)?([eE][-+]?\d+)?", text, re.ASCII) else math.inf
    return number if math.isfinite(number) else None


# --------------------------------------------------------------------------------------------------------- accuracy
def run_accuracy(vamp: Vamp, inputs: Sequence[Path], scores: Path, log: TextIO) -> dict[str, Any]:
    """Have vamp write the scores of every input, and gather them in ``scores``, one shard with the inputs' names.

    vamp is given absolute paths and writes to a new folder, so nothing of an earlier run is among its outputs.
    Raises ToolError where vamp fails, MeasurementError where an output is missing, has another number of classes than
    the others, or cannot be told to belong to its input.
    """
    files = describe_files(vamp.prefix)
    scores.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{scores.stem}.", dir=scores.parent))
    datalist, fresh = temporary / "npz_datalist.txt", temporary / "outputs"
    try:
        given = inputs
        if len({source.stem for source in inputs}) < len(inputs):  # outputs of one name would be written over
            (temporary / "inputs").mkdir()
            given = [temporary / f"inputs/{place:06d}.npz" for place in range(len(inputs))]
            for link, source in zip(given, inputs, strict=True):
                link.symlink_to(source.absolute())
        write_datalist(datalist, given)
        fresh.mkdir()
        command = vamp.command("--datalist", str(datalist), "--path_output", str(fresh))
        begin = time.perf_counter()
        call_tool(command, log)
        seconds = time.perf_counter() - begin
        rows = [read_output(output) for output in match_outputs(given, fresh)]
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sizes = {row.size for row in rows}
    if len(sizes) > 1:
        raise MeasurementError(f"vamp wrote outputs of {min(sizes)} and of {max(sizes)} classes; see the log")
    write_scores(scores, names_of_images(inputs), np.stack(rows))
    return {
        "images": len(inputs),
        "seconds": seconds,
        "throughput_qps": len(inputs) / seconds,
        "command": command,
        "digests": {key: value for key, value in files.items() if key.endswith("_sha256")},
    }


def match_outputs(inputs: Sequence[Path], folder: Path) -> list[Path]:
    """The output of each input, in the order of ``inputs``: by the input's name, or by its number in the list.

    Public scripts of the vendor's read outputs either way (inferred), so both are taken, but only where they are
    complete: MeasurementError where an output is missing or too many, which would shift all later answers.
    """
    outputs = {path.stem: path for path in sorted(folder.rglob("*.npz"))}
    if all(source.stem in outputs for source in inputs) and len(outputs) == len(inputs):
        return [outputs[source.stem] for source in inputs]
    numbers = {int(match[0]): path for stem, path in outputs.items() if (match := re.search(r"\d+$", stem))}
    for first in (0, 1):
        if len(outputs) == len(inputs) and sorted(numbers) == list(range(first, first + len(inputs))):
            return [numbers[first + place] for place in range(len(inputs))]
    missing = [source for source in inputs if source.stem not in outputs]
    example = f"; {one_line(missing[0].name)} has none" if missing else ""
    named = ", ".join(one_line(stem) for stem in list(outputs)[:2]) or "none"
    raise MeasurementError(
        f"vamp wrote {len(outputs)} outputs for {len(inputs)} inputs{example} (it wrote {named}); see the log"
    )
