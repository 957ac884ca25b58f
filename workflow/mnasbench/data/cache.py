"""What is remembered of images by size and time of change, so that nobody reads them again."""

from collections.abc import Mapping
from pathlib import Path

from mnasbench.errors import MnasbenchError
from mnasbench.files import canonical_json, read_json, write_text

# Raised whenever what the cache records about a file, or how it is judged, changes.
CACHE_FORMAT = 3
# What the cache says of a file: sha256, width, height, mode, fault.
Look = tuple[str, int, int, str, str]


def cache_beside(manifest: Path) -> Path:
    """The side file that remembers digests by size and time of change."""
    return manifest.with_name(f"{manifest.name}.cache.json")


def read_cache(path: Path) -> dict[str, tuple[int, int, Look]]:
    """name -> (size, changed_ns, look); empty where there is no cache or none that can be trusted."""
    try:
        content = read_json(path)
        if content["format"] != CACHE_FORMAT:
            return {}
        return {name: (size, mtime, tuple(look)) for name, (size, mtime, *look) in content["files"].items()}
    except (MnasbenchError, KeyError, TypeError, ValueError, AttributeError):
        return {}  # only a memory: whatever is wrong with it, the files themselves are read again


def write_cache(path: Path, files: Mapping[str, tuple[int, int, Look]]) -> None:
    """Write what ``read_cache`` reads, atomically."""
    rows = {name: [size, mtime, *look] for name, (size, mtime, look) in files.items()}
    write_text(path, canonical_json({"format": CACHE_FORMAT, "files": rows}))
