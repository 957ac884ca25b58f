"""vamp's report on stdout: its fields, its order, its spelling."""

from collections.abc import Mapping
from typing import Any


def report_text(report: Mapping[str, Any], device: str) -> str:
    """The vendor's report of a performance run's JSON, ended by a newline.

    On a CPU ``ai utilize`` is the share of the usable CPUs' time that the run used, ``die memory used`` the peak
    resident memory; ``e2e latency`` counts from the moment a request is due, ``model latency`` is the inference.
    """
    settings, observation = report["settings"], report["verdict"]["observation"]
    utilization = 100 * report["cpu_seconds"] / (observation["seconds"] * observation["cpus"])
    lines = [
        f"- number of instances in each device: {settings['instances'] * settings['processes']}",
        f"  devices: [{device.strip('[]')}]",
        f"  batch size: {settings['batch']}",
        f"  samples: {report['samples']}",
        f"  forwad time (s): {report['elapsed_seconds']:.6f}",
        f"  throughput (qps): {report['throughput_qps']:.2f}",
        f"  ai utilize (%): {utilization:.2f}",
        f"  die memory used (MB): {report['peak_memory_bytes'] / 1e6:.2f}",
    ]
    for title, key in (("e2e latency", "latency_us"), ("model latency", "service_us")):
        lines.append(f"  {title} (us):")
        lines += [f"    {name} latency: {report[key][name]:.0f}" for name in ("avg", "min", "max")]
    return "\n".join(lines) + "\n"
