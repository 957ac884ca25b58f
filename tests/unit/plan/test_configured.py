"""Who names the models names all of them."""

from typing import Any

import pytest

from mnasbench.errors import SettingsError
from mnasbench.plan.configured import configured, require_free_names
from mnasbench.settings import load_settings

DEFAULT = {"a": {}, "b": {}}


@pytest.mark.parametrize(
    ("files", "command_line", "named"),
    [
        ([], {}, ["a", "b"]),
        ([{"models": {"c": {}}}], {}, ["c"]),
        ([{"models": {"c": {}}}, {"precisions": ["fp32"]}, {"models": {"d": {}, "a": {}}}], {}, ["c", "d", "a"]),
        ([], {"models": {"d": {}}}, ["d"]),
        ([{"models": {"c": {}}}], {"models": {"d": {}}}, ["d"]),
        ([{"models": 3}, ["no mapping"]], {"shards": 2}, ["a", "b"]),
    ],
)
def test_who_names_models_names_all(files: list[Any], command_line: dict[str, Any], named: list[str]) -> None:
    merged = {"models": {**DEFAULT, "c": {"size": 1}, "d": {}}} if files or command_line else {"models": DEFAULT}
    if named == ["a", "b"]:
        merged = {"models": DEFAULT}
    assert list(configured(merged, files, command_line)["models"]) == named


def test_the_rest_of_the_configuration_is_kept() -> None:
    assert configured({"shards": 2, "models": 3}, [], {}) == {"shards": 2, "models": 3}
    assert configured({"shards": 2}, [], {}) == {"shards": 2}


def test_a_variant_is_not_called_as_a_step() -> None:
    settings = load_settings({"models": {"summarize": {"name": "mnasnet0_5"}}})
    with pytest.raises(SettingsError, match=r"models\.summarize: is the name of a step of the workflow"):
        require_free_names(settings, {"summarize"})
