"""The presets against the libraries that they were read from."""

import pytest

from mnasbench.errors import SettingsError
from mnasbench.presets import PRESETS_FILE, preset
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
