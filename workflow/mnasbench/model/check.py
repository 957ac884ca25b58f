"""What is wrong with the models of a configuration, told from the heads of their files before anything is exported."""

from pathlib import Path

import torch

from mnasbench.errors import InputError, SettingsError, one_line
from mnasbench.model.architecture import check_file, create, require_published, require_size
from mnasbench.model.onnx_import import import_onnx
from mnasbench.onnx_file import files_of_onnx
from mnasbench.settings import DEMO, DEMO_CLASSES, ModelSettings, Settings
from mnasbench.weight_shards import digest_of_files, digest_of_weights, require_digest


def check_models(settings: Settings, classes: int | None = None) -> list[str]:
    """A line on each model: its classes, the published weights that its preprocessing is of, notes on its file.

    ``classes``: how many the dataset's images are of. Raises SettingsError or WeightsError in one line, beginning with
    the setting: weights of another architecture, a size that the architecture cannot have, fewer classes than the
    dataset's.
    """
    return [_check(model, classes) for model in settings.models.values()]


def classes_of(model: ModelSettings) -> int:
    """How many classes a model's file is for; WeightsError, ModelError or SettingsError where it cannot be read."""
    if model.is_onnx:
        return import_onnx(Path(model.weights), model.size, model.output, model.preprocessing).classes
    return check_file(model.library, model.name, Path(model.weights), model.size, model.weights_key)[0]


def _check(model: ModelSettings, classes: int | None) -> str:
    path, place = Path(model.weights), f"models.{model.variant}"
    notes: tuple[str, ...] = ()
    own: int | None = None
    try:
        if model.is_onnx:
            imported = import_onnx(path, model.size, model.output, model.preprocessing)
            own, notes = imported.classes, imported.notes
            if model.sha256 is not None:
                require_digest(str(path), digest_of_files(files_of_onnx(path)), model.sha256)
        elif model.weights_are_file and path.exists():
            own, notes = check_file(model.library, model.name, path, model.size, model.weights_key)
            if model.sha256 is not None:
                require_digest(str(path), digest_of_weights(path), model.sha256)
        else:
            own = DEMO_CLASSES if model.weights == DEMO else model.preset.classes
            _try_size(model)
            if model.weights != DEMO:
                require_published(model.library, model.name, model.weights)
    except InputError as error:
        raise type(error)(f"{place}: {error}") from error
    if classes is not None and own < classes:
        raise SettingsError(
            f"{place}: its weights are for {own} classes, but the dataset's images are of {classes}; "
            "give the weights that were trained on them, or the dataset that belongs to the weights"
        )
    parts = [f"{own} classes", model.preprocessing_text, *notes]
    return f"{place}: {one_line('; '.join(parts))}"


def _try_size(model: ModelSettings) -> None:
    try:
        with torch.device("meta"):
            made = create(model.library, model.name, size=model.size)
            require_size(model.library, model.name, made, model.size)
    except (NotImplementedError, RuntimeError):
        made = create(model.library, model.name, size=model.size)
        require_size(model.library, model.name, made, model.size)
