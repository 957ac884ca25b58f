"""What int8-auto chooses, against brute force and against what a net makes the only answer."""

import numpy as np
import pytest

from mnasbench.build.choice import Kept, Rule, _Judge, choose
from mnasbench.build.compiler import Recipe, compile_model
from mnasbench.build.gate import logits_of, sqnr_db
from mnasbench.build.graph import constants, layers, prepare, with_constants
from mnasbench.build.ranges import Range
from mnasbench.runtimes.onnxruntime import open_session
from unit.build.nets import random_images, small_mnasnet

IMAGES, UNSEEN = random_images(32, seed=1), random_images(100, seed=2)


def test_a_range_is_judged_by_what_its_reader_computes_of_it() -> None:
    model = prepare(small_mnasnet())
    node = next(node for node in layers(model) if node.op_type == "Conv")
    held, values = constants(model), UNSEEN[:4]
    ranges = [Range(-3.0, 3.0), Range(-1.0, 1.0), Range(-3.0, 3.0)]
    shares = _Judge([node], model, held).errors(values, ranges)
    alone = with_constants(model, {node.input[2]: np.zeros_like(held[node.input[2]])})
    del alone.graph.node[1:]
    alone.graph.output[0].name = node.output[0]
    session = open_session(alone)
    name = model.graph.input[0].name

    def computed(given: np.ndarray) -> np.ndarray:
        return np.asarray(session.run([node.output[0]], {name: given})[0], np.float64)

    right = computed(values)
    errors = [np.square(computed(one.in_steps(values)) - right).sum() / np.square(right).sum() for one in ranges]
    assert shares == pytest.approx(errors, rel=1e-2) and shares[1] > shares[0]


def test_a_step_that_spoils_the_answers_is_left_out() -> None:
    class Spoilt:
        """A trial in which the equalized graph loses what the other keeps."""

        def __init__(self, is_equalized: bool) -> None:
            self.float_model, self.loss = prepare(small_mnasnet()), 0.5 if is_equalized else 0.01

        def sources(self) -> list[str]:
            return [layers(self.float_model)[0].output[0]]

        def range_by(self, name: str, rule: Rule) -> Range:
            return Range(0.0, 1.0)

        def activations_in_steps(self, rules: object) -> object:
            return self.quantized(rules, {})

        def quantized(self, rules: object, steps: object) -> object:
            name = layers(self.float_model)[-1].input[1]
            return with_constants(self.float_model, {name: constants(self.float_model)[name] * (1 + self.loss)})

    made = choose(Spoilt, {"equalize": True, "gptq": True, "correct_bias": True}, 99.9999, 10.0, UNSEEN[:8])
    assert made.steps["equalize"] is False and made.account["held_out"] == 8
    assert made.account["chosen"] in made.note and not made.account["chosen"].startswith("equalized")


@pytest.mark.parametrize(
    ("other", "ahead"), ((Kept(20, 20), False), (Kept(30, 20), False), (Kept(20, 30), False), (Kept(30, 30), True))
)
def test_a_recipe_is_ahead_only_in_all_images_together_and_in_each(other: Kept, ahead: bool) -> None:
    assert other.is_ahead_of(Kept(20, 20)) is ahead


def test_the_build_says_what_it_chose_and_is_not_behind_the_plain_recipe() -> None:
    model = small_mnasnet()
    made = compile_model(model, "int8-auto", lambda: iter(np.split(IMAGES, 4)))
    account = made.quantization["choice"]
    assert account["held_out"] == 8 and {"plain MinMax", account["chosen"]} <= set(account["tried"])
    assert made.quantization["notes"][0].startswith("chosen on 8 held-out calibration images: " + account["chosen"])
    plain = Recipe(equalize=False, gptq=False, correct_bias=False, headroom=0)
    reference = logits_of(model, UNSEEN)
    kept, minmax = (
        sqnr_db(reference, logits_of(one.model, UNSEEN))
        for one in (made, compile_model(model, "int8-max", lambda: iter(np.split(IMAGES, 4)), plain))
    )
    assert kept > minmax


def test_too_few_images_choose_nothing() -> None:
    made = compile_model(small_mnasnet(), "int8-auto", lambda: iter([IMAGES[:6]]))
    assert "choice" not in made.quantization and "too few" in made.quantization["notes"][0]
