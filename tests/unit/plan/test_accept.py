"""Accepting results that only an edit of the code makes stale."""

from pathlib import Path

import pytest

import accept as script
from made_receipt import made_receipt
from mnasbench.code_digest import Code
from mnasbench.file_memory import FileMemory
from mnasbench.plan import accept
from mnasbench.plan.accept import edited_only
from mnasbench.plan.kept_code import KeptCode
from mnasbench.receipts import Records, read_receipt, record_file, write_receipt

BUILD = Code({"mnasbench/build/equalize.py:equalize": "a", "onnx": "1.22"}, "mnasbench/commands/ort_vamc.py")
RUN = Code({"mnasbench/run/accuracy.py:run_accuracy": "b", "onnx": "1.22"}, "mnasbench/commands/ort_vamp.py")
# What the code is now.
NOW = {
    "ort_vamc.py": Code({**BUILD.parts, "mnasbench/build/equalize.py:equalize": "c"}, BUILD.script),
    "ort_vamp.py": Code({**RUN.parts, "onnx": "1.23", "mnasbench/run/accuracy.py:run_accuracy": "d"}, RUN.script),
}
RECEIPTS = {name: Path(f"results/{name}.receipt.json") for name in ("build", "run", "cut", "other input", "lost code")}


@pytest.fixture(autouse=True)
def _results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(accept, "code_of", lambda path: NOW[path.name])
    Path("results").mkdir()
    Path("weights.pth").write_text("weights")
    for name, receipt in RECEIPTS.items():
        output = Path(f"results/{name}.onnx")
        output.write_text(name)
        code = RUN if name == "run" else BUILD
        write_receipt(
            receipt,
            made_receipt(
                rule="run_accuracy" if name == "run" else "compile_model",
                code_sha256=code.digest if name != "lost code" else "e" * 64,
                outputs={str(output): record_file(output)},
                inputs={"weights.pth": "0" * 64} if name == "other input" else {},
            ),
        )
    Path("results/cut.onnx").write_text("c")
    KeptCode().keep([BUILD, RUN], [])


def _edited() -> list[Path]:
    return [edited.path for edited in edited_only(Records(RECEIPTS.values()), FileMemory(None), KeptCode())]


def test_only_what_the_code_alone_makes_stale_is_offered(capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([]) == 0
    said = capsys.readouterr()
    assert said.out == (
        "results/build.receipt.json: code: mnasbench/build/equalize.py:equalize changed\n"
        "results/run.receipt.json: code: mnasbench/run/accuracy.py:run_accuracy changed and 1 more\n"
    )
    assert said.err == "2 of 2 results that only the code makes stale can be accepted with --because\n"
    assert _edited() == [RECEIPTS["build"], RECEIPTS["run"]], "nothing was accepted"


def test_a_receipt_says_what_was_accepted_when_and_why() -> None:
    before = read_receipt(RECEIPTS["build"])
    assert script.main(["--because", "renamed a variable"]) == 0
    after = read_receipt(RECEIPTS["build"])
    assert after.code_sha256 == NOW["ort_vamc.py"].digest
    (acceptance,) = after.accepted
    assert (acceptance.code_sha256, acceptance.because) == (BUILD.digest, "renamed a variable")
    assert acceptance.at.startswith("20") and acceptance.at.endswith("+00:00")
    assert after.made_sha256 == before.made_sha256
    assert _edited() == []
    # The next edit is named against the code that was accepted.
    assert KeptCode().code(after.code_sha256) is not None


@pytest.mark.parametrize(
    ("arguments", "accepted"),
    [
        (["--rule", "compile_model"], ["build"]),
        (["--part", "mnasbench/build/equalize.py:equalize"], ["build"]),
        (["--part", "onnx"], []),
        (["--part", "onnx", "mnasbench/run/accuracy.py:run_accuracy"], ["run"]),
    ],
)
def test_some_can_be_chosen(arguments: list[str], accepted: list[str]) -> None:
    assert script.main(["--because", "x", *arguments]) == 0
    assert [path for path in (RECEIPTS["build"], RECEIPTS["run"]) if path not in _edited()] == [
        RECEIPTS[name] for name in accepted
    ]
