"""The path of every file below ``results/``, by settings, variant, precision, shard and geometry.

Paths are strings relative to the folder that the workflow runs in, as Snakemake compares them. A wildcard of
Snakemake (``"{variant}"``) may stand for a variant or a precision where a function looks nothing up in the settings.
"""

from pathlib import Path

from mnasbench import recorded_step
from mnasbench.precisions import BASELINE, is_quantized, precision_named
from mnasbench.settings import DEMO, ModelSettings, Settings

RESULTS = Path("results")
SUMMARY = "results/summary.csv"
REPORT = "results/report.html"
# Where a step notes that it failed, to be said again when all has stopped.
FAILURES = recorded_step.FAILURES
# Held by the run that works on the results.
LOCK = recorded_step.LOCK
DEMO_ROOT = f"results/data/{DEMO}/images"
DEMO_RECEIPT = f"results/data/{DEMO}/demo.receipt.json"


# ------------------------------------------------------------------------------------------------------------- data
def data_folder(settings: Settings) -> str:
    """What is made of the dataset: manifest, calibration set, inputs."""
    return f"results/data/{settings['dataset']['name']}"


def dataset_root(settings: Settings) -> str:
    """The dataset itself: the demo set, made here, or the user's."""
    return DEMO_ROOT if settings.is_demo else str(settings["dataset"]["root"])


def shards(settings: Settings) -> range:
    """The numbers of the shards."""
    return range(settings["shards"])


def shard_manifest(settings: Settings, shard: int | str) -> str:
    """The manifest of one shard."""
    return f"{data_folder(settings)}/manifests/{shard}.csv"


def shard_classes(settings: Settings, shard: int | str) -> str:
    """The order of the classes, beside the manifest of one shard."""
    return f"{data_folder(settings)}/manifests/{shard}.classes.json"


def manifest(settings: Settings) -> str:
    """The manifest of all shards."""
    return f"{data_folder(settings)}/manifest.csv"


def classes(settings: Settings) -> str:
    """The order of the classes, beside the manifest."""
    return f"{data_folder(settings)}/manifest.classes.json"


def calibration_list(settings: Settings) -> str:
    """The paths of the calibration images."""
    return f"{data_folder(settings)}/calibration.txt"


def calibration_digests(settings: Settings) -> str:
    """The digests of the calibration images, as they were when they were chosen."""
    return f"{data_folder(settings)}/calibration.sha256"


def calibration_receipt(settings: Settings) -> str:
    """The receipt of the job that chose the calibration images."""
    return f"{data_folder(settings)}/calibration.receipt.json"


def calibration_images(settings: Settings) -> str:
    """The folder of links to the calibration images."""
    return f"{data_folder(settings)}/calibration/images"


def geometry(settings: Settings, variant: str) -> str:
    """Names the npz inputs that a variant reads: those of its geometry, or the whole images."""
    return "original" if settings["npz"] == "original" else settings.models[variant].preprocessing.label


def model_of_geometry(settings: Settings, geometry: str) -> ModelSettings:
    """Some variant with this geometry; all of them give the same pixels."""
    return next(model for model in settings.models.values() if geometry in (model.preprocessing.label, "original"))


def has_npz_by_image(settings: Settings) -> bool:
    """Whether each image has an npz of its own: vamp reads them, and whole images differ in size."""
    return bool(settings["engine"] == "vacc" or settings["npz"] == "original")


def input_shard(settings: Settings, geometry: str, shard: int | str) -> str:
    """The npz inputs of a shard, in one file."""
    return f"{data_folder(settings)}/npz/{geometry}/{shard}.npz"


def image_npz(settings: Settings, geometry: str, shard: int | str) -> str:
    """The folder of a shard's npz inputs, one an image."""
    return f"{data_folder(settings)}/image_npz/{geometry}/{shard}"


def datalist(settings: Settings, variant: str, shard: int | str) -> str:
    """The list of a shard's npz inputs."""
    return f"{_datalist(settings, variant, shard)}.txt"


def datalist_receipt(settings: Settings, variant: str, shard: int | str) -> str:
    """The receipt of the job that wrote a shard's npz inputs and their list."""
    return f"{_datalist(settings, variant, shard)}.receipt.json"


def _datalist(settings: Settings, variant: str, shard: int | str) -> str:
    folder = "image_lists" if has_npz_by_image(settings) else "lists"
    return f"{data_folder(settings)}/{folder}/{geometry(settings, variant)}-{shard}"


# ------------------------------------------------------------------------------------------------------------ model
def weights(settings: Settings, variant: str) -> str | None:
    """The file of a variant's weights, or None where they are downloaded while exporting."""
    model = settings.models[variant]
    if model.weights == DEMO:
        return f"results/model/{variant}/weights.pth"
    return model.weights if model.weights_are_file else None


def exported(settings: Settings, variant: str) -> str:
    """The exported graph, without its suffix."""
    model = settings.models[variant]
    return f"results/model/{variant}/{model.name}_{model.size_label}"


def conditioned(settings: Settings, variant: str) -> str:
    """The same network made robust to int8, without its suffix."""
    model = settings.models[variant]
    return f"results/condition/{variant}/{model.name}_{model.size_label}"


def certificate(settings: Settings, variant: str) -> str:
    """What was changed in the conditioned graph, and what its answers moved by."""
    return f"{conditioned(settings, variant)}.condition.json"


def graph(settings: Settings, variant: str, precision: str) -> str:
    """The graph that is compiled (``.onnx``) and what describes it (``.json``), without their suffix.

    A step between the export and the compiler names here what it writes; all that reads the graph follows.
    """
    return (conditioned if settings.is_conditioned(precision) else exported)(settings, variant)


# ------------------------------------------------------------------------------------------------------------ build
def build_folder(variant: str, precision: str) -> str:
    """What is built of one row."""
    return f"results/build/{variant}/{precision}"


def compiled(variant: str, precision: str) -> str:
    """What was compiled, from what, and the prefix of its files."""
    return f"{build_folder(variant, precision)}/compiled.json"


def vdsp_params(variant: str, precision: str) -> str:
    """The preprocessing of a row, as the vendor's tools read it."""
    return f"{build_folder(variant, precision)}/vdsp_params.json"


def compiled_prefix(settings: Settings, variant: str, precision: str) -> str:
    """What the compiled files of a row have in common; the compiler names their folder."""
    folder = build_folder(variant, precision)
    if settings.on_card(precision) and settings["vacc"]["generation"] == 2:
        return f"{folder}/{variant}/mod"
    shape = "_".join(map(str, settings.models[variant].preprocessing.shape))
    built = precision_named(precision)
    engine = settings.engine_of(precision)
    return f"{folder}/{variant}-{built.dtype}-{built.mode or 'none'}-{shape}-{engine}/{variant}"


def compiled_files(settings: Settings, variant: str, precision: str) -> list[str]:
    """The compiled files of a row, and the errors by layer where it is quantized here."""
    prefix = compiled_prefix(settings, variant, precision)
    if settings.on_card(precision):
        return [prefix + suffix for suffix in (".so", ".json", ".params")]
    files = [prefix + suffix for suffix in (".onnx", ".params", ".json")]
    if is_quantized(precision):
        files.append(str(Path(prefix).with_name("quantization.csv")))
    return files


# -------------------------------------------------------------------------------------------------------------- run
def performance(variant: str, precision: str) -> str:
    """The report of a row's measurement of speed."""
    return f"results/run/{variant}/{precision}/performance.json"


def peak(variant: str, precision: str) -> str:
    """A curve of the rate of arrivals against p99, which only somebody's own call of the tool writes."""
    return f"results/run/{variant}/{precision}/peak.json"


def scores(variant: str, precision: str, shard: int | str) -> str:
    """A row's scores of the images of a shard."""
    return f"results/run/{variant}/{precision}/scores-{shard}.npz"


# ----------------------------------------------------------------------------------------------------------- result
def answers(variant: str, precision: str) -> str:
    """The answers of a row to each image."""
    return f"results/result/{variant}/{precision}/answers.csv"


def accuracy(variant: str, precision: str) -> str:
    """The accuracies of a row."""
    return f"results/result/{variant}/{precision}/accuracy.json"


def parity(variant: str) -> str:
    """The certificate that a variant is given the images that its publisher would give it."""
    return f"results/result/{variant}/parity.json"


def row_results(settings: Settings, variant: str, precision: str) -> list[str]:
    """What one row of the summary is read from."""
    files = [
        f"{exported(settings, variant)}.json",
        compiled(variant, precision),
        performance(variant, precision),
        accuracy(variant, precision),
    ]
    if settings.is_conditioned(precision):
        files.append(certificate(settings, variant))
    # Nobody has published how the images of an own ONNX file are to be prepared.
    has_parity = precision == BASELINE and not settings.models[variant].is_onnx
    return [*files, parity(variant)] if has_parity else files


def variant_results(settings: Settings, variant: str) -> list[str]:
    """What the rows of a variant are read from."""
    return [file for precision in settings["precisions"] for file in row_results(settings, variant, precision)]


def peaks(settings: Settings) -> list[str]:
    """Curves that somebody had measured."""
    files = (peak(variant, precision) for variant in settings.models for precision in settings["precisions"])
    return [file for file in files if Path(file).is_file()]
