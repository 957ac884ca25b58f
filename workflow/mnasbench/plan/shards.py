"""Into how many shards a dataset is split where the configuration leaves that open."""

from dataclasses import replace

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
