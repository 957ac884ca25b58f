"""results/summary.json: which files each row of the summary came from, so that nobody has to look for them."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnasbench.errors import InputError, one_line
from mnasbench.files import read_json

NAME = "summary.json"
# A row's own files; an engine may not leave all of them, and peak is made by hand.
KINDS = ("exported", "compiled", "layers", "performance", "accuracy", "parity", "peak", "condition")


def row_files(described: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The content of ``folder``/summary.json, with paths relative to that folder.

    ``described``: what planning says of the rows (``mnasbench.plan.steps.summarize``). Its names hold
    {model}, {precision} and {shard} where many differ in just that, because a shell command has room for few.
    """

    def names(templates: Sequence[str], **row: str) -> list[str]:
        shards = range(described["shards"])
        filled = [
            text.format(**row, shard=shard) for text in templates for shard in (shards if "{shard}" in text else [0])
        ]
        return [os.path.relpath(name, folder) for name in filled]

    rows = []
    for variant in described["variants"]:
        model = variant["model"]
        for own in variant["rows"]:
            row = {"model": model, "precision": own["precision"]}
            files = described["files"] | {"exported": variant["exported"]} | own["files"]
            named = {kind: names([files[kind]], **row)[0] for kind in KINDS if files.get(kind)}
            rows.append(row | {"files": named, "answers": names(described["answers"], **row)})
    data = {name: names([path])[0] for name, path in described["data"].items()}
    return {"data": data, "rows": rows}


def read_row_files(folder: Path) -> dict[str, Any]:
    """summary.json of a results folder; InputError where there is none, or it does not say what it must."""
    path = folder / NAME
    content = read_json(path)
    try:
        rows = content["rows"]
        texts = [content["data"]["manifest"], *content["data"].values()]
        for row in rows:
            texts += [row["model"], row["precision"], row["files"]["performance"], row["files"]["accuracy"]]
            texts += [*row["files"].values(), *row["answers"]]
    except (KeyError, TypeError, AttributeError):
        rows, texts = None, []
    if not isinstance(rows, list) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{one_line(path)}: does not name the files of a summary's rows; make it with `make run`")
    return dict(content)
