"""How many classes each model of a configuration has, for planning: read from its file once, and remembered."""

from pathlib import Path

from mnasbench.errors import InputError
from mnasbench.file_memory import memory_of_this_machine, state_of
from mnasbench.plan.names import RESULTS
from mnasbench.settings import DEMO, DEMO_CLASSES, ModelSettings, Settings


def model_classes(settings: Settings) -> dict[str, int]:
    """The number of classes by variant, without the models whose file cannot be read: ``look_ahead`` tells of them."""
    memory = memory_of_this_machine()
    classes: dict[str, int] = {}
    for variant, model in settings.models.items():
        name, state = _remembered_as(model), state_of(Path(model.weights)) if model.weights_are_file else None
        number = memory.recall(name, state)
        if not isinstance(number, int):
            number = _number_of(model)
            if number is not None:
                memory.remember(name, state, number)
        if number is not None:
            classes[variant] = number
    if RESULTS.is_dir():  # a look leaves no folder behind
        memory.save()
    return classes


def _remembered_as(model: ModelSettings) -> str:
    return f"classes of {model.library} {model.name} {model.weights_key or model.output or ''} {model.weights}"


def _number_of(model: ModelSettings) -> int | None:
    if model.weights == DEMO:
        return DEMO_CLASSES
    if not model.weights_are_file:
        return model.preset.classes
    from mnasbench.model.check import classes_of  # which loads torch

    try:
        return classes_of(model)
    except InputError:
        return None
