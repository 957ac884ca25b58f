"""What this machine's CPU does with int8."""

import platform
from pathlib import Path

# Instructions that add products of 8-bit numbers in 32 bits. Without one of them ONNX Runtime's kernels use
# pmaddubsw, which adds pairs of products in 16 bits and saturates there.
_DOT_PRODUCT_FLAGS = frozenset({"avx512_vnni", "avx_vnni"})


def sums_int8_exactly(cpuinfo: str | None = None) -> bool:
    """Whether full-range products of unsigned and signed 8-bit numbers are summed without saturation.

    ``cpuinfo`` is the text of /proc/cpuinfo, read from there unless given. Where the system does not say (no such
    file), the answer is no: a reduced range is correct everywhere. Machines other than x86 do not saturate.
    """
    if cpuinfo is None:
        if platform.machine().lower() not in ("x86_64", "amd64", "i686", "i386"):
            return True
        source = Path("/proc/cpuinfo")
        cpuinfo = source.read_text(encoding="utf-8", errors="replace") if source.is_file() else ""
    lines = [line.partition(":")[2].split() for line in cpuinfo.splitlines() if line.startswith("flags")]
    return bool(lines) and all(_DOT_PRODUCT_FLAGS & set(flags) for flags in lines)
