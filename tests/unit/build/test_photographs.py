"""What int8 keeps of a trained model on real photographs, where channels differ by a thousand, and with 7 bits."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mnasbench.build.cpu import sums_int8_exactly
from mnasbench.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def benchmark(repository: Path) -> ModuleType:
    """The benchmark whose figures these are, on fewer photographs."""
    spec = importlib.util.spec_from_file_location("quantization", repository / "benchmarks" / "quantization.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("method", "sqnr_db"), [("ours", 34 if sums_int8_exactly() else 32), ("ours_7_bits", 32)])
def test_int8_keeps_the_answers(benchmark: ModuleType, real: Path, tmp_path: Path, method: str, sqnr_db: float) -> None:
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    benchmark.export("mnasnet0_5", real / "mnasnet0_5_memorised.pth", 5, 0, source)
    lines = [line.rsplit(" ", 1) for line in (real / "val_label.txt").read_text().splitlines()]
    names, labels = [name for name, _ in lines], np.array([int(label) for _, label in lines])
    how = Preprocessing(resize=256, crop=224)
    calibration = benchmark.store_pixels(real, names[::3], how, tmp_path / "calibration.npy")
    judging = benchmark.store_pixels(real, names[1::2], replace(how, resize=384), tmp_path / "judging.npy")
    benchmark.QUANTIZERS[method](source, target, lambda: benchmark.batches(calibration, how))
    reference = benchmark.logits(source, judging, how)
    kept = benchmark.judged(reference, benchmark.logits(target, judging, how), labels[1::2])
    assert kept["sqnr_db"] > sqnr_db and kept["agreement"] > 95, kept
