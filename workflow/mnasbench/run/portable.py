"""What a compiled int8 model answers on other CPUs, on images of the user's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mnasbench.build.calibration_images import ImageStream, find_images
from mnasbench.build.config import BuildConfig
from mnasbench.build.cpu import sums_int8_exactly
from mnasbench.build.gate import logits_of
from mnasbench.build.graph import prepare
from mnasbench.build.package import CompiledModel
from mnasbench.build.portable import EXACT, SATURATING, compared, foretell
from mnasbench.build.vamc import read_checkpoint
from mnasbench.errors import ModelError, SettingsError, one_line
from mnasbench.onnx_file import files_of_onnx
from mnasbench.preprocessing import Preprocessing
from mnasbench.run.session import input_format
from mnasbench.runtimes import runtime_of
from mnasbench.weight_shards import digest_of_files

# Points of agreement or dB that saturation may cost before weights of 7 bits are advised.
_POINTS, _DECIBELS = 0.5, 1.0


def foretold(compiled: CompiledModel, config: BuildConfig | None, folder: Path | None, count: int) -> dict[str, Any]:
    """Figures of :func:`mnasbench.build.portable.foretell`, and of this CPU as it really runs.

    ``config``: the build file that the model is from, which names its float model and its calibration images;
    ``folder``: other images; ``count``: how many at most, evenly spaced. SettingsError for a model that is not int8,
    and where there are no images; ModelError where the float model is another one than was built.
    """
    quantization = compiled.info["quantization"]
    where = one_line(compiled.prefix)
    if quantization is None:
        raise SettingsError(f"{where}: is {compiled.info['precision']}; only int8 sums differ from CPU to CPU")
    session = runtime_of(compiled.info)
    taken = input_format(compiled.info)
    with ImageStream(_images(config, folder, count, where), _preprocessing(compiled)) as stream:
        images = np.concatenate(list(stream()))
    tensor = images if taken.blocks is None else taken.blocks.quantize(images)
    reference = None
    if config is not None:
        if digest_of_files(files_of_onnx(config.checkpoint)) != compiled.info["sources"]["checkpoint"]:
            raise ModelError(f"{one_line(config.checkpoint)}: is not what {where} was built from; build it again")
        reference = logits_of(prepare(read_checkpoint(config)[0]), images)
        if compiled.info["outputs"][0].get("softmax"):
            powers = np.exp(reference - reference.max(axis=1, keepdims=True))
            reference = powers / powers.sum(axis=1, keepdims=True)
    opened = session.open(compiled.graph_path, taken)
    run = np.concatenate([opened.infer(tensor[i : i + 1]) for i in range(len(tensor))])
    figures = foretell(onnx.load(compiled.graph_path), session.name, tensor, reference)
    if reference is not None:
        figures["run_here"] = compared(reference, run)
    return {**figures, "reduce_range": quantization["reduce_range"], "this_cpu_saturates": not sums_int8_exactly()}


def _preprocessing(compiled: CompiledModel) -> Preprocessing:
    return Preprocessing.from_json(compiled.info["preprocessing"])


def _images(config: BuildConfig | None, folder: Path | None, count: int, where: str) -> list[Path]:
    """``count`` images at most, evenly spaced: a list that is sorted by class is sampled across classes."""
    if folder is not None:
        images = find_images(folder, None, None)
    elif config is not None and config.dataset is not None:
        images = find_images(config.dataset, config.suffix, config.images)
    else:
        raise SettingsError(f"{where}: does not say where images are; give --images, or the build file in its place")
    places = np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int))
    return [images[place] for place in places]


def described(figures: dict[str, Any]) -> Iterator[str]:
    """The lines that ``ort-vamc portable`` prints of them."""
    yield f"{figures['images']} images, {figures['runtime']}'s kernels"
    yield f"{'CPU':<22} {'of fp32':>22} {'of exact sums':>22}"
    rows = dict(figures["cpus"])
    if "run_here" in figures:
        rows["this CPU, as it ran"] = figures["run_here"]
    for name, row in rows.items():
        yield f"{name:<22} {_pair(row, ''):>22} {_pair(row, '_of_exact'):>22}"
    for row in figures["saturating"][:10]:
        yield f"saturates      {row['layer']}: {row['saturated']:.2e} of its sums of two products"
    if len(figures["saturating"]) > 10:
        yield f"saturates      and {len(figures['saturating']) - 10} layers more"
    yield _advice(figures)


def _pair(row: dict[str, Any], suffix: str) -> str:
    if f"agreement{suffix}" not in row:
        return "-"
    kept = row[f"sqnr_db{suffix}"]
    return f"{'equal' if kept is None else f'{kept:.1f} dB'}, {row[f'agreement{suffix}']:.1f} %"


def _advice(figures: dict[str, Any]) -> str:
    if not figures["saturating"]:
        return "nothing saturates: on every CPU the same sums, and what floats are rounded to between them"
    there, exact = figures["cpus"][SATURATING.name], figures["cpus"][EXACT.name]
    loses = 100 - there["agreement_of_exact"] > _POINTS
    if there.get("sqnr_db") is not None and exact.get("sqnr_db") is not None:
        loses |= exact["sqnr_db"] - there["sqnr_db"] > _DECIBELS
    if loses:
        return "for x86 without VNNI set quantize.weight_bits: 7 (in a build file, ort: weight_bits: 7)"
    return "saturation costs little on these images; quantize.weight_bits: 7 excludes it"
