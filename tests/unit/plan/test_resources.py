"""What jobs ask a cluster for grows with images, threads and attempts, within bounds."""

from typing import Any

from mnasbench.plan.resources import JobResources
from mnasbench.plan.shards import split
from mnasbench.settings import load_settings


def _ask(images: int, **settings: Any) -> JobResources:
    return JobResources(split(load_settings({"models": {"mnasnet0_5": {}}, **settings}), images), images)


def test_threads_by_the_images_of_a_shard() -> None:
    assert [_ask(images, shards=1).get_threads(None) for images in (10, 4000, 50_000, 10**7)] == [1, 2, 16, 16]
    assert _ask(50_000, shards=5).get_threads(None) == 5
    assert _ask(50_000, parity={"images": 3000}).get_parity_threads(None) == 3


def test_memory_by_threads() -> None:
    memory = _ask(1).get_memory(1000, a_thread=250)
    assert [memory(None, threads, 1) for threads in (1, 8, 1024)] == [1250, 3000, 17_000]
    assert memory(None, 1, 3) == 3 * 1250


def test_minutes_by_images() -> None:
    ask = _ask(60_000, shards=2, calibration={"images": 1000})
    assert ask.get_minutes(30)(None, 1024, 2) == 60
    assert ask.get_minutes(5, images_a_minute=6000)(None, 1, 1) == 10
    assert ask.get_minutes(5, images_a_minute=6000)(None, 5, 1) == 6
    assert ask.get_minutes(20, images_a_minute=50, of="calibration")(None, 1, 1) == 40
    assert ask.get_minutes(5, images_a_minute=6000, of="all")(None, 1, 1) == 15


def test_shards_follow_the_number_of_images_and_nothing_else() -> None:
    settings = load_settings({"models": {"mnasnet0_5": {}}})
    found = {images: split(settings, images)["shards"] for images in (1, 1000, 14_999, 49_000, 50_000, 51_000, 10**6)}
    assert found == {1: 1, 1000: 1, 14_999: 1, 49_000: 5, 50_000: 5, 51_000: 5, 10**6: 100}
    assert split(load_settings({"models": {"mnasnet0_5": {}}, "shards": 7}), 50_000)["shards"] == 7
