"""vamp's report as its documents print it, in the forms of several versions."""

from pathlib import Path

import pytest

from mnasbench.errors import MeasurementError, ToolError
from mnasbench.run.vendor import match_outputs, read_report

REPORT_2024 = """\
[max_batch_size_]: 5
[input_count]: 1
input[0]: [3,256,256], dtype:u1
[output_count]: 1
output[0]: [1,3,256,256], dtype:f2

*** number of instances in each device:1 ****
Inference start time: [2024-01-04 14:05:14]
Inference end time: [2024-01-04 14:05:15]
number of samples in each process: 1024
number of process:1

- number of instances in each device: 1
devices: [0]
batch size: 1
samples: 1024
forwad time (s): 1.31991
throughput (qps): 775.808
ai utilize (%): 96.4176
die memory used (MB): 1356.75
e2e latency (us):
    avg latency: 21697
    min latency: 1883
    max latency: 21965
model latency (us):
    avg latency: 1241
    min latency: 1241
    max latency: 1241
"""
# A printed example of 2026: power and temperature, and no maximum of the model latency.
REPORT_2026 = """\
*** number of instances in each device: 3 ****
  devices: [0]
  batch size: 8
  samples: 10240
  forwad time (s): 3.30204
  throughput (qps): 3101.12
  ai utilize (%): 98.0883
  card power (W): 43.7734
  temperature (°C): 47.7225
  die memory used (MB): 1212.67
  e2e latency (us):
    avg latency: 128843
    min latency: 9512
    max latency: 201022
    p50 latency: 120000
    p99 latency: 200000
  model latency (us):
    avg latency: 315
    min latency: 315
"""


def test_a_report_of_2024() -> None:
    found = read_report(REPORT_2024)
    assert (found["samples"], found["elapsed_seconds"], found["throughput_qps"]) == (1024, 1.31991, 775.808)
    assert [found["latency_us"][name] for name in ("avg", "min", "max", "p50")] == [21697, 1883, 21965, None]
    assert found["service_us"]["avg"] == 1241
    assert (found["card"]["ai_utilize_percent"], found["card"]["card_power_w"]) == (96.4176, None)


def test_a_report_of_2026() -> None:
    found = read_report(REPORT_2026)
    assert (found["samples"], found["throughput_qps"]) == (10240, 3101.12)
    assert (found["latency_us"]["p50"], found["latency_us"]["p90"], found["latency_us"]["p99"]) == (
        120000,
        None,
        200000,
    )
    assert (found["service_us"]["avg"], found["service_us"]["max"]) == (315, None)
    assert (found["card"]["card_power_w"], found["card"]["temperature_c"]) == (43.7734, 47.7225)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("samples: 1024\n", "", "no 'samples'"),
        ("forwad time (s): 1.31991\n", "", r"no 'forwad time \(s\)'"),
        ("throughput (qps): 775.808", "throughput (qps): nan", "says 'throughput .qps.: nan', expected a positive"),
        ("throughput (qps): 775.808", "throughput (qps): -3", "says 'throughput .qps.: -3', expected a positive"),
        ("samples: 1024", "samples: 1e999", "says .samples: 1e999., expected a positive"),
        ("e2e latency (us):", "", "no 'e2e latency"),
        ("    avg latency: 21697\n", "", "no 'avg latency' of 'e2e latency"),
    ],
)
def test_a_line_that_is_missing_or_no_number_is_named(old: str, new: str, message: str) -> None:
    assert old in REPORT_2024
    with pytest.raises(ToolError, match=message):
        read_report(REPORT_2024.replace(old, new, 1))


@pytest.mark.parametrize(
    ("written", "order"),
    [
        (["b", "a", "c"], ["a", "b", "c"]),
        (["out_2", "out_0", "out_1"], ["out_0", "out_1", "out_2"]),
        (["3", "1", "2"], ["1", "2", "3"]),
    ],
)
def test_outputs_belong_to_their_inputs_by_name_or_by_number(tmp_path: Path, written: list, order: list) -> None:
    for name in written:
        (tmp_path / f"{name}.npz").touch()
    inputs = [Path(f"/npz/n01/{name}.npz") for name in "abc"]
    assert [path.stem for path in match_outputs(inputs, tmp_path)] == order


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (["a", "b"], "2 outputs for 3 inputs; c.npz has none"),
        (["out_0", "out_2"], "2 outputs for 3 inputs"),
        (["out_0", "out_1", "out_3"], "3 outputs for 3 inputs"),
        (["a", "b", "c", "d"], "4 outputs for 3 inputs"),
        ([], r"0 outputs .* \(it wrote none\)"),
    ],
)
def test_outputs_that_would_shift_the_answers_are_refused(tmp_path: Path, written: list, message: str) -> None:
    for name in written:
        (tmp_path / f"{name}.npz").touch()
    with pytest.raises(MeasurementError, match=message):
        match_outputs([Path(f"{name}.npz") for name in "abc"], tmp_path)
