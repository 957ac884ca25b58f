"""Weights are loaded only into the architecture that they belong to, and no file runs code."""

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mnasbench.errors import SettingsError, WeightsError
from mnasbench.files import sha256_of_bytes, sha256_of_file
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
    ("write", "message"),
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
    tmp_path: Path, state: "OrderedDict[str, torch.Tensor]", write: Callable, message: str
) -> None:
    write(tmp_path / "w.pth", state)
    with pytest.raises(WeightsError, match=message) as error:
        architecture.load("torchvision", "mnasnet0_5", tmp_path / "w.pth")
    assert "\n" not in str(error.value)


def test_weights_of_a_sibling_are_named(tmp_path: Path, state: "OrderedDict[str, torch.Tensor]") -> None:
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="these are weights of mnasnet0_5"):
        architecture.load("torchvision", "mnasnet1_0", tmp_path / "w.pth")


def _published(monkeypatch: pytest.MonkeyPatch, folder: Path, source: Path, name: str) -> None:
    """Have torchvision publish ``source`` under ``name``; the rest is the real code path, with the network replaced."""
    monkeypatch.setenv("TORCH_HOME", str(folder))
    monkeypatch.setattr("torch.hub.urlopen", lambda request: _Answer(source))
    weights = SimpleNamespace(url=f"https://example.org/{name}")
    monkeypatch.setattr("torchvision.models.get_model_weights", lambda _: {"IMAGENET1K_V1": weights})


def test_a_published_download_is_checked_by_digest_and_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: "OrderedDict[str, torch.Tensor]"
) -> None:
    source = tmp_path / "source.pth"
    torch.save(state, source)
    digest = sha256_of_file(source)
    _published(monkeypatch, tmp_path / "hub", source, f"mnasnet-{'0' * 8}.pth")
    with pytest.raises(WeightsError, match="invalid hash value"):
        architecture.download("torchvision", "mnasnet0_5", "IMAGENET1K_V1")
    name = f"mnasnet-{digest[:8]}.pth"
    _published(monkeypatch, tmp_path / "hub", source, name)
    model, found = architecture.download("torchvision", "mnasnet0_5", "IMAGENET1K_V1")
    assert _same(model, state) and not model.training and found == digest
    # What torch.hub finds in its cache it would take as it is.
    (tmp_path / "hub/hub/checkpoints" / name).write_bytes(source.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="not that of the digest in its name; delete it"):
        architecture.download("torchvision", "mnasnet0_5", "IMAGENET1K_V1")


def test_a_download_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # torch.hub itself would unpickle it: only the right digest stands between a publisher and this machine.
    source = tmp_path / "source.pth"
    torch.save(_Evil(tmp_path / "ran"), source)
    _published(monkeypatch, tmp_path / "hub", source, f"mnasnet-{sha256_of_file(source)[:8]}.pth")
    with pytest.raises(WeightsError, match="not a plain state dict"):
        architecture.download("torchvision", "mnasnet0_5", "IMAGENET1K_V1")
    assert not (tmp_path / "ran").exists()


def test_what_timm_fetches_is_compared_with_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # huggingface_hub compares sizes only; its cache is a folder of links to files named by their digests.
    from safetensors.torch import save

    torch.manual_seed(0)
    wanted = architecture.create("timm", "mnasnet_small").state_dict()
    content = save({key: value.contiguous() for key, value in wanted.items()})
    digest = sha256_of_bytes(content)
    blob, link = tmp_path / "blobs" / digest, tmp_path / "snapshots" / "main" / "model.safetensors"
    for path in (blob, link):
        path.parent.mkdir(parents=True)
    blob.write_bytes(content)
    link.symlink_to(blob)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repository, file, revision: str(link))
    model, found = architecture.download("timm", "mnasnet_small", "pretrained")
    assert found == digest and _same(model, wanted)
    blob.write_bytes(content[:-1] + b"?")
    with pytest.raises(WeightsError, match=f"{digest}: its content is not that of the digest"):
        architecture.download("timm", "mnasnet_small", "pretrained")


def test_weights_of_another_digest_than_was_asked_for_are_refused() -> None:
    architecture.require_digest("w.pth", "ab" * 32, None)
    architecture.require_digest("w.pth", "ab" * 32, "AB" * 32)
    with pytest.raises(WeightsError, match=r"w\.pth: its SHA-256 is abab.*, but cdcd.* is wanted .*; these are other"):
        architecture.require_digest("w.pth", "ab" * 32, "cd" * 32)


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
