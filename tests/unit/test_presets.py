"""The presets against the libraries that they were read from."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import check_parity
from mnasbench import presets
from mnasbench.data.preprocess import normalise, resize_and_crop
from mnasbench.errors import SettingsError
from mnasbench.files import sha256_of_file
from mnasbench.model.torchvision_import import import_timm, torchvision
from mnasbench.plan.steps import STEPS
from mnasbench.preprocessing import Preprocessing
from mnasbench.presets import PRESETS_FILE, preset, preset_of_file, published_weights
from mnasbench.settings import load_settings
from write_presets import presets_text


def test_the_presets_are_those_of_the_installed_libraries() -> None:
    assert presets_text() == PRESETS_FILE.read_text(), "run workflow/scripts/write_presets.py"


def test_the_published_accuracies_of_the_mnasnets() -> None:
    # As the model card and torchvision's documentation print them.
    published = {"0_5": (67.734, 87.49), "0_75": (71.18, 90.496), "1_0": (73.456, 91.51), "1_3": (76.506, 93.522)}
    for width, expected in published.items():
        found = preset("torchvision", f"mnasnet{width}", "IMAGENET1K_V1")
        assert (found.top1, found.top5) == expected
        assert found.preprocessing.short_side == (232 if width in ("0_75", "1_3") else 256)


def test_an_unknown_library_is_named() -> None:
    with pytest.raises(SettingsError, match="did you mean 'torchvision'"):
        preset("torchvison", "mnasnet0_5")


@pytest.mark.parametrize("name", ["vit_b_16", "vit_l_16", "regnet_y_16gf", "regnet_y_32gf", "vgg16"])
def test_a_file_of_unknown_weights_counts_as_those_that_were_published_first(name: str) -> None:
    # By the alphabet, SWAG's entry stands before V1: other images (384 pixels, bicubic) and another accuracy.
    assumed = preset_of_file("torchvision", name, Path("runs/best.pth"))
    assert assumed.entry == "IMAGENET1K_V1" and assumed.size == 224
    assert "the first published" in assumed.reason


@pytest.mark.parametrize(
    ("library", "name", "file", "entry", "reason"),
    [
        ("torchvision", "resnet50", "x/resnet50-11ad3fa6.pth", "IMAGENET1K_V2", "by the file's name, resnet50-11ad"),
        ("torchvision", "vit_b_16", "vit_b_16_swag-9ac1b537.pth", "IMAGENET1K_SWAG_E2E_V1", "by the file's name"),
        ("timm", "tf_efficientnet_b0", "tf_efficientnet_b0_ap-f262efe1.pth", "ap_in1k", "by the file's name"),
        (
            "timm",
            "mobilenetv3_large_100",
            "hub/models--timm--mobilenetv3_large_100.miil_in21k_ft_in1k/snapshots/0/model.safetensors",
            "miil_in21k_ft_in1k",
            "by the tag in the file's path",
        ),
        ("timm", "mobilenetv3_large_100.miil_in21k", "w.pth", "miil_in21k", "as named"),
        ("timm", "mobilenetv3_large_100", "w.pth", "ra_in1k", "timm's default, as neither"),
        # The name of one tag is the beginning of another's.
        ("timm", "mobilenetv3_large_100", "mobilenetv3_large_100.miil_in21k.pth", "miil_in21k", "by the tag"),
    ],
)
def test_which_published_weights_a_file_holds(library: str, name: str, file: str, entry: str, reason: str) -> None:
    chosen = preset_of_file(library, name, Path(file))
    assert chosen.entry == entry and chosen.reason.startswith(reason)


def test_a_renamed_published_file_is_told_by_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.pth"
    file.write_bytes(b"w" * 3000)
    entries = presets._table()["torchvision"]["models"]["resnet50"]
    published = {**entries["IMAGENET1K_V2"], "file": f"resnet50-{sha256_of_file(file)[:8]}.pth", "mebibytes": 0.003}
    monkeypatch.setitem(entries, "IMAGENET1K_V2", published)
    chosen = preset_of_file("torchvision", "resnet50", file)
    assert (chosen.entry, chosen.reason) == ("IMAGENET1K_V2", "by the file's digest")
    pinned = preset_of_file("torchvision", "resnet50", Path("nowhere.pth"), sha256_of_file(file).upper())
    assert (pinned.entry, pinned.reason) == ("IMAGENET1K_V2", "by the digest in sha256")
    # What no published file's size has is not read at all.
    file.write_bytes(b"w" * 9000)
    assert preset_of_file("torchvision", "resnet50", file).entry == "IMAGENET1K_V1"


def test_a_timm_tag_is_a_name_with_its_own_preprocessing() -> None:
    tagged = preset("timm", "mobilenetv3_large_100.miil_in21k_ft_in1k")
    assert (tagged.preprocessing.mean, tagged.preprocessing.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert tagged.preprocessing.interpolation == "bilinear"
    base = preset("timm", "mobilenetv3_large_100")
    assert (base.entry, base.reason) == ("ra_in1k", "timm's default")
    assert preset("timm", "mobilenetv3_large_100", "miil_in21k_ft_in1k").entry == tagged.entry
    assert preset("timm", "mobilenetv3_large_100.miil_in21k").classes == 11221


def test_timms_squashed_images_are_resized_to_a_square_and_keep_their_proportions_at_another_size() -> None:
    squashed = preset("timm", "convnext_base.fb_in22k_ft_in1k_384")
    assert squashed.preprocessing.resize == (384, 384) and squashed.resize_for(256) == (256, 256)
    model = {"library": "timm", "name": "convnext_base.fb_in22k_ft_in1k_384", "weights": "pretrained"}
    settings = load_settings({"models": {"m": model}, "dataset": {"root": "images", "name": "mine"}})
    arguments = STEPS["check_parity"](settings, variant="m").arguments
    command = ["--root", "images", *arguments]
    read = check_parity.build_parser().parse_args(command)
    assert Preprocessing.from_json(read.published) == squashed.preprocessing


@pytest.mark.parametrize(
    "name",
    [
        "mobilenetv3_large_100.miil_in21k_ft_in1k",
        "convnext_base.fb_in22k_ft_in1k_384",
        "tf_efficientnet_b0.ap_in1k",
        "vit_base_patch16_clip_224.openai_ft_in12k_in1k",
        "inception_v3.tv_in1k",
        "test_efficientnet.r160_in1k",
        "deepseek_vit_412m.deepseek_v4_flash_vision_exp",
        "vit_base_patch16_sapiens2.fb",
    ],
)
def test_images_are_prepared_as_timms_own_transform_does(name: str) -> None:
    timm = import_timm()
    from timm.data import create_transform, resolve_data_config

    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (333, 500, 3), dtype=np.uint8))
    config = resolve_data_config({}, pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    p = preset("timm", name).preprocessing
    ours = normalise(resize_and_crop(np.asarray(image), p)[None], p)[0]
    assert np.array_equal(ours, create_transform(**config)(image).numpy())


@pytest.mark.parametrize(
    ("name", "entry"),
    [("resnet50", "IMAGENET1K_V2"), ("vit_b_16", "IMAGENET1K_SWAG_E2E_V1"), ("inception_v3", "IMAGENET1K_V1")],
)
def test_images_are_prepared_as_torchvisions_own_transforms_do(name: str, entry: str) -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (500, 431, 3), dtype=np.uint8))
    p = preset("torchvision", name, entry).preprocessing
    theirs = torchvision.models.get_model_weights(name)[entry].transforms()(image).numpy()
    assert np.array_equal(normalise(resize_and_crop(np.asarray(image), p)[None], p)[0], theirs)


def test_what_is_not_made_here_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = presets._table()["timm"]["models"]["resnet18"]
    monkeypatch.setitem(entries, "of_two_channels", {"unsupported": "2 channels"})
    with pytest.raises(SettingsError, match=r"resnet18\.of_two_channels: .* not made here \(2 channels\)"):
        preset("timm", "resnet18.of_two_channels")


def test_a_published_size_that_is_not_square_is_kept_as_it_is() -> None:
    published = preset("timm", "vit_base_patch16_sapiens2.fb")
    assert published.size == (1024, 768)
    assert published.preprocessing_for((1024, 768)) == published.preprocessing
    assert published.resize_for(512) == (512, 512)


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("mobilenetv3_large_100.miil_in21k_ft", None, "no tag 'miil_in21k_ft' of mobilenetv3_large_100; did you mean"),
        ("mobilenetv3_large_10.ra_in1k", None, "no classifier 'mobilenetv3_large_10'; did you mean"),
        ("mobilenetv3_large_100", "rain1k", "publishes no weights 'rain1k' of mobilenetv3_large_100; did you mean"),
        ("mobilenetv3_large_100.ra_in1k", "miil_in21k", "its tag and weights: miil_in21k name different weights"),
    ],
)
def test_a_misspelled_tag_is_named(name: str, weights: str | None, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        preset("timm", name, weights)


def test_published_weights_stand_in_their_publishers_order() -> None:
    assert published_weights("torchvision", "vit_b_16")[0] == "IMAGENET1K_V1"
    assert published_weights("timm", "mobilenetv3_large_100")[0] == "ra_in1k"
