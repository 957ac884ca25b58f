"""What reconstruction learns, what it may cost, and that it is left out where it does not help."""

from dataclasses import replace

import numpy as np
import pytest

from mnasbench.build.compiler import Built, Recipe, compile_model
from mnasbench.build.reconstruct import Reconstruction, _surely_nearer
from unit.build.nets import random_images, small_mnasnet

CRUDE = Recipe(per_channel=False, reduce_range=True, equalize=False)


def built(**changes: object) -> Built:
    recipe = replace(CRUDE, **changes)  # type: ignore[arg-type]
    return compile_model(small_mnasnet(), "int8-max", lambda: iter([random_images(40, 1)]), recipe)


@pytest.fixture(scope="module")
def plain() -> Built:
    return built()


def test_the_best_on_held_out_images_is_kept(plain: Built) -> None:
    made = built(reconstruct="full", reconstruct_seconds=600.0)
    report = (made.quantization or {})["reconstruction"]
    assert (report["learned"], report["judged"]) == (30, 10)
    assert set(report["tried"]) == {"one-shot", "descent", "refit, ridge 3", "refit, ridge 1"}
    kept = report["kept"] or "one-shot"
    assert report["tried"][kept] >= report["tried"]["one-shot"]
    assert (made.model == plain.model) is (kept == "one-shot")
    assert (plain.quantization or {})["reconstruction"] is None


def test_what_is_not_done_in_time_is_dropped(plain: Built) -> None:
    made = built(reconstruct="full", reconstruct_seconds=1e-3)
    report = (made.quantization or {})["reconstruction"]
    assert report["kept"] is None and report["tried"]["descent"] is None and len(report["tried"]) == 2
    assert made.model == plain.model


def test_the_seconds_are_those_of_the_whole_build() -> None:
    spent = Reconstruction("fast", 1e-9)
    net, images = small_mnasnet(), random_images(20, 1)
    made = compile_model(net, "int8-max", lambda: iter([images]), CRUDE)
    spent.improved(made, net, images, lambda *_: made)  # type: ignore[arg-type,return-value]
    assert spent.seconds == 0


def test_a_gain_by_chance_is_none() -> None:
    random = np.random.default_rng(0)
    reference = random.normal(size=(32, 10))
    noise = random.normal(size=(2, 32, 10)) * 0.001
    assert not _surely_nearer(reference, reference + noise[0], reference + noise[0])
    assert not _surely_nearer(reference, reference + noise[0], reference + noise[1])
    assert not _surely_nearer(reference, reference + noise[1], reference + noise[0])
    assert _surely_nearer(reference, reference + noise[0] / 2, reference + noise[1])
    # Nearer by far, and yet an answer is lost.
    reference[0] = np.arange(10) == 0
    near, far = reference + noise[0] / 2, reference + noise[1]
    near[0] = [0.9, 1.0, *[0] * 8]
    far[0] = [2.5, *[0] * 9]
    assert not _surely_nearer(reference, near, far)
    near[0] = [0.9, *[0] * 9]
    assert _surely_nearer(reference, near, far)


def test_too_few_images_learn_nothing() -> None:
    report = Reconstruction("full", 100.0)
    assert report.improved(None, small_mnasnet(), np.zeros((11, 3, 16, 16)), lambda *_: None) is None  # type: ignore[arg-type,return-value,func-returns-value]
    assert (report.described() or {})["tried"] == {}
