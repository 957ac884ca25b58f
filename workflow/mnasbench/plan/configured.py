"""The configuration of a call, put together from the default file, the user's files and the command line."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from mnasbench.errors import SettingsError
from mnasbench.settings import Settings


def configured(merged: Mapping[str, Any], files: Iterable[Any], command_line: Mapping[str, Any]) -> dict[str, Any]:
    """``merged`` with the models that the user named, where he named any, and without the default file's.

    ``merged``: all of them as Snakemake merges them. ``files``: the contents of ``--configfile``; together they name
    the models. ``command_line``: ``--config``; where it names models it names all of them.
    """
    models = merged.get("models")
    named = [source["models"] for source in files if _names_models(source)]
    if _names_models(command_line):
        named = [command_line["models"]]
    if named and isinstance(models, Mapping):
        models = {variant: models[variant] for source in named for variant in source}
    return {**merged, "models": models} if "models" in merged else dict(merged)


def _names_models(source: Any) -> bool:
    return isinstance(source, Mapping) and isinstance(source.get("models"), Mapping)


def require_free_names(settings: Settings, rules: Collection[str]) -> None:
    """SettingsError for a variant with the name of a rule: both are targets."""
    taken = sorted({"all", *rules} & set(settings.models))
    if taken:
        raise SettingsError(f"models.{taken[0]}: is the name of a step of the workflow; give the variant another")


def numbered(settings: Settings, numbering: str) -> Settings:
    """The settings with what decides the dataset's classes, as planning settled it; empty where a label file does."""
    dataset = {**settings["dataset"], "classes": numbering or settings["dataset"]["classes"]}
    return replace(settings, values={**settings.values, "dataset": dataset})
