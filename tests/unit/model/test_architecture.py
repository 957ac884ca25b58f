"""Weights are loaded only into the architecture that they belong to, and no file runs code."""

import os
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mnasbench.errors import SettingsError, WeightsError
from mnasbench.files import sha256_of_bytes, sha256_of_file
from mnasbench.model import architecture
from mnasbench.model.check import check_models
from mnasbench.model.torchvision_import import torchvision
from mnasbench.settings import load_settings
from mnasbench.weight_shards import require_digest


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
    require_digest("w.pth", "ab" * 32, None)
    require_digest("w.pth", "ab" * 32, "AB" * 32)
    with pytest.raises(WeightsError, match=r"w\.pth: its SHA-256 is abab.*, but cdcd.* is wanted .*; these are other"):
        require_digest("w.pth", "ab" * 32, "cd" * 32)


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


# ------------------------------------------------------------------------------------- GoogLeNet's and Inception's input
def _make_sensitive(model: torch.nn.Module) -> None:
    """Untrained, deep nets give any image the same logits; this keeps a signal alive."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.fill_(1.5)


@pytest.mark.parametrize(("name", "size", "head"), [("googlenet", 64, "aux1."), ("inception_v3", 96, "AuxLogits.")])
def test_logits_are_those_of_torchvisions_model_with_published_weights(
    tmp_path: Path, name: str, size: int, head: str
) -> None:
    # torchvision changes the input where it makes these with published weights; their state dict does not say so.
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None, num_classes=7, transform_input=True, init_weights=False)
    _make_sensitive(theirs)
    images = torch.rand(1, 3, size, size) * 4 - 2
    with torch.no_grad():
        expected = theirs.eval()(images)
    state = theirs.state_dict()
    without = OrderedDict((key, value) for key, value in state.items() if not key.startswith(("aux", "AuxLogits")))
    assert any(key.startswith(head) for key in state) and len(without) < len(state)
    for content in (state, without) if name == "googlenet" else (state,):
        torch.save(content, tmp_path / "w.pth")
        loaded = architecture.load_file("torchvision", name, tmp_path / "w.pth", size)
        with torch.no_grad():
            assert torch.equal(loaded.model(images), expected) and loaded.classes == 7
        assert "the input is transformed inside the net" in loaded.notes[-1]
    plain = architecture.load_file("torchvision", name, tmp_path / "w.pth", size, transform_input=False)
    with torch.no_grad():
        assert not torch.allclose(plain.model(images), expected) and "not transformed" in plain.notes[-1]


def test_the_input_is_transformed_in_the_exported_graph_as_well(tmp_path: Path) -> None:
    import onnxruntime

    from mnasbench.model.export import export_onnx

    model = architecture.create("torchvision", "googlenet", 5)
    _make_sensitive(model)
    export_onnx(model, 64, tmp_path / "net.onnx")
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(images)
    logits = onnxruntime.InferenceSession(tmp_path / "net.onnx").run(None, {"input": images.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-5, rtol=1e-4)
    model.transform_input = False
    with torch.no_grad():
        assert not torch.allclose(model(images), expected, atol=1e-4)


# ------------------------------------------------------------------------------------------------- built for one size
def test_weights_for_another_image_size_are_told_with_the_size_to_set(tmp_path: Path) -> None:
    with torch.device("meta"):
        state = torchvision.models.vit_b_16(num_classes=3, image_size=64).state_dict()
    few = OrderedDict((key, torch.zeros(value.shape, dtype=torch.float16)) for key, value in state.items())
    torch.save(few, tmp_path / "w.pth")
    with pytest.raises(
        WeightsError, match=r"for images of 64 x 64 pixels, not 224 x 224; set .*size: 64 \(--size 64\)"
    ):
        architecture.check_file("torchvision", "vit_b_16", tmp_path / "w.pth", 224)
    classes, notes = architecture.check_file("torchvision", "vit_b_16", tmp_path / "w.pth", 64)
    assert classes == 3 and "float16" in " ".join(notes)
    # Without a size it is the file's.
    assert architecture.load("torchvision", "vit_b_16", tmp_path / "w.pth")[0].image_size == 64  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    ("library", "name", "size"),
    [("torchvision", "vit_b_16", 200), ("timm", "test_vit", 100), ("torchvision", "maxvit_t", 200)],
)
def test_a_size_that_an_architecture_cannot_have_is_one_line(library: str, name: str, size: int) -> None:
    message = f"takes no images of {size} x {size} pixels .*set models"
    with pytest.raises(SettingsError, match=message) as error, torch.device("meta"):
        made = architecture.create(library, name, size=size)
        architecture.require_size(library, name, made, size)
    assert "\n" not in str(error.value)


def test_a_size_is_given_to_architectures_that_are_built_for_one() -> None:
    for library, name, size in (
        ("torchvision", "vit_b_16", 64),
        ("timm", "test_vit", 96),
        ("torchvision", "swin_t", 96),
    ):
        with torch.device("meta"):
            made = architecture.create(library, name, 7, size)
            assert architecture.require_size(library, name, made, size) == 7


# ----------------------------------------------------------------------------------------------------- forms of files
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_values_of_another_precision_become_float32(
    tmp_path: Path, state: "OrderedDict[str, torch.Tensor]", kind: torch.dtype
) -> None:
    saved = {key: value.to(kind) if value.is_floating_point() else value for key, value in state.items()}
    torch.save(saved, tmp_path / "w.pth")
    model, _ = architecture.load("torchvision", "mnasnet0_5", tmp_path / "w.pth")
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert all(torch.equal(value, saved[key].to(value.dtype)) for key, value in model.state_dict().items())


def test_names_are_mapped_by_timms_own_filter(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = architecture.create("timm", "test_convnext", 9)
    original = {}
    for key, value in theirs.state_dict().items():
        old = re.sub(r"^stem\.", "downsample_layers.0.", key)
        old = re.sub(r"^stages\.(\d+)\.downsample\.", r"downsample_layers.\1.", old)
        old = re.sub(r"^stages\.(\d+)\.blocks\.", r"stages.\1.", old)
        old = old.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        original[old.replace("head.fc.", "head.").replace("head.norm.", "norm.")] = value
    assert len(set(original) & set(theirs.state_dict())) < len(original) / 2
    torch.save({"model": original, "epoch": 1}, tmp_path / "w.pth")
    loaded = architecture.load_file("timm", "test_convnext", tmp_path / "w.pth")
    assert _same(loaded.model, theirs.state_dict()) and loaded.classes == 9
    assert loaded.notes[-1] == "names of 'model' are mapped by timm's filter for original checkpoints"


def test_densenets_old_names(tmp_path: Path) -> None:
    theirs = architecture.create("torchvision", "densenet121", 4).state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): value for key, value in theirs.items()}
    assert old.keys() != theirs.keys()
    torch.save(old, tmp_path / "w.pth")
    assert _same(architecture.load("torchvision", "densenet121", tmp_path / "w.pth")[0], theirs)


# -------------------------------------------------------------------------------------------------------------- early
def test_the_head_of_a_file_tells_its_classes_and_another_architecture(
    tmp_path: Path, state: "OrderedDict[str, torch.Tensor]"
) -> None:
    torch.save({"state_dict": state, "state_dict_ema": state}, tmp_path / "w.pth")
    classes, notes = architecture.check_file("torchvision", "mnasnet0_5", tmp_path / "w.pth", 64)
    assert classes == 7 and "it also holds 'state_dict_ema'" in notes[0]
    with pytest.raises(WeightsError, match=r"not weights of torchvision resnet18: .* is missing"):
        architecture.check_file("torchvision", "resnet18", tmp_path / "w.pth", 64)
    with pytest.raises(WeightsError, match="these are weights of mnasnet0_5"):
        architecture.check_file("torchvision", "mnasnet1_0", tmp_path / "w.pth", 64)


def test_a_configurations_models_are_checked_from_their_files(
    tmp_path: Path, state: "OrderedDict[str, torch.Tensor]"
) -> None:
    torch.save(state, tmp_path / "w.pth")

    def checked(classes: int, **entry: object) -> list[str]:
        models = {"m": {"name": "mnasnet0_5", "weights": str(tmp_path / "w.pth"), **entry}}
        return check_models(load_settings({"dataset": {"name": "x", "root": "/x"}, "models": models}), classes)

    (line,) = checked(7, size=64)
    assert line.startswith("models.m: 7 classes; preprocessing of IMAGENET1K_V1 (the first published, as neither")
    with pytest.raises(SettingsError, match=r"models.m: its weights are for 7 classes, but the dataset's .* of 24"):
        checked(24, size=64)
    with pytest.raises(WeightsError, match=r"^models.m: .*not weights of torchvision vgg11"):
        checked(7, name="vgg11", size=64)
    with pytest.raises(SettingsError, match=r"^models.m: torchvision vit_b_16 takes no images of 200"):
        checked(7, name="vit_b_16", size=200, weights="IMAGENET1K_V1")
