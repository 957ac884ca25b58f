"""ort-vamc foresee: what int8 compilers of each kind will make of a float ONNX, and of its conditioned form.

Every kind is emulated here (mnasbench.build.foresee); a card or another machine confirms it. Judged on --judge; without
it, on one in five of the calibration images, which then calibrate nothing.
"""

import argparse
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnasbench.commands.network_arguments import add_network_arguments, images_below, preprocessing_of, read_network
from mnasbench.commands.progress import Shown
from mnasbench.errors import SettingsError
from mnasbench.files import write_json
from mnasbench.preprocessing import Preprocessing

if TYPE_CHECKING:
    from mnasbench.build.calibration import Batches
    from mnasbench.build.foresee import Forecast

# Layers that are listed as losing most.
_LISTED = 5
# Modes no further apart than this are alike: other images would order them in another way.
_ALIKE_DB = 0.5
# Below this half of what the logits say is error; an own build refuses it as well (compiler.py).
_USELESS_DB = 3.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    add_network_arguments(parser)
    add = parser.add_argument
    add("--conditioned", type=Path, metavar="ONNX", help="the same network as ort-vamc condition wrote it, beside it")
    add("--judge", type=Path, metavar="FOLDER", help="other images, on which the figures are taken")
    add("--labels", type=Path, metavar="FILE", help="classes of the --judge images, for top-1 (config/README.md)")
    add("--kind", action="append", help="a kind of compiler, to be repeated; default: all")
    add("--json", type=Path, metavar="FILE", help="the same as JSON")


def foresee_network(arguments: argparse.Namespace) -> None:
    """Judge every kind, print the table, write the JSON."""
    import numpy as np

    from mnasbench.build.foresee import KINDS, Foresight, advised, answers, kind_named

    kinds = [kind_named(name).name for name in arguments.kind or KINDS]
    if arguments.labels is not None and arguments.judge is None:
        raise SettingsError("--labels needs --judge, the folder of the images that it names")
    preprocessing = preprocessing_of(arguments)
    graphs = {"raw": read_network(arguments.network, preprocessing)}
    if arguments.conditioned is not None:
        graphs["conditioned"] = read_network(arguments.conditioned, preprocessing)
    progress = Shown()
    with ExitStack() as stack:
        calibration, judged, labels = _images(arguments, preprocessing, stack)
        made = {name: Foresight(graph, calibration, progress) for name, graph in graphs.items()}
        expected = answers(made["raw"].model, judged)
        rows = {name: one.forecasts(expected, judged, labels, kinds, progress) for name, one in made.items()}
        advice = advised(rows)
        kind, (form, best, _) = next(iter(advice.items()))
        losses = made[form].losses(kind_named(kind), best.mode, next(iter(judged())))
    fp32_top1 = None if labels is None else float(100 * np.mean(expected.argmax(axis=1) == np.asarray(labels)))
    if fp32_top1 is not None:
        print(f"fp32: top-1 {fp32_top1:.2f} % of {len(expected)} images")
    print("\n".join(_table(rows)))
    for name, (graph, row, spread) in advice.items():
        print(f"{name}: {_advice(row, spread)}{_of(graph, graphs)}")
    worst = ", ".join(f"{name} {kept:.1f} dB" for name, kept in list(losses.items())[:_LISTED])
    print(f"layers that lose most by themselves ({kind} {best.mode}{_of(form, graphs)}): {worst}")
    if arguments.json is not None:
        content = {
            "network": str(arguments.network),
            "images": len(expected),
            "fp32_top1": fp32_top1,
            "rows": [{"graph": name, **asdict(row)} for name, of_graph in rows.items() for row in of_graph],
            "advice": {name: {"graph": graph, "mode": row.mode} for name, (graph, row, _) in advice.items()},
            "layers": {"kind": kind, "mode": best.mode, "graph": form, "sqnr_db": losses},
        }
        write_json(arguments.json, content)


def _advice(row: "Forecast", spread: float) -> str:
    kept = f"{row.agreement:.1f} %, {row.sqnr_db:.1f} dB"
    if row.sqnr_db < _USELESS_DB:
        return f"no mode is of use; the best is {row.mode} ({kept})"
    if spread < _ALIKE_DB:
        return f"the mode hardly matters; {row.mode} ({kept})"
    return f"ask for {row.mode} ({kept}); the worst mode keeps {spread:.1f} dB less"


def _of(graph: str, graphs: Mapping[str, Any]) -> str:
    return f", of the {graph} graph" if len(graphs) > 1 else ""


def _table(rows: "Mapping[str, Sequence[Forecast]]") -> list[str]:
    """Lines of the table: a kind and mode each, with the figures of every graph side by side."""
    figures = ["top-1 %", "agreement %", "SQNR dB"]
    if all(row.top1 is None for row in next(iter(rows.values()))):
        figures.pop(0)
    heads = ["kind", "mode"] + [
        f"{graph}: {figure}" if len(rows) > 1 else figure for graph in rows for figure in figures
    ]
    body = []
    for beside in zip(*rows.values(), strict=True):
        cells = [beside[0].kind, beside[0].mode]
        for row in beside:
            top1 = [] if row.top1 is None else [f"{row.top1:.2f}"]
            cells += [*top1, f"{row.agreement:.1f}", f"{row.sqnr_db:.1f}"]
        body.append(cells)
    widths = [max(map(len, column)) for column in zip(heads, *body, strict=True)]
    return [
        "  ".join(
            cell.ljust(w) if n < 2 else cell.rjust(w) for n, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in (heads, *body)
    ]


def _images(
    arguments: argparse.Namespace, preprocessing: Preprocessing, stack: ExitStack
) -> "tuple[Batches, Batches, Sequence[int] | None]":
    from mnasbench.build.calibration import fifth_held_out
    from mnasbench.build.calibration_images import ImageStream

    calibration = stack.enter_context(images_below(arguments.calibration, arguments.images, preprocessing))
    if arguments.judge is None:
        return *fifth_held_out(calibration), None
    if arguments.labels is None:
        return calibration, stack.enter_context(images_below(arguments.judge, None, preprocessing)), None
    from mnasbench.data.layouts import Dataset, scan

    images = scan(Dataset(arguments.judge, arguments.labels, part=""))
    paths = [arguments.judge / name for name in images]
    judged = stack.enter_context(ImageStream(paths, preprocessing, Shown()))
    return calibration, judged, [image.class_index for image in images.values()]
