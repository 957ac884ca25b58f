"""What a CPU without AVX512 and VNNI answers: an emulated one runs the same packages as this one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from mnasbench.build.compiler import Built, Recipe, compile_model
from mnasbench.build.cpu import sums_int8_exactly
from mnasbench.build.gate import sqnr_db
from mnasbench.build.package import read_package
from mnasbench.build.portable import emulate
from mnasbench.preprocessing import Preprocessing
from mnasbench.run.inputs import Preprocessor
from mnasbench.run.session import ModelSession, input_format
from small_classifier import package
from unit.build.nets import SIZE, random_images, small_mnasnet

# AVX2 and FMA, neither AVX512 nor VNNI.
EMULATED = ["qemu-x86_64", "-cpu", "Haswell"]
BATCH = 8


def scores(prefix: Path, pixels: np.ndarray) -> np.ndarray:
    """Logits of uint8 images (n, 3, SIZE, SIZE), as an accuracy run computes them."""
    params = Preprocessing(resize=SIZE, crop=SIZE)
    session = ModelSession.open(prefix, 1, BATCH, params)
    preprocess = Preprocessor(params, session.format)
    batches = [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]
    return np.concatenate([session.infer(preprocess(list(batch))) for batch in batches])


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By package: logits here and on the emulated CPU."""
    if shutil.which(EMULATED[0]) is None:
        pytest.skip(f"no {EMULATED[0]} here: Debian's package qemu-user has it")
    folder = tmp_path_factory.mktemp("other-cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 3, SIZE, SIZE), dtype=np.uint8)
    np.save(folder / "pixels.npy", pixels)

    def int8(reduced: bool) -> Built:
        return compile_model(
            small_mnasnet(), "int8-max", lambda: iter([random_images(24, 3)]), Recipe(reduce_range=reduced)
        )

    models = {"fp32": (small_mnasnet(), "onnxruntime")}
    for bits, reduced in ((7, True), (8, False)):
        for runtime in ("onnxruntime", "openvino"):
            models[f"{bits} bits {runtime}"] = (int8(reduced).model, runtime)
    prefixes = {}
    for name, (model, runtime) in models.items():
        (folder / name).mkdir()
        package(folder / name, model, runtime)
        prefixes[name] = folder / name / "small"
    command = [*EMULATED, sys.executable, __file__, str(folder), *models]
    subprocess.run(
        command, check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, stdout=subprocess.DEVNULL
    )
    return {name: (scores(prefix, pixels), np.load(folder / name / "scores.npy")) for name, prefix in prefixes.items()}


@pytest.fixture(scope="module")
def foretold(answers: object, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """By runtime: what this machine computes that the emulated CPU gives for the model of 8 bits."""
    folder = tmp_path_factory.getbasetemp() / "other-cpu0"
    params, pixels = Preprocessing(resize=SIZE, crop=SIZE), np.load(folder / "pixels.npy")
    scores_there = {}
    for runtime in ("onnxruntime", "openvino"):
        compiled = read_package(folder / f"8 bits {runtime}" / "small")
        taken = input_format(compiled.info)
        tensor = Preprocessor(params, taken)(list(pixels))
        scores_there[runtime], _ = emulate(onnx.load(compiled.graph_path), runtime, tensor)
    return scores_there


def test_floats_differ_by_rounding_at_most(answers: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    here, there = answers["fp32"]
    np.testing.assert_allclose(here, there, rtol=0, atol=1e-5 * np.abs(here).max())


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_seven_bits_give_the_same_answers_everywhere(
    answers: dict[str, tuple[np.ndarray, np.ndarray]], runtime: str
) -> None:
    here, there = answers[f"7 bits {runtime}"]
    assert np.array_equal(here, there)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_eight_bits_are_rightly_refused_there(answers: dict[str, tuple[np.ndarray, np.ndarray]], runtime: str) -> None:
    # The emulated CPU reads this machine's /proc/cpuinfo, so nothing stopped it from running them.
    here, there = answers[f"8 bits {runtime}"]
    if not sums_int8_exactly():
        pytest.skip("this CPU has no VNNI either, so both are wrong")
    assert np.abs(here - there).max() > 0.01 * np.abs(here).max()


@pytest.mark.parametrize(("runtime", "least_db"), [("onnxruntime", np.inf), ("openvino", 20)])
def test_what_eight_bits_give_there_is_foretold(
    answers: dict[str, tuple[np.ndarray, np.ndarray]], foretold: dict[str, np.ndarray], runtime: str, least_db: float
) -> None:
    """To the bit for ONNX Runtime; OpenVINO rounds between its layers in its own way."""
    _, there = answers[f"8 bits {runtime}"]
    assert sqnr_db(there, foretold[runtime]) >= least_db


if __name__ == "__main__":
    root = Path(sys.argv[1])
    for package_name in sys.argv[2:]:
        np.save(root / package_name / "scores.npy", scores(root / package_name / "small", np.load(root / "pixels.npy")))
