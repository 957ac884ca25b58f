"""Files read and written safely: digests, atomic writes, size-bounded readers.

Nothing here runs code from a data file, and no reader takes a file larger than its kind can sensibly be.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

import yaml

from mnasbench.errors import InputError, OutputError, one_line

# Manifests and label files of 50,000 images have about 8 MB; nothing that is text here is larger than this.
MAX_TEXT_BYTES = 64 * 1024 * 1024
# A build file or a configuration has a few KB; the reader, which is written in Python, takes 8 s for this much.
MAX_YAML_BYTES = 1024 * 1024
# How a file is opened that is to be a regular one: a pipe in its place must not be waited for.
REGULAR_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK = 1 << 20
# How the names of files begin that are being written; a call that was killed leaves them.
TEMPORARY = ".new-"


def sha256_of_bytes(content: bytes) -> str:
    """Hexadecimal SHA-256 of ``content``."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in chunks."""
    with open_for_reading(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file in binary; OSError for anything else: a pipe would be waited for, a device never ends."""
    return os.fdopen(_regular(path)[0], "rb")


def _regular(path: Path) -> tuple[int, int]:
    """Descriptor and size of a regular file."""
    if "\0" in str(path):  # from a list or a build file; Python's own refusal is no OSError
        raise OSError(errno.EINVAL, "its name holds a NUL", str(path))
    descriptor = os.open(path, REGULAR_FLAGS)
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        os.close(descriptor)
        if stat.S_ISDIR(about.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return descriptor, about.st_size


def read_regular(path: Path, limit: int) -> bytes:
    """The bytes of a regular file; OSError for anything else and for one of more than ``limit`` bytes."""
    descriptor, size = _regular(path)
    with os.fdopen(descriptor, "rb") as stream:
        _require_size(path, size, limit)
        return stream.read()


def _require_size(path: Path, size: int, limit: int) -> None:
    if size > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes, which no file of this kind has", str(path))


@contextmanager
def open_for_reading(path: Path) -> Iterator[BufferedReader]:
    """Open ``path`` in binary, with the system's refusal as an InputError."""
    try:
        with open_regular(path) as stream:
            yield stream
    except OSError as error:
        raise InputError(f"{one_line(path)}: cannot be read ({error.strerror or error})") from error


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same folder; rename it to ``path`` when the block ends well.

    The temporary file is removed when the block fails, so a reader never meets half a file. Its name keeps
    the suffix of ``path``, because several writers (``np.savez``, ``torch.save``) look at it. Raises OutputError
    where the system refuses: no space, no permission, a file in place of a folder.
    """
    path = Path(path)
    with refusal_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # A short name: one of nearly 255 bytes is a name that an image may have, with nothing left for more.
        handle, name = tempfile.mkstemp(prefix=TEMPORARY, suffix=path.suffix[-16:], dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        with refusal_named(path):
            yield temporary
            temporary.chmod(0o666 & ~_UMASK)  # mkstemp's 0600 would keep a shared results folder from its team
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def copy_file(source: Path, path: Path) -> None:
    """Copy the content of a file, atomically; InputError or OutputError, by which of the two is the matter."""
    with open_for_reading(source) as stream, written_atomically(path) as temporary, temporary.open("wb") as target:
        shutil.copyfileobj(stream, target, _CHUNK)


@contextmanager
def refusal_named(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write into an OutputError that names ``path``: a full disk names no file at all."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{one_line(path)}: cannot be written ({error.strerror or error})") from error


def make_folders(root: Path, folders: Iterable[Path]) -> None:
    """Make these folders below ``root``; OutputError where a link among them would lead out of it."""
    for folder in dict.fromkeys(folders):
        if not folder.resolve().is_relative_to(root.resolve()):
            raise OutputError(f"{one_line(folder)}: leads out of {one_line(root)} by a link; remove the link")
        with refusal_named(folder):
            folder.mkdir(parents=True, exist_ok=True)


def flush_to_disk(paths: Iterable[Path]) -> None:
    """Have the contents and the names of these files outlast a power cut from here on."""
    files = list(paths)
    for path in [*files, *dict.fromkeys(file.parent for file in files)]:
        with refusal_named(path):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _umask() -> int:
    # The only portable way to read the umask is to set it; done once, at import, before threads exist.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


_UMASK = _umask()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with Unix line ends, atomically; InputError where it holds a file's name that is not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        around = one_line(text[max(0, error.start - 40) : error.end + 10])
        raise InputError(
            f"{one_line(path)}: cannot be written, a name in it is not UTF-8 ({around}); rename that file or folder"
        ) from error
    with written_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def canonical_json(value: Any) -> str:
    """``value`` as JSON with sorted keys and no spaces: equal settings give equal strings."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically, in the order of its keys."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_text(path: Path, limit: int = MAX_TEXT_BYTES) -> str:
    """UTF-8 text of a file (a byte-order mark is dropped); InputError names what is wrong with it."""
    try:
        content = read_regular(path, limit)
    except OSError as error:
        raise InputError(f"{one_line(path)}: cannot be read ({error.strerror or error})") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{one_line(path)}: is not UTF-8 text (byte {error.start})") from error


_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    doubled = sorted({key for key in keys if keys.count(key) > 1}) if len(set(keys)) < len(keys) else []
    if doubled:
        raise ValueError(f"key {doubled[0]!r} stands twice")
    return dict(pairs)


def _can_be_a_name(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def read_json(path: Path) -> Any:
    """A JSON file; a doubled key is an error, because one of its two values would be lost."""
    try:
        text = read_text(path)
        value = json.loads(text, object_pairs_hook=_unique_pairs, parse_constant=_no_constant)
        if _ESCAPED_SURROGATE.search(text):  # one half of a pair can neither be printed nor written
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError) as error:
        raise InputError(f"{one_line(path)}: is not valid JSON ({one_line(error)})") from error


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses doubled keys and aliases (with aliases a few lines expand to gigabytes)."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(None, None, "aliases (*name) are not accepted", mark)
        return super().compose_node(parent, index)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        if isinstance(value, str) and not _can_be_a_name(value):
            problem = "half a character (a surrogate) or a NUL, which no file's name can hold"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if not isinstance(node, yaml.MappingNode):
            return super().construct_mapping(node, deep=deep)
        keys: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                problem = "a list or mapping cannot be a key"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if key in keys:
                problem = f"key {key!r} stands twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            keys.add(key)
        return super().construct_mapping(node, deep=deep)


def _bounded_int(loader: _UniqueKeyLoader, node: yaml.ScalarNode) -> int:
    # `0x` and 5,000 digits make a number that Python refuses to print; `1:59:59...` takes a time that grows squared.
    value = loader.construct_yaml_int(node) if len(node.value) <= 64 else 1 << 63
    if not -(1 << 63) <= value < 1 << 63:
        raise yaml.constructor.ConstructorError(None, None, "a number of more than 64 bits", node.start_mark)
    return int(value)


_UniqueKeyLoader.add_constructor("tag:yaml.org,2002:int", _bounded_int)


def read_yaml(path: Path) -> Any:
    """A YAML file by the safe loader; doubled keys, aliases and numbers of more than 64 bits are errors."""
    text = read_text(path, MAX_YAML_BYTES)
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader, made stricter
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{one_line(path)}: is not valid YAML ({one_line(' '.join(str(error).split()))})") from error
    except (LookupError, AttributeError, TypeError) as error:  # PyYAML's, of `!!bool x`, `!!int ""`, `!!timestamp x`
        raise InputError(f"{one_line(path)}: is not valid YAML (a value that its own !!tag does not fit)") from error


def write_yaml(path: Path, value: Any) -> None:
    """Write ``value`` as block YAML, atomically, in the order of its keys."""
    write_text(path, yaml.safe_dump(value, sort_keys=False, default_flow_style=False, allow_unicode=True))
