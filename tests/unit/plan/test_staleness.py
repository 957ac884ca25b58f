"""Why a job is stale: each reason in one line, from receipts and files alone."""

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from made_receipt import made_receipt
from mnasbench.code_digest import Code
from mnasbench.file_memory import FileMemory
from mnasbench.files import canonical_json
from mnasbench.plan.kept_code import KeptCode
from mnasbench.plan.staleness import changed_setting, why_stale
from mnasbench.receipts import Records, input_digest, read_receipt, record_file, record_folder, write_receipt

CODE = Code({"mnasbench/build/equalize.py:equalize": "a" * 64, "mnasbench/files.py": "b" * 64, "onnx": "1.22"})
SETTINGS = {"quantize": {"headroom": 10}, "arguments": ["--images", "5", "--quantize", '{"bias":{"rounds":1}}']}
EXPORT, BUILD = Path("results/export.receipt.json"), Path("results/build.receipt.json")


def _record(receipt: Path, inputs: list[str], outputs: list[str], folders: list[str], **values: Any) -> None:
    memory = FileMemory(None)
    values = {"settings": SETTINGS, "code_sha256": CODE.digest} | values
    made = made_receipt(
        inputs={name: input_digest(Path(name), memory) for name in inputs},
        outputs={name: record_file(Path(name)) for name in outputs},
        folders={name: record_folder(Path(name)) for name in folders},
        **values,
    )
    write_receipt(receipt, made)


@pytest.fixture
def _chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """weights.pth, the user's own -> model.onnx -> compiled.onnx and a folder, each job with its receipt."""
    monkeypatch.chdir(tmp_path)
    Path("weights.pth").write_text("weights")
    Path("results/images").mkdir(parents=True)
    Path("results/model.onnx").write_text("model")
    Path("results/compiled.onnx").write_text("compiled")
    Path("results/images/a").write_text("image")
    _record(EXPORT, ["weights.pth"], ["results/model.onnx"], [])
    _record(BUILD, ["results/model.onnx", str(EXPORT)], ["results/compiled.onnx"], ["results/images"])
    KeptCode().keep([CODE], [])


def _why(receipt: Path = BUILD, settings: Any = SETTINGS, code: Code = CODE, **options: Any) -> str | None:
    return why_stale(
        receipt,
        canonical_json(settings),
        code,
        records=Records([EXPORT, BUILD]),
        memory=FileMemory(None),
        kept_code=KeptCode(),
        **options,
    )


@pytest.mark.usefixtures("_chain")
def test_nothing_is_stale_where_nothing_changed() -> None:
    for receipt in (EXPORT, BUILD):
        assert _why(receipt) is _why(receipt, by_contents=True) is None
    assert _why(inputs=["results/model.onnx", str(EXPORT)]) is None


@pytest.mark.usefixtures("_chain")
def test_nothing_is_stale_in_a_copy_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(tmp_path / "results", tmp_path / "elsewhere/results", copy_function=shutil.copyfile)
    shutil.copyfile("weights.pth", tmp_path / "elsewhere/weights.pth")
    for path in (tmp_path / "elsewhere").rglob("*"):
        os.utime(path, (0, 0))
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert _why(EXPORT) is _why(BUILD) is None
    assert _why(settings={**SETTINGS, "quantize": {"headroom": 5}}) == "setting quantize.headroom was 10, is 5"


@pytest.mark.usefixtures("_chain")
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda: BUILD.unlink(), "no receipt"),
        (lambda: BUILD.write_text("{"), "its receipt is damaged"),
        (lambda: Path("results/compiled.onnx").unlink(), "results/compiled.onnx is missing"),
        (
            lambda: Path("results/compiled.onnx").write_text("comp"),
            "results/compiled.onnx was cut short (4 bytes, 8 were written)",
        ),
        (lambda: Path("results/images/b").touch(), "results/images holds other files than were made"),
        (lambda: Path("results/compiled.onnx").write_text("COMPILED"), None),
    ],
)
def test_damage_is_a_reason(damage: Any, reason: str | None) -> None:
    damage()
    assert _why() == reason
    if reason is None:
        assert _why(by_contents=True) == "results/compiled.onnx was changed after it was made"


@pytest.mark.usefixtures("_chain")
def test_an_input_is_judged_by_what_its_own_job_says_now() -> None:
    Path("results/model.onnx").write_text("MODEL")
    assert _why() is None, "until its own job is made again, the step that reads it says so"
    _record(EXPORT, ["weights.pth"], ["results/model.onnx"], [])
    assert _why() == "input results/model.onnx changed"


@pytest.mark.usefixtures("_chain")
def test_a_job_that_made_the_same_again_makes_nothing_stale() -> None:
    write_receipt(EXPORT, replace(read_receipt(EXPORT), started="2027", seconds=5.0, code_sha256="f" * 64))
    assert _why(BUILD) is None


@pytest.mark.usefixtures("_chain")
def test_the_users_own_file_is_judged_by_its_content() -> None:
    Path("weights.pth").touch()
    assert _why(EXPORT) is None
    Path("weights.pth").write_text("WEIGHTS")
    assert _why(EXPORT) == "input weights.pth changed"
    Path("weights.pth").unlink()
    assert _why(EXPORT) == "input weights.pth is missing"


@pytest.mark.usefixtures("_chain")
def test_other_inputs_are_a_reason() -> None:
    assert _why(EXPORT, inputs=["weights.pth", "wnids.txt"]) == "input wnids.txt is new"
    assert _why(EXPORT, inputs=[]) == "input weights.pth is read no more"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"quantize": {"headroom": 5}}, "setting quantize.headroom was 10, is 5"),
        ({"quantize": {"headroom": 10, "bias": None}}, "setting quantize.bias is new (null)"),
        ({"quantize": {}}, "setting quantize.headroom was 10, is gone"),
        ({"shards": 2, "npz": "x"}, "setting npz is new (x) and 1 more"),
        ({"arguments": ["--images", "6", "--quantize", '{"bias":{"rounds":1}}']}, "setting images was 5, is 6"),
        ({"arguments": ["--images", "5", "--quantize", '{"bias":{"rounds":2}}']}, "setting quantize.bias.rounds was 1, is 2"),
        ({"arguments": ["--images", "5"]}, "setting quantize.bias.rounds was 1, is gone"),
        ({"arguments": ["--images", "y" * 99]}, f"setting images was 5, is {'y' * 60}... and 1 more"),
        ({"arguments": ["--images", "5\n", "--quantize", '{"bias":{"rounds":1}}']}, r"setting images was 5, is 5\n"),
    ],
)  # fmt: skip
def test_a_setting_is_named_with_both_values(change: dict[str, Any], reason: str | None) -> None:
    assert changed_setting(SETTINGS, canonical_json({**SETTINGS, **change})) == reason


@pytest.mark.usefixtures("_chain")
@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"mnasbench/build/equalize.py:equalize": "c" * 64}, "code: mnasbench/build/equalize.py:equalize changed"),
        ({"onnx": "1.23"}, "onnx was 1.22, is 1.23"),
        ({"onnx": "1.23", "mnasbench/files.py": ""}, "code: mnasbench/files.py changed and 1 more"),
        ({"mnasbench/files.py:new": ""}, "code: mnasbench/files.py:new is new"),
        ({"numpy": "2.4"}, "numpy is used (2.4)"),
    ],
)
def test_an_edit_is_named(parts: dict[str, str], reason: str) -> None:
    code = Code({**CODE.parts, **parts})
    assert _why(code=code) == reason
    shutil.rmtree("results/logs/code")
    assert _why(code=code) == "code changed"
    assert _why(code=CODE) is None


def _kept(code: Code) -> Mapping[str, str] | None:
    kept = KeptCode().code(code.digest)
    return None if kept is None else kept.parts


@pytest.mark.usefixtures("_chain")
def test_code_that_no_receipt_names_is_not_kept() -> None:
    other = Code({"numpy": "1"})
    KeptCode().keep([other], [CODE.digest])
    assert _kept(CODE) == CODE.parts and _kept(other) == other.parts
    KeptCode().keep([other], [])
    assert _kept(CODE) is None
    Path(f"results/logs/code/{other.digest}.json").write_text("[]")
    assert _kept(other) is None
    KeptCode().keep([other], [])
    assert _kept(other) == other.parts


def test_planning_asks_hundreds_of_receipts_in_the_wink_of_an_eye(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of what 24 rows of 16 shards have, as 50,000 images are split."""
    monkeypatch.chdir(tmp_path)
    receipts = []
    versions, machine = {f"library{n}": "1.2.3" for n in range(12)}, {"cpu": "x" * 40, "cpus": 16}
    for number in range(400):
        name = f"results/run/{number}.npz"
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(str(number))
        before = [f"results/run/{n}.npz" for n in range(max(0, number - 8), number)]
        receipts.append(Path(f"results/run/{number}.receipt.json"))
        _record(receipts[-1], before, [name], [], versions=versions, machine=machine, command=["python"] * 40)
    settings = canonical_json(SETTINGS)
    began = time.process_time()
    records, memory, kept = Records(receipts), FileMemory(None), KeptCode()
    assert not any(why_stale(r, settings, CODE, records=records, memory=memory, kept_code=kept) for r in receipts)
    assert time.process_time() - began < 0.25  # of 1,500: a tenth of a second on an idle machine
