"""What counts as an image file, by its name alone: one answer for planning, indexing, calibration and classifying.

Light on purpose (no numpy, no Pillow): planning asks it.
"""

from collections.abc import Callable, Iterable

# Formats that Pillow decodes by itself, with the suffixes that it knows them by. EPS, for one, would start Ghostscript
# on the file. JPEG covers MPO.
FORMATS = {
    "AVIF": (".avif", ".avifs"),
    "BMP": (".bmp",),
    "DDS": (".dds",),
    "DIB": (".dib",),
    "GIF": (".gif",),
    "ICO": (".ico",),
    "JPEG": (".jfif", ".jpe", ".jpg", ".jpeg"),
    "JPEG2000": (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
    "PCX": (".pcx",),
    "PNG": (".png", ".apng"),
    "PPM": (".pbm", ".pgm", ".ppm", ".pnm", ".pfm"),
    "PSD": (".psd",),
    "QOI": (".qoi",),
    "SGI": (".bw", ".rgb", ".rgba", ".sgi"),
    "SUN": (".ras",),
    "TGA": (".tga", ".icb", ".vda", ".vst"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "XBM": (".xbm",),
    "XPM": (".xpm",),
}
_SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
# What operating systems, network disks, archives and notebooks leave in any folder; compared in lower case.
_SYSTEM = frozenset(
    (
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "icon\r",
        "__macosx",
        "@eadir",
        "#recycle",
        "@recycle",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "__pycache__",
    )
)


def has_image_suffix(name: str) -> bool:
    """Whether a name ends as that of an image, in any case."""
    return _suffix(name) in _SUFFIXES


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name (without folders) is nobody's image: hidden, or the system's own."""
    return name.startswith(".") or name.lower() in _SYSTEM


def images_among(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Names of images, and the others, each in the order given.

    An image has a suffix of ``FORMATS``. Where no name has one, those without any suffix are the images.
    """
    images, others = _split(names, has_image_suffix)
    return (images, others) if images else _split(others, lambda name: not _suffix(name))


def without_suffix(name: str) -> str:
    """A file's name, with the folders before it, without its last suffix."""
    # As pathlib's with_suffix(""), which takes a second for the four times that 50,000 images are asked for theirs.
    stem, _, suffix = name.rpartition(".")
    return stem if suffix and "/" not in suffix and stem.rpartition("/")[2] else name


def _split(names: Iterable[str], is_image: Callable[[str], bool]) -> tuple[list[str], list[str]]:
    images: list[str] = []
    others: list[str] = []
    for name in names:
        (images if is_image(name) else others).append(name)
    return images, others


def _suffix(name: str) -> str:
    """The last suffix, in lower case, with its dot; empty where the file name has none."""
    stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return f".{suffix.lower()}" if stem and dot else ""
