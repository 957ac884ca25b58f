"""What would end a run in its middle, told before its first job: tools, images and models are looked at, not used."""

import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from mnasbench.data.available import Extent
from mnasbench.data.choice import sample_of
from mnasbench.data.image_files import images_among
from mnasbench.data.layouts import Dataset, layout_of
from mnasbench.errors import DatasetError, InputError, SettingsError, named, one_line
from mnasbench.plan import names
from mnasbench.precisions import is_quantized
from mnasbench.runtimes import choose
from mnasbench.settings import Settings

# Some two seconds of decoding; a run looks at every image when it indexes them.
IMAGES_LOOKED_AT = 100


def look_ahead(
    settings: Settings, extent: Extent, rules: Collection[str] | None = None, on_cluster: bool = False
) -> list[str]:
    """A line on each model; raises in one line what is wrong with tools, images or models.

    ``rules``: those of the jobs that will run (None: all of them), so that nobody waits for a look at what is made.
    ``on_cluster``: tools are elsewhere. Raises SettingsError, DatasetError, WeightsError, or ToolError.
    """

    def any_of(*asked: str) -> bool:
        return rules is None or not set(asked).isdisjoint(rules)

    if not on_cluster and any_of("compile_model", "measure_performance", "run_accuracy"):
        _require_tools(settings)
    if not settings.is_demo and settings["dataset"]["on_fault"] == "error" and any_of("index_shard"):
        _look_at_images(settings, extent)
    if any_of("write_npz", "write_image_npz"):
        _require_inputs(settings, extent)
    if any_of("export_model"):
        from mnasbench.model.check import check_models  # which loads torch

        return check_models(settings, extent.classes)
    return []


def _require_tools(settings: Settings) -> None:
    """Raise where what compiles or runs a row is not on this machine."""
    for precision in settings["precisions"]:
        if not settings.on_card(precision):
            choose(settings["runtime"], precision)
    if not any(map(settings.on_card, settings["precisions"])):
        return
    for key in ("vamc", "vamp"):
        tool = settings["vacc"][key]
        if shutil.which(tool) is None:
            raise SettingsError(
                f"vacc.{key}: {one_line(tool)} is no command on this machine; install the card's tools, give the path "
                "of theirs, or set engine: ort"
            )


def _look_at_images(settings: Settings, extent: Extent) -> None:
    """Look at some of the images, first those whose names do not end as an image's does."""
    limit = settings["dataset"]["limit"]
    judged = list(extent.files or ())
    _look_at(Path(names.dataset_root(settings)), judged if limit is None else sample_of(judged, limit))
    source = settings["calibration"]["source"]
    if source is not None and any(map(is_quantized, settings["precisions"])):
        _look_at(Path(source), layout_of(Dataset(Path(source))).files())


def _look_at(root: Path, images: Iterable[str]) -> None:
    from mnasbench.data.manifest import look_at

    every = sorted(images)
    _, odd = images_among(every)
    looked_at = [*odd[:IMAGES_LOOKED_AT], *sample_of(every, IMAGES_LOOKED_AT)]
    faults = {name: fault for name in dict.fromkeys(looked_at) if (fault := look_at(root, name)[-1])}
    if faults:
        listed = named((f"{name} {fault}" for name, fault in faults.items()), 3)
        raise DatasetError(
            f"{one_line(root)}: {len(faults)} of {len(set(looked_at))} images that were looked at cannot be used (mend "
            f"or remove them, or set dataset.on_fault: exclude): {listed}"
        )


def _require_inputs(settings: Settings, extent: Extent) -> None:
    """Raise where a model's own code does not run, or images that are not resized have another size than it takes."""
    asked = [m for m in settings.models.values() if m.preprocessing.code or isinstance(m.preprocessing.resize, str)]
    if not asked or settings.is_demo:
        return
    from mnasbench.data.manifest import look_at
    from mnasbench.data.preprocess import pixels_of

    root = Path(names.dataset_root(settings))
    tried = False
    for name in sample_of(list(extent.files or ()), IMAGES_LOOKED_AT):
        _, width, height, _, fault = look_at(root, name)
        if fault:
            continue
        for model in asked:
            p, place = model.preprocessing, f"models.{model.variant}"
            refusal = p.refuses(height, width)
            if refusal is not None:
                raise DatasetError(f"{place}: {one_line(root / name)} {refusal}")
            if p.code is not None and not tried:
                try:
                    pixels_of(root / name, p)
                except InputError as error:
                    raise SettingsError(f"{place}.preprocess: {error}") from error
        tried = True
