"""The threads, memory and minutes that a job asks a cluster for, by the images that it goes through.

The receipts of runs on two cores say what each step used; the rules name three times that, for larger images, nets
and slower disks.
"""

from collections.abc import Callable
from typing import Any, Literal

from mnasbench.settings import Settings

# Images for one more thread: some five seconds of decoding. Less is not worth holding a core for.
IMAGES_A_THREAD = 2000
# Of the parity certificate, where an image costs more than elsewhere, and is read again.
PARITY_IMAGES_A_THREAD = IMAGES_A_THREAD // 2
# More threads than this wait for the disk.
MOST_THREADS = 16
# What a measurement may start on a machine with very many cores.
MOST_SESSIONS = 64


ImagesOf = Literal["shard", "all", "calibration", "parity"]


def images_a_shard(settings: Settings, images: int) -> int:
    """How many of ``images`` a shard has, about."""
    return -(-images // int(settings["shards"]))


def threads_for(images: int, images_a_thread: int = IMAGES_A_THREAD) -> int:
    """Threads of a job that goes through ``images``."""
    return max(1, min(MOST_THREADS, images // images_a_thread))


class JobResources:
    """The functions by which Snakemake asks for the resources of a job; ``images``: of the dataset."""

    def __init__(self, settings: Settings, images: int) -> None:
        self._settings = settings
        self._count = images

    def _images(self, of: ImagesOf) -> int:
        if of == "calibration":
            return int(self._settings["calibration"]["images"])
        images = self._count
        if of == "all":
            return images
        if of == "parity":
            return min(images, self._settings["parity"]["images"] or images)
        return images_a_shard(self._settings, images)

    def get_threads(self, wildcards: Any) -> int:
        """Threads of a job that goes through the images of a shard."""
        return threads_for(self._images("shard"))

    def get_parity_threads(self, wildcards: Any) -> int:
        """Threads of the parity certificate."""
        return threads_for(self._images("parity"), PARITY_IMAGES_A_THREAD)

    def get_memory(self, base: int, a_thread: int = 0) -> Callable[..., int]:
        """A function for the resource ``mem_mb``, in megabytes; a retry asks for more."""

        def mem_mb(wildcards: Any, threads: int, attempt: int) -> int:
            return attempt * (base + a_thread * min(threads, MOST_SESSIONS))

        return mem_mb

    def get_minutes(self, base: int, images_a_minute: int = 0, of: ImagesOf = "shard") -> Callable[..., int]:
        """A function for the resource ``runtime``; a thread does ``images_a_minute``, a retry asks for more."""

        def runtime(wildcards: Any, threads: int, attempt: int) -> int:
            if not images_a_minute:
                return attempt * base
            return attempt * round(base + self._images(of) / images_a_minute / max(1, min(threads, MOST_SESSIONS)))

        return runtime
