"""Weights are loaded only into the architecture that they belong to, and no file runs code."""

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mnasbench.errors import SettingsError, WeightsError
from mnasbench.model import architecture


@pytest.fixture(scope="module")
def state() -> "OrderedDict[str, torch.Tensor]":
    torch.manual_seed(0)
    return architecture.create("torchvision", "mnasnet0_5", 7).state_dict()


def _same(model: torch.nn.Module, state: "OrderedDict[str, torch.Tensor]") -> bool:
    return all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    "saved",
    [
        pytest.param(lambda state: state, id="with metadata"),
        pytest.param(lambda state: dict(state), id="plain dict, torchvision's version lost"),
        pytest.param(lambda state: {"state_dict": state, "epoch": 3}, id="wrapped"),
        pytest.param(lambda state: {f"module.{key}": value for key, value in state.items()}, id="DataParallel"),
    ],
)
def test_forms_of_a_state_dict(tmp_path: Path, state: "OrderedDict[str, torch.Tensor]", saved: Callable) -> None:
    torch.save(saved(state), tmp_path / "w.pth")
    model, classes = architecture.load("torchvision", "mnasnet0_5", tmp_path / "w.pth")
    assert classes == 7 and not model.training and _same(model, state)


def test_safetensors(tmp_path: Path, state: "OrderedDict[str, torch.Tensor]") -> None:
    from safetensors.torch import save_file

    save_file(dict(state), tmp_path / "w.safetensors")
    model, classes = architecture.load("torchvision", "mnasnet0_5", tmp_path / "w.safetensors")
    assert classes == 7 and _same(model, state)


class _Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return os.system, (f"touch '{self.target}'",)


@pytest.mark.parametrize("save", [torch.save, lambda what, path: path.write_bytes(pickle.dumps(what))])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, save: Callable) -> None:
    save(_Evil(tmp_path / "ran"), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="not a plain state dict"):
        architecture.load("torchvision", "mnasnet0_5", tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def _bytes_cut(path: Path, state: "OrderedDict[str, torch.Tensor]") -> None:
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def _with_nan(path: Path, state: "OrderedDict[str, torch.Tensor]") -> None:
    torch.save({**state, "classifier.1.bias": torch.full((7,), float("nan"))}, path)


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda path, state: None, "no such weights file"),
        (lambda path, state: path.write_bytes(b""), "damaged"),
        (lambda path, state: path.write_text("hello"), "damaged|not a plain state dict"),
        (_bytes_cut, "damaged"),
        (_with_nan, "classifier.1.bias holds values that are not finite"),
        (lambda path, state: torch.save([1, 2], path), "does not hold a state dict"),
        (lambda path, state: torch.save({}, path), "holds no tensors"),
        (lambda path, state: torch.save({"a": torch.zeros(3)}, path), "layers.0.weight is missing"),
    ],
)
def test_bad_weights_get_one_line(
    tmp_path: Path, state: "OrderedDict[str, torch.Tensor]", write: Callable, told: str
) -> None:
    write(tmp_path / "w.pth", state)
    with pytest.raises(WeightsError, match=told) as error:
        architecture.load("torchvision", "mnasnet0_5", tmp_path / "w.pth")
    assert "\n" not in str(error.value)


def test_weights_of_a_sibling_are_named(tmp_path: Path, state: "OrderedDict[str, torch.Tensor]") -> None:
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="these are weights of mnasnet0_5"):
        architecture.load("torchvision", "mnasnet1_0", tmp_path / "w.pth")


def test_a_published_download_is_checked_by_digest_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The real code path of torch.hub with the network replaced: a file whose name holds the wrong digest is
    # refused, one with the right digest is loaded.
    import hashlib
    import shutil

    import torchvision

    source = tmp_path / "source.pth"
    torch.save(architecture.create("torchvision", "mnasnet0_5").state_dict(), source)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr("torch.hub.urlopen", lambda request: _Answer(source))
    entry = torchvision.models.MNASNet0_5_Weights.IMAGENET1K_V1
    for name, right in ((f"mnasnet-{'0' * 8}.pth", False), (f"mnasnet-{digest[:8]}.pth", True)):
        weights = type("Weights", (), {"url": f"https://example.org/{name}", "get_state_dict": entry.get_state_dict})()
        weights.get_state_dict = lambda url=weights.url, **options: torch.hub.load_state_dict_from_url(url, **options)
        monkeypatch.setattr(
            "torchvision.models.get_model_weights", lambda _, weights=weights: {"IMAGENET1K_V1": weights}
        )
        if right:
            assert architecture.download("torchvision", "mnasnet0_5", "IMAGENET1K_V1").training is False
        else:
            with pytest.raises(WeightsError, match="invalid hash value"):
                architecture.download("torchvision", "mnasnet0_5", "IMAGENET1K_V1")
    shutil.rmtree(tmp_path / "hub")


class _Answer:
    """What urlopen gives, from a file."""

    def __init__(self, path: Path) -> None:
        self.stream = path.open("rb")
        self.headers = {"Content-Length": str(path.stat().st_size)}

    def info(self) -> "_Answer":
        return self

    def __enter__(self) -> "_Answer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def get_all(self, name: str) -> list[str]:
        return [self.headers[name]]

    def getheaders(self, name: str) -> list[str]:
        return [self.headers[name]]

    def read(self, size: int = -1) -> bytes:
        return self.stream.read(size)


def test_unknown_weights_are_named() -> None:
    with pytest.raises(SettingsError, match="did you mean 'IMAGENET1K_V1'"):
        architecture.download("torchvision", "mnasnet0_5", "IMAGENET1K_V2")
