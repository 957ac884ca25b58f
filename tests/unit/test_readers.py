"""No reader of a foreign file crashes, hangs or says more than a line, whatever the file holds."""

import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from readers import READERS

# Words that mean something to one of the readers, or have broken one elsewhere.
_WORDS = [
    b"\0",
    b"\r\n",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"-1",
    b"1e999",
    b".nan",
    b"9" * 400,
    b"../../x",
    b"&a *a",
    b"\xff",
    b'"',
]


@st.composite
def _edits(draw: st.DrawFn, size: int) -> list[tuple[int, int, bytes]]:
    """Replacements of slices of at most a fifth of a content of ``size`` bytes."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, max(0, size - 1)))
        end = min(size, begin + draw(st.integers(0, 1 + size // 5)))
        found.append((begin, end, draw(st.sampled_from(_WORDS) | st.binary(max_size=6))))
    return found


@pytest.mark.parametrize("name", READERS)
def test_whole_files_are_taken(name: str, tmp_path: Path) -> None:
    for example in READERS[name].examples():
        assert READERS[name].try_content(tmp_path, example) is None


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_spoilt_files_give_a_value_or_our_error(name: str, data: st.DataObject, tmp_path: Path) -> None:
    content = data.draw(st.sampled_from(READERS[name].examples()))
    for begin, end, new in data.draw(_edits(len(content))):
        content = content[:begin] + new + content[end:]
    READERS[name].try_content(tmp_path, content)


def _packed_by_lzma(member: str) -> bytes:
    """A zip whose entry is packed by LZMA with a byte of properties that no such stream has."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr(member, bytes(500))
    return stream.getvalue().replace(b"\x05\0]", b"\x05\0\xff", 1)


# What the fuzzer or the tests above once broke a reader with.
_BROKE = [
    ("summary", b"model,precision\rfp32\n"),
    ("summary", READERS["summary"].examples()[0].replace(b",VALID,8000000", b"")),
    ("answers", READERS["answers"].examples()[0].replace(b"a,3,3,1,2,4,5", b"a,3,,,,,")),
    ("answers", READERS["answers"].examples()[0].replace(b"1.5", b"nan")),
    ("answers", READERS["answers"].examples()[0].replace(b"1.5", b"9" * 200_000)),
    ("model_info", READERS["model_info"].examples()[0].replace(b'"precision"', b'"recision"')),
    ("model_info", READERS["model_info"].examples()[0].replace(b'"crop"', b'"crap"')),
    ("model_info", READERS["model_info"].examples()[0].replace(b'"resize": 256', b'"resize": []')),
    ("vdsp_params", READERS["vdsp_params"].examples()[1].replace(b'"iimage_format"', b"{}")),
    ("vdsp_params", b'{"vdsp_op_type": "RGB_RESIZE_CVTCOLOR_CROP_NORMALIZATION_TENSORIZATION_U8", "config": 1}'),
    ("ONNX", READERS["ONNX"].examples()[0].replace(b"input", b"inp\x80t")),
    ("settings", b'models: {a: {}}\n"a\\nb": 1\n'),
    ("input npz", _packed_by_lzma("input_0.npy")),
    ("output npz", _packed_by_lzma("output_0.npy")),
    ("settings", b"models:\n &mnasnet0_5: {}\n"),
    ("manifest", READERS["manifest"].examples()[0].replace(b"val/a", b"val/../../a")),
    ("build YAML", READERS["build YAML"].examples()[0].replace(b"name: mnasnet0_5", b"name: ../../mnasnet0_5")),
    *(
        ("build YAML", READERS["build YAML"].examples()[0].replace(b"name: mnasnet0_5", b"name: " + value))
        for value in (
            b"!!int ''",
            b"!!bool x",
            b"!!timestamp x",
            b"!!float _",
            b"0x" + b"f" * 5000,
            b"{? !!set {a} : 1}",
        )
    ),
    ("build YAML", READERS["build YAML"].examples()[0].replace(b"get_data_num: 1000", b"get_data_num: -5")),
    ("build YAML", READERS["build YAML"].examples()[0].replace(b"max_drop: 0.5", b"max_drop: .nan")),
    ("build YAML", READERS["build YAML"].examples()[0].replace(b"- 224", b"- 1000000")),
    ("build YAML", READERS["build YAML"].examples()[0].replace(b"onnx/mnas", b'"\\0" #')),
    ("build YAML", READERS["build YAML"].examples()[0].replace(b"onnx/mnas", b'"\\ud800" #')),
    ("build YAML", b"a: [" + b"1, " * 400_000 + b"1]"),
    ("model_info", READERS["model_info"].examples()[0].replace(b"mnasnet0_5", b"\\ud800")),
    ("model_info", READERS["model_info"].examples()[0].replace(b"256", b"NaN")),
    ("model_info", READERS["model_info"].examples()[0].replace(b'"notes"', b'"name": "x", "notes"')),
    ("vdsp_params", READERS["vdsp_params"].examples()[0].replace(b'"OpType"', b'"OpType": "x", "OpType"')),
    ("list", b"a.npz\nb\0.npz\n"),
    ("manifest", READERS["manifest"].examples()[0].replace(b"val/a", b"val/\0a")),
]


@pytest.mark.parametrize(("name", "content"), _BROKE)
def test_what_broke_a_reader_once_is_named_now(name: str, content: bytes, tmp_path: Path) -> None:
    assert READERS[name].try_content(tmp_path, content) is not None
