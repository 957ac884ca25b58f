"""A column of the summary is one entry: whatever shows, writes, reads or compares columns follows from it."""

import csv
import io
import json
import math
from pathlib import Path

import pytest

import compare as compare_script
import show_results
from made_results import make_results
from mnasbench.errors import InputError
from mnasbench.result import columns
from mnasbench.result.columns import Column, Compared, Display
from mnasbench.result.comparison import compare, comparison_page, comparison_table, failures, gate_columns, parse_gate
from mnasbench.result.report import make_report
from mnasbench.result.results_folder import read_results
from mnasbench.result.summary import make_row, read_summary, rows_of, to_csv
from mnasbench.result.summary_tables import markdown_table, terminal_table
from write_settings_table import document_with_columns

DOCUMENT = Path(__file__).parents[3] / "docs/measurement.md"
EXTRA = Column(
    "mean_requests",
    float,
    "requests",
    "requests that the measurement was made of",
    "performance.requests",
    digits=2,
    better="higher",
    display=Display("kilo req", scale=1e-3, digits=1),
    compared=Compared("requests", "ratio", terminal="req B/A"),
)
REQUIRED = [column.name for column in columns.COLUMNS if column.required]


def _summary(folder: Path, **changes: str) -> Path:
    """A summary of two rows with other cells in its first row."""
    made = make_results(folder, variants=("mnasnet0_5",), precisions=("fp32", "int8-max"), extras=False)
    path = made.results / "summary.csv"
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    rows[0] |= changes
    _write(path, rows)
    return path


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def test_one_entry_is_a_column_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "COLUMNS", (*columns.COLUMNS, EXTRA))
    made = [make_results(tmp_path / name, variants=("mnasnet0_5",), extras=False) for name in "ab"]
    a, b = (read_results(one.results) for one in made)
    text = (a.folder / "summary.csv").read_text().splitlines()
    assert text[0].endswith(",mean_requests") and text[1].endswith(",700")
    rows = [result.row for result in a.rows]
    assert rows[0].mean_requests == 700.0
    for table in (terminal_table(rows), markdown_table(rows), make_report(a)):
        assert "kilo req" in table and "0.7" in table
    compared = compare(a, b)
    assert "requests_ratio" in gate_columns() and compared.requests_ratio.to_list() == [1.0] * 3
    assert "req B/A" in comparison_table(compared) and "kilo req B" in comparison_page(a, b, compared, [])
    assert failures(compared, [parse_gate("requests_ratio < 2")]) != []
    assert "| `mean_requests` | requests | requests that" in columns.documentation()
    assert "mean_requests" in document_with_columns(DOCUMENT.read_text())


def test_every_column_stands_in_the_document_as_it_is_defined() -> None:
    text = DOCUMENT.read_text()
    assert document_with_columns(text) == text, "run workflow/scripts/write_settings_table.py"


def test_entries_agree_with_each_other() -> None:
    assert len(set(columns.names())) == len(columns.COLUMNS)
    assert len(set(gate_columns())) == len(gate_columns())
    for column in columns.COLUMNS:
        interval = column.display.interval if column.display else ()
        assert isinstance(interval, str) or set(interval) <= set(columns.names())


# ------------------------------------------------------------------------------------- older, newer, damaged summaries
@pytest.mark.parametrize("column", [column.name for column in columns.COLUMNS if not column.required])
def test_a_column_that_a_summary_lacks_is_unknown(tmp_path: Path, column: str) -> None:
    path = _summary(tmp_path)
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    _write(path, [{name: value for name, value in row.items() if name != column} for row in rows])
    results = read_results(path.parent)
    assert all(getattr(result.row, column) in (None, "") for result in results.rows)
    assert terminal_table([result.row for result in results.rows])
    assert make_report(results)
    assert compare_script.main([str(path.parent), str(path.parent)]) == 0
    assert show_results.main([str(path.parent)]) == 0


@pytest.mark.parametrize("column", REQUIRED)
def test_without_what_says_which_row_it_is_it_is_no_summary(tmp_path: Path, column: str) -> None:
    path = _summary(tmp_path)
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    _write(path, [{name: value for name, value in row.items() if name != column} for row in rows])
    with pytest.raises(InputError, match="is not a summary"):
        read_summary(path)


def test_a_column_that_only_a_newer_summary_has_is_kept_and_ignored(tmp_path: Path) -> None:
    path = _summary(tmp_path)
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    _write(path, [{"joules": "1.5 or so"} | row for row in rows])
    table = read_summary(path)
    assert list(table.columns) == [*columns.names(), "joules"] and rows_of(table)[0].joules == "1.5 or so"
    assert compare_script.main([str(path.parent), str(path.parent)]) == 0


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "fast", "1,5"])
def test_what_is_no_number_is_refused(tmp_path: Path, text: str) -> None:
    """A NaN would pass every gate: no comparison with it holds."""
    with pytest.raises(InputError, match=r"throughput_qps is '.*', not a number"):
        read_summary(_summary(tmp_path, throughput_qps=text))


@pytest.mark.parametrize("name", ["NA", "nan", "None", "null", "N/A", ""])
def test_names_stay_text(tmp_path: Path, name: str) -> None:
    row = rows_of(read_summary(_summary(tmp_path, reference_source=name)))[0]
    assert row.reference_source == name
    if name:
        assert rows_of(read_summary(_summary(tmp_path / "model", model=name)))[0].model == name


def test_two_rows_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two rows of mnasnet0_5 in int8-max"):
        read_summary(_summary(tmp_path, precision="int8-max"))


def test_rows_of_two_datasets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"several datasets \(other, small\)"):
        read_summary(_summary(tmp_path, dataset="other"))


@pytest.mark.parametrize("damage", [lambda line: line[:40], lambda line: f"{line},1"])
def test_a_line_of_another_length_is_refused(tmp_path: Path, damage: object) -> None:
    path = _summary(tmp_path)
    head, *lines = path.read_text().splitlines()
    path.write_text("\n".join([head, *map(damage, lines)]))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="is not a summary"):
        read_summary(path)


# ----------------------------------------------------------------------------------------------------------- writing
def test_unknown_is_empty_and_never_zero() -> None:
    identity = {"model": "a", "precision": "fp32", "engine": "ort", "dataset": "d"}
    accuracy = {"images": 3, "top1": 100 / 3, "top1_low": 0.0, "top1_high": 100.0, "sqnr_db": math.nan}
    text = to_csv([make_row({"identity": identity, "accuracy": accuracy, "performance": {"verdict": None}})])
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["top1"], row["top1_low"], row["images"]) == ("33.333", "0.000", "3")
    assert (row["sqnr_db"], row["model_bytes"], row["latency_p99_us"], row["verdict"]) == ("", "", "", "")


def test_a_row_without_accuracy_is_an_error() -> None:
    identity = {"model": "a", "precision": "fp32", "engine": "ort", "dataset": "d"}
    with pytest.raises(InputError, match="a-fp32: its files do not say its images"):
        make_row({"identity": identity})


# ------------------------------------------------------------------------------------------------- each row's own files
def test_what_a_former_build_left_is_not_read(tmp_path: Path) -> None:
    """A folder keeps what was made at another size; names decide, not what lies there."""
    made = make_results(tmp_path, variants=("mnasnet0_5",))
    build = made.results / "build/mnasnet0_5/int8-max"
    for former in ("a-former", "z-former"):
        (build / former).mkdir()
        (build / former / "mnasnet0_5.json").write_text(json.dumps({"quantization": {"mode": former}}))
        table = (build / "folder/quantization.csv").read_text().replace("conv_", f"{former}_")
        (build / former / "quantization.csv").write_text(table)
        (made.results / f"model/mnasnet0_5/{former}.json").write_text(json.dumps({"name": former}))
        receipt = (made.results / "model/mnasnet0_5/mnasnet0_5_224.receipt.json").read_text()
        other = made.results / f"model/mnasnet0_5/{former}.receipt.json"
        other.write_text(receipt.replace("two words", former).replace("mnasnet0_5_224", former))
        (made.results / "result/mnasnet0_5/int8-max/answers-7.csv").write_text("left over\n")
    page = make_report(read_results(made.results), dataset_root=made.root)
    assert "-former" not in page and "conv_" in page


def test_a_curve_of_a_former_build_is_not_shown(tmp_path: Path) -> None:
    made = make_results(tmp_path, variants=("mnasnet0_5",))
    peak = made.results / "run/mnasnet0_5/int8-percentile/peak.json"
    assert [bool(result.peak) for result in read_results(made.results).rows] == [False, True, False]
    peak.write_text(json.dumps(json.loads(peak.read_text()) | {"digests": {"graph": "0" * 64}}))
    assert not any(result.peak for result in read_results(made.results).rows)


def test_other_images_under_equal_names_are_not_paired(tmp_path: Path) -> None:
    a, b = (make_results(tmp_path / name, variants=("mnasnet0_5",), extras=False).results for name in "ab")
    assert compare(read_results(a), read_results(b)).paired.all()
    manifest = b / "data/small/manifest.csv"
    head, first, *rest = manifest.read_text().splitlines()
    digest = next(cell for cell in first.split(",") if len(cell) == 64)
    manifest.write_text("\n".join([head, first.replace(digest, "0" * 64), *rest]) + "\n")
    assert not compare(read_results(a), read_results(b)).paired.any()
