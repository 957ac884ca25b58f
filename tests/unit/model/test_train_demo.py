"""Training on the demo set: the real architecture, the same weights each time, nothing else disturbed.

How good the weights are after a whole training is measured by the workflow itself; here a few steps must do.
"""

from pathlib import Path

import pytest
import torch

from mnasbench.data.demo import make_demo
from mnasbench.errors import DatasetError
from mnasbench.model import train_demo as module
from mnasbench.model.architecture import create, load
from mnasbench.model.train_demo import load_training_set, save_weights, train_demo
from mnasbench.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo")
    make_demo(root, validation=24, training=24, workers=1)
    return root


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STEPS", 4)
    monkeypatch.setattr(module, "_BATCH", 8)


@pytest.mark.parametrize(("library", "name"), [("torchvision", "mnasnet0_5"), ("timm", "mnasnet_small")])
def test_weights_load_and_know_what_they_were_fitted_to(demo: Path, tmp_path: Path, library: str, name: str) -> None:
    save_weights(train_demo(library, name, demo), tmp_path / "weights.pth")
    model, classes = load(library, name, tmp_path / "weights.pth")
    assert classes == 24
    examples = load_training_set(library, name, demo)
    with torch.no_grad():
        answers = torch.cat([model(batch) for batch in examples.whole(24)]).argmax(1)
    assert (answers == examples.classes).float().mean() > 0.9


def test_the_seed_decides_everything_and_nothing_outside_is_touched(demo: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    threads = torch.get_num_threads()
    torch.manual_seed(5)
    first = train_demo("torchvision", "mnasnet0_5", demo, seed=3)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    again = train_demo("torchvision", "mnasnet0_5", demo, seed=3)
    other = train_demo("torchvision", "mnasnet0_5", demo, seed=4)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_torchvisions_version_is_kept(demo: Path, tmp_path: Path) -> None:
    save_weights(train_demo("torchvision", "mnasnet0_5", demo), tmp_path / "weights.pth")
    state = torch.load(tmp_path / "weights.pth", weights_only=True)
    assert state._metadata[""]["version"] == 2


def test_training_images_are_preprocessed_as_the_publisher_does(demo: Path) -> None:
    examples = load_training_set("torchvision", "mnasnet0_75", demo)
    assert examples.preprocessing == Preprocessing(resize=232, crop=224)
    assert examples.pixels.shape == (24, 3, 224, 224)


@pytest.mark.parametrize(("library", "name"), [("torchvision", "squeezenet1_1"), ("timm", "test_vit")])
def test_a_convolution_that_classifies_and_a_net_of_one_size_learn(demo: Path, library: str, name: str) -> None:
    """Where nothing is learned, weight decay alone takes less than 1e-4 of each weight."""
    torch.manual_seed(0)
    before = create(library, name, 24).state_dict()
    after = train_demo(library, name, demo)
    weights = [key for key in before if key.endswith("weight")]
    assert all(torch.dist(before[key], after[key]) > 2e-4 * before[key].norm() for key in weights)


def test_a_folder_that_is_no_demo_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="train: cannot be listed"):
        train_demo("torchvision", "mnasnet0_5", tmp_path)
