"""The table on a terminal, and what is said below it."""

import pytest

import show_results
from made_results import make_results
from mnasbench.result import columns
from mnasbench.result.summary import Row
from mnasbench.result.summary_tables import calibration_notes, terminal_notes, terminal_table


def _row(model: str, precision: str, verdict: str = "VALID", **other: object) -> Row:
    values = {column.name: "" if column.kind is str else None for column in columns.COLUMNS} | {
        "model": model,
        "precision": precision,
        "dataset": "demo",
        "top1": 78.9,
        "top1_low": 76.3,
        "top1_high": 81.3,
        "top5": 100.0,
        "agreement": 100.0,
        "top1_drop": -10.25,
        "throughput_qps": 12345.6,
        "latency_p50_us": 112345,
        "latency_p99_us": 132345,
        "model_bytes": 12500000,
        "verdict": verdict,
    }
    return Row(**(values | other))


@pytest.mark.parametrize("model", ["mnasnet0_5", "efficientnet_b0_of_ours_at_a_larger_size"])
def test_the_table_fits_a_terminal_whatever_the_names(model: str) -> None:
    rows = [_row(model, precision, "DISTURBED") for precision in ("fp32", "int8-kl_divergence")]
    lines = terminal_table(rows).splitlines()
    assert max(map(len, lines)) <= 100
    assert {"top-1 (95 %)", "images/s", "p99 ms"} <= {head.strip() for head in lines[0].split("  ")}
    assert lines[3].startswith(model[:10]) and "int8-kl_divergence" in lines[3] and "12346*" in lines[3]


def test_a_usual_table_has_every_column() -> None:
    usual = {"top5": 97.1, "latency_p50_us": 12345, "latency_p99_us": 32345}
    rows = [_row("mnasnet1_0", precision, **usual) for precision in ("fp32", "int8-percentile")]
    lines = terminal_table(rows).splitlines()
    assert lines[0].split()[-3:] == ["p99", "ms", "MB"] and "12346 " in lines[2]


def test_the_run_that_was_disturbed_is_named_with_its_reason() -> None:
    rows = [_row("a", "fp32"), _row("a", "fp16", "DISTURBED"), _row("b", "fp32", "UNSTABLE")]
    notes = terminal_notes(rows, {("a", "fp16"): "other processes used 31% of the CPU time"})
    assert [note for note in notes if note.startswith("*")] == [
        "* a fp16: DISTURBED (other processes used 31% of the CPU time); its speed is in doubt",
        "* b fp32: UNSTABLE; its speed is in doubt",
    ]


def test_the_reference_that_is_comparable_is_named() -> None:
    published = {"reference_top1": 67.734, "reference_top5": 87.49, "reference_source": "torchvision"}
    notes = terminal_notes([_row("a", "fp32", **published), _row("b", "int8-max", dataset="imagenet")], {})
    assert "a: published top-1 67.73, top-5 87.49 (torchvision), comparable with the fp32 row" in notes
    assert "Without an fp32 row, and so without a drop: b." in notes
    assert any("No published accuracy is comparable" in note for note in terminal_notes([_row("a", "fp32")], {}))


def test_rows_of_different_runtimes_say_which_ran_what() -> None:
    float_rows = [_row("a", name, engine="ort", runtime="onnxruntime") for name in ("fp32", "fp16")]
    int8_rows = [_row("a", "int8-max", engine="ort", runtime="openvino"), _row("a", "int8-mse", engine="vacc")]
    notes = terminal_notes([*float_rows, *int8_rows], {})
    assert "ONNX Runtime ran fp32, fp16." in notes and "OpenVINO ran int8-max." in notes
    assert "The card ran int8-mse." in notes
    assert not any(" ran " in note for note in terminal_notes(float_rows, {}))


def test_the_command_says_table_times_and_where_the_report_is(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_results(tmp_path_factory.mktemp("made"), verdict="DISTURBED")
    assert show_results.main([str(made.results)]) == 0
    said = capsys.readouterr().out
    assert "measure_performance" in said and "other processes used 50.0%" in said and "summary.csv" in said
    assert "\x1b[" not in said and max(map(len, said.splitlines())) <= 130


def test_what_rows_come_to_without_the_calibration_images() -> None:
    fp32 = _row("a", "fp32", images=300, calibration_overlap=100, held_out_top1=88.5)
    int8 = _row("a", "int8-max", images=300, calibration_overlap=100, held_out_top1=88.0)
    int8.held_out_top1_drop, int8.held_out_agreement = 0.5, 99.0
    older, none = (
        _row("b", "fp32", images=300),
        _row("b", "fp32", images=300, calibration_overlap=0, held_out_top1=80.0),
    )
    assert calibration_notes([fp32, int8], {"calibration_left_out": 0}) == [
        "100 of the 300 judged images are calibration images, too (calibration.split: true judges the others alone)",
        "a without them: fp32 top-1 88.50; int8-max top-1 88.00, drop 0.50, agreement 99.0",
    ]
    assert calibration_notes([older], {}) == calibration_notes([none], {"calibration_left_out": 0}) == []
    assert calibration_notes([none], {"calibration_left_out": 20}) == [
        "calibration images are not judged: 20 of 320 images"
    ]
    (all_of_them,) = calibration_notes([_row("a", "fp32", images=300, calibration_overlap=300)], {})
    assert "300 of the 300 judged images are calibration images, too, so none is left" in all_of_them
