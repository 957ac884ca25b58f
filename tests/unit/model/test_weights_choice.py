"""Which tensors of a file are taken, and what is said of the others."""

from pathlib import Path

import pytest
import torch

from mnasbench.errors import WeightsError
from mnasbench.model.weights_choice import bare, choose
from mnasbench.model.weights_file import WeightsFile

NAMES = ["layers.0.weight", "layers.1.running_mean", "layers.1.num_batches_tracked", "classifier.1.weight"]


def _file(*places: str, **others: float) -> WeightsFile:
    """A file with all weights below each place (their values say which), and other tensors."""
    tensors = {
        (f"{place}.{name}" if place else name): torch.full((1,), float(number))
        for number, place in enumerate(places)
        for name in NAMES
    }
    return WeightsFile(Path("w.pth"), tensors | {name: torch.tensor([value]) for name, value in others.items()})


def _taken(file: WeightsFile, key: str | None = None) -> int:
    choice = choose(file, NAMES, key)
    assert choice.complete and list(choice.state) == NAMES
    return int(choice.state[NAMES[0]])


@pytest.mark.parametrize(
    "place",
    [
        *("", "state_dict", "model", "model_state_dict", "net", "params", "ema", "module", "model.state_dict"),
        *("_orig_mod", "module._orig_mod", "_orig_mod.module", "state_dict.model._orig_mod", "state_dict.net.module"),
        *("module.module", "ema.module", "state_dict.module.model._orig_mod.net", "backbone"),
    ],
)
def test_any_wrapper_and_prefix_in_any_order(place: str) -> None:
    assert _taken(_file(place)) == 0


def test_words_in_the_middle_of_names() -> None:
    # torch.compile of a part, and PyTorch's own ImageNet example, which wraps VGG's features only.
    names = ["layers._orig_mod.0.weight", "layers.module.1.running_mean", "classifier.1.weight"]
    choice = choose(WeightsFile(Path("w.pth"), {name: torch.zeros(1) for name in names}), NAMES)
    assert choice.complete and set(choice.state) == set(NAMES) - {"layers.1.num_batches_tracked"}


@pytest.mark.parametrize(
    ("places", "plain", "averaged"),
    [
        (("state_dict", "state_dict_ema"), "state_dict", "state_dict_ema"),
        (("model_ema", "model"), "model", "model_ema"),
        (("ema.module", "model.module"), "model.module", "ema.module"),
        (("state_dict.ema_model", "state_dict.model"), "state_dict.model", "state_dict.ema_model"),
        (("teacher", "student"), "student", "teacher"),
    ],
)
def test_the_plain_weights_are_taken_and_the_others_are_said(
    places: tuple[str, str], plain: str, averaged: str
) -> None:
    file = _file(*places)
    assert _taken(file) == places.index(plain)
    (note,) = choose(file, NAMES).notes
    assert note == f"the weights under '{plain}' are used; it also holds '{averaged}' (weights_key chooses)"
    assert _taken(file, averaged) == places.index(averaged)
    assert _taken(file, averaged.partition(".")[0]) in (0, 1)
    with pytest.raises(WeightsError, match=f"nothing|holds no weights under weights_key 'emma'.*{averaged}"):
        choose(file, NAMES, "emma")


def test_an_average_beside_plain_weights_at_the_top_is_said() -> None:
    file = _file("", "ema")
    assert _taken(file) == 0 and "it also holds 'ema'" in choose(file, NAMES).notes[0]


def test_an_average_without_names_is_said() -> None:
    file = _file("model", **{"ema.shadow_params.0": 1.0})
    assert "it also holds 'ema' (weights_key chooses)" in choose(file, NAMES).notes[0]


def test_counters_are_ignored_and_said() -> None:
    file = _file("", total_ops=1.0, n_averaged=2.0, **{"layers.0.total_params": 1.0})
    choice = choose(file, NAMES)
    assert choice.complete and choice.notes == ("3 counters are ignored (n_averaged, total_ops, total_params)",)


def test_missing_counters_of_batch_norm_do_not_matter() -> None:
    tensors = {name: torch.zeros(1) for name in NAMES if "num_batches" not in name}
    assert choose(WeightsFile(Path("w.pth"), tensors), NAMES).complete


def test_heads_for_training_and_losses_are_left_out() -> None:
    choice = choose(_file("", **{"aux1.conv.weight": 1.0, "criterion.weight": 1.0}), NAMES)
    assert choice.complete and choice.notes == ("heads for training are left out (aux1)",)


def test_a_layer_more_makes_it_another_architecture() -> None:
    for extra in ("layers.9.weight", "head_dist.weight"):
        choice = choose(_file("", **{extra: 1.0}), NAMES)
        assert not choice.complete and extra in choice.state


def test_half_precision_and_unused_tensors_are_said() -> None:
    tensors = {f"model.{name}": torch.zeros(1, dtype=torch.bfloat16) for name in NAMES} | {"queue": torch.zeros(1)}
    notes = choose(WeightsFile(Path("w.pth"), tensors, {}, ("argparse.Namespace",)), NAMES).notes
    assert notes == (
        "the weights under 'model' are used",
        "what is not a tensor is not read (argparse.Namespace)",
        "its values are bfloat16 and are computed with as float32",
        "1 other tensors are not used (queue, ...)",
    )


def test_names_of_long_ago() -> None:
    names = ["features.denseblock1.denselayer2.norm1.weight", "encoder.layers.x.mlp.0.weight", "a.mlp.3.bias"]
    old = [
        "features.denseblock1.denselayer2.norm.1.weight",
        "encoder.layers.x.mlp.linear_1.weight",
        "a.mlp.linear_2.bias",
    ]
    choice = choose(WeightsFile(Path("w.pth"), {f"module.{name}": torch.zeros(1) for name in old}), names)
    assert choice.complete and set(choice.state) == set(names)


def test_versions_follow_their_modules() -> None:
    file = _file("state_dict.module")
    versions = {
        "state_dict": {"version": 9},
        "state_dict.module": {"version": 1},
        "state_dict.module.layers.1": {"version": 2},
    }
    state = choose(WeightsFile(file.path, file.tensors, versions), NAMES).state
    assert state._metadata == {"": {"version": 1}, "layers.1": {"version": 2}}


def test_what_another_librarys_filter_reads() -> None:
    places = [place for place, _ in bare(_file("state_dict.module", "state_dict_ema"))]
    assert {"", "state_dict", "state_dict.module", "state_dict_ema"} <= set(places)
    assert places.index("state_dict.module") < places.index("state_dict_ema")
