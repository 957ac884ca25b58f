"""Into how many shards a dataset is split where the configuration leaves that open."""

from dataclasses import replace

from mnasbench.data.choice import shard_of
from mnasbench.data.image_files import without_suffix
from mnasbench.data.listing import Listing
from mnasbench.errors import DatasetError, one_line
from mnasbench.plan.names import has_npz_by_image
from mnasbench.settings import Settings

# A killed run loses half a minute or so of so many images, and 50,000 images leave few files of results: 24 rows of
# a model each have one of scores, a receipt and a log for each shard.
IMAGES_A_SHARD = 10_000


def split(settings: Settings, images: int) -> Settings:
    """The settings with a number for ``shards: auto``, by the number of images alone.

    Rounded, so that some images more or less than a round number change no image's shard.
    """
    shards = settings["shards"]
    number = max(1, round(images / IMAGES_A_SHARD)) if shards == "auto" else shards
    return replace(settings, values={**settings.values, "shards": number})


def require_different_npz(settings: Settings, files: Listing) -> None:
    """DatasetError for images whose names differ in their suffix alone, which an npz keeps within one shard only."""
    if settings["shards"] == 1 or not has_npz_by_image(settings):
        return
    first: dict[str, str] = {}
    for name in files:
        other = first.setdefault(without_suffix(name), name)
        if shard_of(other, settings["shards"]) != shard_of(name, settings["shards"]):
            raise DatasetError(
                f"{one_line(name)} and {one_line(other)}: differ in their suffix alone, so their npz would have one "
                "name in two shards; rename one, or set shards: 1"
            )
