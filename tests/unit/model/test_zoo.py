"""Five nets of config/zoo.yaml that are most unlike each other: exported, built in fp32, run, and compared with torch.

Untrained, with statistics of the images that they see. The others are in benchmarks/zoo.py.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

import export_timm_torchvision_model as export_script
from mnasbench.build.config import BuildConfig
from mnasbench.build.vamc import build
from mnasbench.data.npz import write_npz
from mnasbench.data.preprocess import normalise
from mnasbench.data.shard import read_scores
from mnasbench.files import read_json
from mnasbench.model.architecture import create
from mnasbench.preprocessing import Preprocessing
from mnasbench.run.accuracy import run_accuracy

HOW = Preprocessing(resize=64, crop=64)


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("torchvision", "shufflenet_v2_x0_5"),  # channels cut in halves and shuffled
        ("timm", "mobileone_s0"),  # branches that are fused
        ("timm", "mobilevit_xxs"),  # convolutions and attention over unfolded patches
        ("timm", "vit_tiny_patch16_224"),  # tokens, at another size than it is built for
        ("timm", "dla46_c"),  # a tree of concatenations
    ],
)
def test_a_net_of_the_zoo_answers_as_torch_does(library: str, name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    blocks = generator.integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
    pixels = blocks.repeat(8, axis=2).repeat(8, axis=3)
    images = torch.from_numpy(normalise(pixels, HOW))
    net = create(library, name, classes=7, size=64)
    for module in net.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    with torch.no_grad():
        net.train()(images)
        expected = net.eval()(images).numpy()
    torch.save(net.state_dict(), tmp_path / "net.pth")
    flags = ["--model_library", library, "--model_name", name, "--size", "64", "--save_dir", str(tmp_path)]
    assert export_script.main([*flags, "--pretrained_weights", str(tmp_path / "net.pth")]) == 0
    exported = read_json(tmp_path / f"{name}_64.json")
    assert exported["classes"] == 7 and exported["macs"] > 0
    config = BuildConfig(
        generation=1,
        name="net",
        checkpoint=tmp_path / exported["file"],
        input_name="input",
        shape=(1, 3, 64, 64),
        precision="fp32",
        preprocessing=HOW,
        dataset=None,
        suffix="JPEG",
        images=None,
        work_dir=tmp_path / "build",
    )
    compiled, _ = build(config)
    inputs = [tmp_path / f"{number}.npz" for number in range(len(pixels))]
    for path, image in zip(inputs, pixels, strict=True):
        write_npz(path, image)
    run_accuracy(compiled, HOW.without_resize(), inputs, tmp_path / "scores.npz", batch=4)
    _, scores = read_scores(tmp_path / "scores.npz")
    assert expected.std(0).mean() > 1e-3 * np.abs(expected).max()
    # Untrained nets make more of float32's rounding than trained ones.
    np.testing.assert_allclose(scores, expected, atol=1e-3 * np.abs(expected).max())
