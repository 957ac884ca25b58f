import json

import numpy as np
import pytest

from mnasbench.build.vdsp_params import vdsp_params
from mnasbench.commands import ort_vamp
from mnasbench.data.npz import read_output, write_npz
from mnasbench.files import write_json


@pytest.fixture
def command(compiled, params, tmp_path):
    """A runner of the command on the small model; gives the exit code."""
    write_json(tmp_path / "vdsp.json", vdsp_params(params))

    def run(*words):
        base = ["-m", str(compiled.prefix), "--vdsp_params", str(tmp_path / "vdsp.json")]
        return ort_vamp.main([*base, *map(str, words)])

    return run


@pytest.fixture
def datalist(images, tmp_path):
    paths = [tmp_path / "npz" / f"{i}.npz" for i in range(5)]
    for path, pixels in zip(paths, images, strict=False):
        write_npz(path, pixels)
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in paths))
    return tmp_path / "list.txt"


def test_a_performance_run_prints_the_report_and_writes_the_json(command, tmp_path, capsys):
    flags = ["-i", 2, "-p", 1, "-b", 2, "-s", "[3,32,32]", "-d", "[0]", "--iterations", 20, "--warmup", 0]
    assert command(*flags, "--json", tmp_path / "report.json") == 0
    printed = capsys.readouterr()
    assert "  devices: [0]\n  batch size: 2\n  samples: 40\n" in printed.out
    assert "UNSTABLE" in printed.err or "DISTURBED" in printed.err
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["inputs"] == {"distinct": 64, "shape": [3, 32, 32], "source": "noise"}
    assert report["settings"]["instances"] == 2 and report["requests"] == 20


def test_listed_inputs_are_the_ones_measured_with(command, datalist, tmp_path):
    assert command("--datalist", datalist, "--iterations", 3, "--warmup", 0, "--json", tmp_path / "r.json") == 0
    assert json.loads((tmp_path / "r.json").read_text())["inputs"]["source"] == "datalist"


def test_an_accuracy_run_writes_outputs_and_the_digests_of_the_same_files(command, compiled, datalist, tmp_path):
    assert command("--datalist", datalist, "--path_output", tmp_path / "out", "--json", tmp_path / "r.json") == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.npz")) == [f"{i}.npz" for i in range(5)]
    assert np.isfinite(read_output(tmp_path / "out" / "0.npz")).all()
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["images"] == 5 and report["digests"] == compiled.digests


def test_find_peak_prints_the_curve(command, tmp_path, capsys):
    flags = ["--find-peak", "--latency-bound", 1e6, "--seconds", 0.05, "--warmup", 0]
    assert command(*flags, "--json", tmp_path / "peak.json") == 0
    assert "peak rate with p99 within 1000000 us" in capsys.readouterr().out
    assert len({point["rate"] for point in json.loads((tmp_path / "peak.json").read_text())["curve"]}) == 8


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-i", "1", "p", "1"], "a dash was forgotten: -p"),
        (["--itterations", "3"], "did you mean '--iterations'"),
        (["-s", "[3,32]"], "is not a shape such as [3,224,224]"),
        (["-s", "[1,32,32]"], "expected three channels"),
        (["-i", "0"], "0 is not within 1 to 1024, and not 'auto'"),
        (["-i", "some"], "'some' is not a whole number, and not 'auto'"),
        (["--seconds", "nan"], "nan is not within 0 to 1e+09"),
        (["--seconds", "0"], "0 is not within"),
        (["--warmup", "inf"], "inf is not within 0 to 1e+09"),
        (["--latency-bound", "-1"], "-1 is not within"),
        (["--rate", "x\ny"], "is not a number"),
        (["-b", "9" * 30], "9 is not within 1 to 1024"),
    ],
)
def test_wrong_arguments_end_with_what_was_meant(flags, message, command, capsys):
    with pytest.raises(SystemExit) as ended:
        command(*flags)
    error = capsys.readouterr().err
    assert (ended.value.code, error.count("\n")) == (2, 1), error
    assert message in error


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--path_output", "out"], "--path_output needs --datalist"),
        (["--find-peak"], "--find-peak needs --latency-bound"),
        (["--datalist", "absent.txt"], "absent.txt: cannot be read"),
        (["--scenario", "open_loop"], "that scenario needs one"),
    ],
)
def test_impossible_requests_are_one_line_and_exit_2(flags, message, command, capsys):
    assert command(*flags) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_the_cards_own_flags_are_accepted(command, capsys):
    assert command("--dtype", "uint8", "-t", "1", "--iterations", 2, "--warmup", 0) == 0
    assert "no effect here" in capsys.readouterr().err
