"""Every tensor of a file is found, whatever stands around it, and no code of the file is run."""

import argparse
import builtins
import json
import pickle
import subprocess
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnasbench.errors import WeightsError
from mnasbench.model.weights_file import read_weights
from mnasbench.weight_shards import digest_of_weights, files_of_weights

STATE = {"conv.weight": torch.arange(6.0).reshape(2, 3), "conv.bias": torch.ones(2)}


class Config(dict):  # type: ignore[type-arg]
    """A training script's own class that is a dict, as EasyDict."""


class Trainer:
    """A training script's own class."""

    def __init__(self) -> None:
        self.rate = 0.1


@pytest.mark.parametrize(
    ("beside", "name"),
    [
        (argparse.Namespace(lr=0.1, out=Path("runs")), "argparse.Namespace"),
        (Path("runs/best"), "pathlib"),
        (np.float64(76.2), "numpy"),
        (np.arange(3), "numpy"),
        (Trainer(), "test_weights_file.Trainer"),
        (Config(a=1), "test_weights_file.Config"),
        (defaultdict(list, {"loss": [1.0]}), "collections.defaultdict"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_training_arguments_beside_the_tensors_are_named_and_not_read(
    tmp_path: Path, beside: Any, name: str, zipped: bool
) -> None:
    content = {"model": STATE, "args": beside, "epoch": 3}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    file = read_weights(tmp_path / "w.pth")
    assert {key: value.tolist() for key, value in file.tensors.items()} == {
        f"model.{key}": value.tolist() for key, value in STATE.items()
    }
    assert any(name in stand_in for stand_in in file.stand_ins)


def test_a_module_that_was_saved_whole_gives_its_state_dict(tmp_path: Path) -> None:
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4), torch.nn.Sequential(torch.nn.Linear(4, 2))
    )
    net.register_buffer("passing", torch.ones(1), persistent=False)
    torch.save({"net": net}, tmp_path / "w.pth")
    tensors = read_weights(tmp_path / "w.pth").tensors
    assert {f"net.{key}" for key in net.state_dict()} == set(tensors)
    assert torch.equal(tensors["net.2.0.weight"], net[2][0].weight)


class _Calls:
    def __init__(self, what: Callable[..., Any], *arguments: Any) -> None:
        self.what, self.arguments = what, arguments

    def __reduce__(self) -> Any:
        return self.what, self.arguments


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("what", "name"),
    [
        (builtins.eval, "builtins.eval"),
        (builtins.exec, "builtins.exec"),
        # Pickles of protocol 2 call the module as Python 2 did.
        (subprocess.Popen, "commands.Popen"),
    ],
)
def test_what_would_run_code_is_named_and_refused(
    tmp_path: Path, what: Callable[..., Any], name: str, zipped: bool
) -> None:
    ran = tmp_path / "ran"
    evil = _Calls(what, f"open({str(ran)!r}, 'w')")
    torch.save({"model": STATE, "x": evil}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=f"{name} in it would run code") as error:
        read_weights(tmp_path / "w.pth")
    assert not ran.exists() and "\n" not in str(error.value)


def test_a_stand_in_does_nothing(tmp_path: Path) -> None:
    # A function of a harmless module is not called either.
    ran = tmp_path / "ran"
    torch.save({"model": STATE, "x": _Calls(Path.touch, ran)}, tmp_path / "w.pth")
    try:
        read_weights(tmp_path / "w.pth")
    except WeightsError as error:
        assert "\n" not in str(error)
    assert not ran.exists()


def test_a_torchscript_module_is_named(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="is a TorchScript module, not weights"):
        read_weights(tmp_path / "w.pt")


def test_a_file_without_tensors_says_what_it_holds(tmp_path: Path) -> None:
    torch.save({"model": Trainer()}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"holds no tensors \(but .*test_weights_file.Trainer\)"):
        read_weights(tmp_path / "w.pth")


def test_a_plain_pickle_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(WeightsError) as error:
        read_weights(tmp_path / "w.pkl")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_shapes_alone_are_read_from_the_head(tmp_path: Path, suffix: str) -> None:
    from safetensors.torch import save_file

    (torch.save if suffix == ".pth" else save_file)(STATE, tmp_path / f"w{suffix}")
    tensors = read_weights(tmp_path / f"w{suffix}", shapes_only=True).tensors
    assert {key: value.shape for key, value in tensors.items()} == {key: value.shape for key, value in STATE.items()}
    assert all(value.is_meta for value in tensors.values())


def _sharded(folder: Path) -> Path:
    from safetensors.torch import save_file

    names = {"conv.weight": "model-00001-of-00002.safetensors", "conv.bias": "model-00002-of-00002.safetensors"}
    for key, name in names.items():
        save_file({key: STATE[key]}, folder / name)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return index


def test_shards_are_read_by_their_index(tmp_path: Path) -> None:
    index = _sharded(tmp_path)
    tensors = read_weights(index).tensors
    assert all(torch.equal(tensors[key], value) for key, value in STATE.items()) and len(tensors) == 2
    assert [file.name[:11] for file in files_of_weights(index)] == ["model.safet", "model-00001", "model-00002"]
    before = digest_of_weights(index)
    from safetensors.torch import save_file

    save_file({"conv.bias": STATE["conv.bias"] + 1}, tmp_path / "model-00002-of-00002.safetensors")
    assert digest_of_weights(index) != before, "the digest is over the shards as well"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"weight_map": {"a": "../secret.safetensors"}}', "names the shard '../secret.safetensors'"),
        ('{"weight_map": {"a": "b.safetensors"}}', "its shard b.safetensors is missing"),
        ('{"weights": {}}', "is no index of shards"),
        ("[1]", "is no index of shards"),
        ("{", "is no index of shards"),
    ],
)
def test_a_bad_index_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "x.index.json").write_text(content)
    with pytest.raises(WeightsError, match=message):
        read_weights(tmp_path / "x.index.json")


def test_versions_are_kept_with_their_places(tmp_path: Path) -> None:
    state = torch.nn.Sequential(OrderedDict(norm=torch.nn.BatchNorm2d(2))).state_dict()
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    assert read_weights(tmp_path / "w.pth").versions["state_dict.norm"]["version"] == 2
