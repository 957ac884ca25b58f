"""What torchvision and timm publish of their classifiers: preprocessing, and accuracy with its source.

Planning needs the preprocessing of every model in the configuration, and importing torch for it would cost each
call of Snakemake two seconds. ``presets.json`` holds it instead; ``workflow/scripts/write_presets.py`` makes that
file from the installed libraries, and a test compares the two.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnasbench.errors import SettingsError, did_you_mean
from mnasbench.preprocessing import Preprocessing

PRESETS_FILE = Path(__file__).with_name("presets.json")
LIBRARIES = ("torchvision", "timm")


@dataclass(frozen=True)
class Preset:
    """How a model wants its images, and what its publisher says that it then scores (percent; None: not said).

    Published are a short side and a square crop.
    """

    preprocessing: Preprocessing
    top1: float | None = None
    top5: float | None = None
    source: str = ""

    @property
    def size(self) -> int:
        """The side of the published crop."""
        return self.preprocessing.size[0]

    def resize_for(self, size: int) -> int:
        """The short side for a crop of another size, in the published proportion of the two."""
        return round((self.preprocessing.short_side or self.size) * size / self.size)


@functools.cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(PRESETS_FILE.read_text(encoding="utf-8"))
    return table


def preset(library: str, name: str, weights: str | None = None) -> Preset:
    """The preset of ``name``; of one of its published weights where ``weights`` names them, else of the first.

    Raises SettingsError, naming the nearest known model or weights.
    """
    models = _table().get(library)
    if models is None:
        raise SettingsError(f"model library '{library}' is not known{did_you_mean(library, LIBRARIES)}")
    if name not in models["models"]:
        raise SettingsError(f"{library} has no classifier '{name}'{did_you_mean(name, models['models'])}")
    published = models["models"][name]
    if weights is not None and weights not in published:
        raise SettingsError(f"{library} publishes no weights '{weights}' of {name}{did_you_mean(weights, published)}")
    weights = weights or next(iter(published))
    entry = published[weights]
    return Preset(
        preprocessing=Preprocessing.from_json(models["preprocessing"][entry["preprocessing"]]),
        top1=entry.get("top1"),
        top5=entry.get("top5"),
        source=f"{library} {weights}" if weights else "",
    )


def published_weights(library: str, name: str) -> list[str]:
    """The names of the weights that ``library`` publishes of ``name``; empty for timm, which has one each."""
    preset(library, name)
    return [weights for weights in _table()[library]["models"][name] if weights]
