"""Two runs against each other: what differs, how sure that is, and gates that fail when they should."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import compare as compare_script
from made_results import make_results
from mnasbench.errors import InputError
from mnasbench.result.comparison import (
    compare,
    comparison_table,
    failures,
    gate_columns,
    only_in,
    parse_gate,
)
from mnasbench.result.results_folder import Results, read_results

PRECISIONS = ("fp32", "int8-max")


def _results(folder: Path, **changes: object) -> Results:
    chosen: dict = {"variants": ("mnasnet0_5",), "precisions": PRECISIONS, "extras": False}
    return read_results(make_results(folder, **(chosen | changes)).results)


def _int8(a: Results, b: Results) -> Any:
    rows = compare(a, b)
    return next(rows[rows.precision == "int8-max"].itertuples())


def test_a_run_against_itself_differs_in_nothing(tmp_path: Path) -> None:
    results = _results(tmp_path)
    for row in compare(results, results).itertuples():
        assert row.paired and row.top1_p == 1 and math.isnan(row.throughput_p)
        assert (row.top1_drop, row.lost, row.gained, row.agreement) == (0, 0, 0, 100)
        assert (row.throughput_ratio, row.p99_ratio, row.bytes_ratio) == (1, 1, 1)


def test_answers_to_the_same_images_are_paired(tmp_path: Path) -> None:
    row = _int8(_results(tmp_path / "a", lost=0), _results(tmp_path / "b", lost=8))
    assert (row.paired, row.lost, row.gained) == (True, 8, 0)
    assert row.top1_drop == pytest.approx(row.top1_a - row.top1_b) == pytest.approx(20)
    assert row.top1_drop_low < 20 < row.top1_drop_high
    # Eight flips in one direction: nothing is more uneven, so half of the two-sided probability of just these.
    assert row.top1_p == pytest.approx(0.5**8)
    assert row.agreement == pytest.approx(80)


def test_other_images_are_compared_as_two_samples(tmp_path: Path) -> None:
    a, b = _results(tmp_path / "a", images=40, lost=0), _results(tmp_path / "b", images=60, lost=20)
    row = _int8(a, b)
    assert not row.paired and math.isnan(row.lost) and math.isnan(row.agreement)
    assert row.top1_p == pytest.approx(stats.fisher_exact([[36, 4], [36, 24]]).pvalue)
    assert row.top1_drop == pytest.approx(90 - 60)
    assert "unpaired" in comparison_table(compare(a, b))


def test_newcombes_interval_as_he_published_it(tmp_path: Path) -> None:
    # 56/70 against 48/80, method 10 of the 1998 paper: 0.0524 to 0.3339.
    a, b = _results(tmp_path / "a", images=70, lost=0), _results(tmp_path / "b", images=80, lost=0)
    for results, correct, images in ((a, 56, 70), (b, 48, 80)):
        results.rows[1].accuracy.update(correct_top1=correct, images=images)  # type: ignore[attr-defined]
    row = _int8(a, b)
    assert (row.top1_drop_low, row.top1_drop_high) == (pytest.approx(5.24, abs=0.01), pytest.approx(33.39, abs=0.01))


def test_throughput_is_held_against_the_scatter_of_the_windows(tmp_path: Path) -> None:
    a, b = _results(tmp_path / "a"), _results(tmp_path / "b", speed=0.5)
    row = _int8(a, b)
    assert row.throughput_ratio == pytest.approx(0.5)
    windows = [np.array(results.rows[1].performance["windows"]["throughput_qps"]) for results in (a, b)]
    assert row.throughput_p == pytest.approx(stats.ttest_ind(*windows, equal_var=False).pvalue)
    assert row.throughput_p < 0.001


def test_rows_of_one_folder_only_are_named(tmp_path: Path) -> None:
    a, b = _results(tmp_path / "a"), _results(tmp_path / "b", precisions=("fp32",))
    assert compare(a, b).precision.to_list() == ["fp32"]
    assert (only_in(a, b), only_in(b, a)) == (["mnasnet0_5-int8-max"], [])


def test_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    a, b = _results(tmp_path / "a"), _results(tmp_path / "b", variants=("mnasnet1_0",))
    with pytest.raises(InputError, match="no row in common"):
        compare(a, b)


# ------------------------------------------------------------------------------------------------------------- gates
@pytest.mark.parametrize("text", ["top1_drop > 0.5", "top1_drop>.5", " throughput_ratio<=9e-1 ", "p99_ratio >= -1"])
def test_gates_are_parsed(text: str) -> None:
    assert parse_gate(text).column in gate_columns()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("top1_dorp > 1", "did you mean 'top1_drop'"),
        ("model > 1", "unknown column 'model'"),
        ("paired > 0", "unknown column 'paired'"),
        ("top1_drop = 1", "is not a gate"),
        ("top1_drop > 1 or 1", "is not a gate"),
        ("top1_drop > __import__('os')", "is not a gate"),
        ("1 < top1_drop", "is not a gate"),
        ("top1_drop > nan", "is not a gate"),
        ("", "is not a gate"),
    ],
)
def test_a_bad_gate_is_explained(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_gate(text)


@pytest.mark.parametrize(
    ("operator", "limit", "fails"),
    [(">", 19.9, True), (">", 20, False), (">=", 20, True), ("<", 20, False), ("<=", 20, True), ("<", 20.1, True)],
)
def test_each_operator_means_what_it_says(tmp_path: Path, operator: str, limit: float, fails: bool) -> None:
    rows = compare(_results(tmp_path / "a", lost=0), _results(tmp_path / "b", lost=8)).tail(1)
    assert bool(failures(rows, [parse_gate(f"top1_drop {operator} {limit}")])) == fails


def test_an_unknown_value_fails_its_gate(tmp_path: Path) -> None:
    results = _results(tmp_path)
    (said, _) = failures(compare(results, results), [parse_gate("throughput_p < 0.01")])
    assert said == "mnasnet0_5-fp32: throughput_p < 0.01 (its value is unknown)"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = _results(tmp_path / "a", lost=0), _results(tmp_path / "b", lost=8, verdict="DISTURBED")
    folders = [str(a.folder), str(b.folder)]
    target = tmp_path / "page.html"
    assert compare_script.main([*folders, "--html", str(target), "--fail-if", "top1_drop > 25"]) == 0
    said = capsys.readouterr().out
    assert "+20.00" in said and said.rstrip().endswith("no")
    assert max(map(len, said.splitlines())) <= 100
    assert ">passed</span> <code>top1_drop &gt; 25" in target.read_text()
    assert compare_script.main([*folders, "--fail-if", "top1_drop > 25", "--fail-if", "top1_drop > 15"]) == 1
    assert "gate failed: mnasnet0_5-int8-max: top1_drop > 15 (it is 20)" in capsys.readouterr().err
    assert compare_script.main([*folders, "--fail-if", "drop > 15"]) == 2


def test_the_order_of_answers_makes_no_difference(tmp_path: Path) -> None:
    whole, turned = _results(tmp_path / "a"), _results(tmp_path / "b")
    table = turned.rows[1].answer_files[0]
    header, *lines = table.read_text().splitlines(keepends=True)
    table.write_text(header + "".join(reversed(lines)))
    row = _int8(whole, read_results(turned.folder))
    assert row.paired and (row.lost, row.agreement) == (0, 100)
