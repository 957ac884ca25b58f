"""The input functions of the rules: what a job reads, by its wildcards."""

from pathlib import Path
from typing import Any

from mnasbench.onnx_file import files_of_onnx
from mnasbench.plan import names
from mnasbench.plan.dataset_look import label_files
from mnasbench.plan.steps import has_reference, judged_precision
from mnasbench.precisions import BASELINE, is_quantized
from mnasbench.preprocessing import split_code
from mnasbench.settings import ModelSettings, Settings
from mnasbench.weight_shards import files_of_weights


class Inputs:
    """One function for each input that depends on the settings; an input that a job does not have is empty."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    # --------------------------------------------------------------------------------------------------------- data
    def get_demo(self, wildcards: Any) -> list[str]:
        """What must be made before the images can be read; nothing where the user brings them."""
        return [names.DEMO_RECEIPT] if self._settings.is_demo else []

    def get_label_files(self, wildcards: Any) -> list[str]:
        """The user's own files that give classes their numbers, so that an edit of one is seen."""
        return label_files(self._settings)

    def get_shard_manifests(self, wildcards: Any) -> list[str]:
        """The manifests of all shards, in their order."""
        return [names.shard_manifest(self._settings, shard) for shard in names.shards(self._settings)]

    def get_shard_classes(self, wildcards: Any) -> list[str]:
        """What stands beside them: why the classes have their indices."""
        return [names.shard_classes(self._settings, shard) for shard in names.shards(self._settings)]

    def get_shard_manifest(self, wildcards: Any) -> str:
        """The manifest of the job's shard."""
        return names.shard_manifest(self._settings, wildcards.shard)

    def get_first_datalist(self, wildcards: Any) -> str:
        """The list of the first shard's npz inputs: what a measurement of speed reads."""
        return names.datalist(self._settings, wildcards.variant, 0)

    def get_datalist(self, wildcards: Any) -> str:
        """The list of the npz inputs of the job's shard."""
        return names.datalist(self._settings, wildcards.variant, wildcards.shard)

    def get_datalist_receipt(self, wildcards: Any) -> str:
        """The receipt of the job that wrote the npz inputs of the job's shard."""
        return names.datalist_receipt(self._settings, wildcards.variant, wildcards.shard)

    def get_datalists(self, wildcards: Any) -> list[str]:
        """The lists of all shards."""
        return [names.datalist(self._settings, wildcards.variant, shard) for shard in names.shards(self._settings)]

    def get_own_code_of_geometry(self, wildcards: Any) -> list[str]:
        """The user's own file of preprocessing, where one makes these inputs."""
        if wildcards.geometry == "original":
            return []
        return _own_code(names.model_of_geometry(self._settings, wildcards.geometry))

    def get_own_code(self, wildcards: Any) -> list[str]:
        """The user's own file of preprocessing, where one prepares the calibration images."""
        return _own_code(self._settings.models[wildcards.variant]) if is_quantized(wildcards.precision) else []

    def get_calibration_list(self, wildcards: Any) -> list[str]:
        """The list of the calibration images, where something is quantized."""
        return [names.calibration_list(self._settings)] if is_quantized(wildcards.precision) else []

    def get_calibration_digests(self, wildcards: Any) -> list[str]:
        """The digests of the calibration images, by which the judged ones among them are told."""
        quantized = any(map(is_quantized, self._settings["precisions"]))
        return [names.calibration_digests(self._settings)] if quantized else []

    def get_calibration_receipt(self, wildcards: Any) -> list[str]:
        """The receipt of the job that chose the calibration images."""
        return [names.calibration_receipt(self._settings)] if is_quantized(wildcards.precision) else []

    # -------------------------------------------------------------------------------------------------------- model
    def get_weights(self, wildcards: Any) -> list[str]:
        """The file of the variant's weights (and its shards or external data), where they are not downloaded."""
        file = names.weights(self._settings, wildcards.variant)
        if file is None:
            return []
        files = files_of_onnx if self._settings.models[wildcards.variant].is_onnx else files_of_weights
        return [str(path) for path in files(Path(file))]

    def get_conditioning_images(self, wildcards: Any) -> list[str]:
        """The list of the calibration images that a graph is conditioned by, and an own file that prepares them."""
        return [names.calibration_list(self._settings), *_own_code(self._settings.models[wildcards.variant])]

    def get_graph(self, wildcards: Any) -> str:
        """The graph that is compiled."""
        return f"{names.graph(self._settings, wildcards.variant, wildcards.precision)}.onnx"

    def get_graph_description(self, wildcards: Any) -> str:
        """What describes it, and names it in the build file."""
        return f"{names.graph(self._settings, wildcards.variant, wildcards.precision)}.json"

    # --------------------------------------------------------------------------------------------------- the results
    def get_scores(self, wildcards: Any) -> list[str]:
        """The scores of all shards."""
        return self._scores(wildcards.variant, wildcards.precision)

    def get_baseline_scores(self, wildcards: Any) -> list[str]:
        """The scores of the baseline, for a row that is held against it."""
        return self._scores(wildcards.variant, BASELINE) if has_reference(self._settings, wildcards.precision) else []

    def _scores(self, variant: str, precision: str) -> list[str]:
        return [names.scores(variant, precision, shard) for shard in names.shards(self._settings)]

    def get_judged_vdsp_params(self, wildcards: Any) -> str:
        """The preprocessing file that the parity certificate is about."""
        return names.vdsp_params(wildcards.variant, judged_precision(self._settings))

    def get_rows(self, wildcards: Any) -> list[str]:
        """What the rows of the summary are read from."""
        return [file for variant in self._settings.models for file in names.variant_results(self._settings, variant)]

    def get_peaks(self, wildcards: Any) -> list[str]:
        """Curves that somebody had measured: ``ort-vamp --find-peak --json``."""
        return names.peaks(self._settings)


def _own_code(model: ModelSettings) -> list[str]:
    code = model.preprocessing.code
    return [] if code is None else [split_code(code)[0]]
