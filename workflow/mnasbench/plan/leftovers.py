"""What was made of shards that the present number of them does not have."""

import re
import shutil
from pathlib import Path

from mnasbench.plan import names
from mnasbench.settings import Settings

_NUMBER = re.compile(r"(?:^|-)(\d+)(?:\.|$)")


def remove_former_shards(settings: Settings) -> None:
    """Remove it: nothing will read it again, and it would fill the disk."""
    data = names.data_folder(settings)
    patterns = [f"{data}/{below}" for below in ("manifests/*", "lists/*", "npz/*/*", "image_lists/*", "image_npz/*/*")]
    for variant in settings.models:
        for precision in settings["precisions"]:
            patterns.append(f"results/run/{variant}/{precision}/scores-*")
    for pattern in patterns:
        for path in Path().glob(pattern):
            number = _NUMBER.search(path.name)
            if number and int(number[1]) >= len(names.shards(settings)):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
