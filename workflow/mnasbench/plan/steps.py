"""The settings and arguments of each step of the workflow: one function a step, named as its rule.

A function takes the settings and the wildcards of its rule. To add a step: its rule, its script, what that calls in
the library, and its function here (docs/house.md).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnasbench.data.layouts import beside
from mnasbench.files import canonical_json, sha256_of_bytes, sha256_of_file
from mnasbench.plan import names
from mnasbench.plan.dataset_look import described_dataset
from mnasbench.precisions import BASELINE, is_quantized
from mnasbench.settings import ModelSettings, Settings

_WORKFLOW = Path(__file__).resolve().parents[2]
# By name of the rule.
STEPS: dict[str, Callable[..., "Step"]] = {}


@dataclass(frozen=True)
class Step:
    """One job of the workflow, as far as the configuration decides it.

    ``script``: the file whose code the result depends on, below ``workflow/``. ``settings``: the part of the
    configuration that the result depends on; whatever else is configured may change without making it stale.
    ``command``: the first words of the command where they are not the same for every job of the rule.
    ``arguments``: its words that depend on the configuration. ``files``: what it writes besides the outputs that the
    rule declares.
    """

    script: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    arguments: Sequence[str] = ()
    command: Sequence[str] = ()
    files: Sequence[str] = ()

    @property
    def script_file(self) -> Path:
        """The file of ``script``."""
        return _WORKFLOW / self.script

    @property
    def settings_text(self) -> str:
        """``settings`` as one canonical string."""
        return canonical_json(self.settings)


def _step(function: Callable[..., Step]) -> Callable[..., Step]:
    STEPS[function.__name__] = function
    return function


def _flags(prefix: str, values: Mapping[str, Any]) -> list[str]:
    """``--<prefix><key> <value>`` for each entry that has a value."""
    return [word for key, value in values.items() if value is not None for word in (f"--{prefix}{key}", str(value))]


# ------------------------------------------------------------------------------------------------------------- data
@_step
def make_demo(settings: Settings) -> Step:
    """Draw the demo set."""
    return Step("scripts/make_demo.py", {"seed": 0})


@_step
def index_shard(settings: Settings, shard: str) -> Step:
    """Look at every image of a shard."""
    dataset = settings["dataset"]
    chosen = {key: dataset[key] for key in ("labels", "wnids", "classes", "limit")}
    arguments = ["--root", names.dataset_root(settings), "--shards", str(settings["shards"])]
    return Step(
        "scripts/index_dataset.py",
        {"dataset": {key: dataset[key] for key in ("name", "limit", "on_fault")}, "shards": settings["shards"]},
        [*arguments, "--on_fault", dataset["on_fault"], *_flags("", chosen)],
    )


@_step
def index_dataset(settings: Settings) -> Step:
    """Put the manifests of the shards together."""
    return Step("scripts/gather_manifest.py")


def _calibration_source(settings: Settings) -> dict[str, Any]:
    """The dataset that calibration images are chosen from, and where its classes stand."""
    source, dataset = settings["calibration"]["source"], settings["dataset"]
    if source is not None:
        other = beside(described_dataset(settings), Path(source))
        return {"root": source, "wnids": other.wnids, "classes": other.numbering}
    if settings.is_demo:
        return {"root": names.DEMO_ROOT, "part": "train"}
    # The dataset's own label files belong to its validation images, not to another source.
    return {key: dataset[key] for key in ("root", "labels", "wnids", "classes")}


@_step
def sample_calibration(settings: Settings) -> Step:
    """Choose the images that int8 ranges are taken from."""
    calibration, dataset = settings["calibration"], settings["dataset"]
    arguments = ["--images", str(calibration["images"]), "--seed", str(calibration["seed"])]
    arguments += ["--on_fault", dataset["on_fault"], *_flags("", _calibration_source(settings))]
    if calibration["source"] is not None:
        # Every class of the dataset must be among them. Not read from its manifest: one replaced image of the
        # dataset would calibrate everything anew.
        chosen_by = {key: dataset[key] for key in ("labels", "wnids", "classes", "limit")}
        scored = {"root": names.dataset_root(settings), **chosen_by}
        arguments += _flags("classes_", scored)
    chosen = {key: calibration[key] for key in ("images", "seed", "source")}
    return Step("scripts/sample_calibration.py", {"calibration": chosen}, arguments)


@_step
def write_npz(settings: Settings, geometry: str, shard: str) -> Step:
    """Decode the images of a shard into one npz of inputs."""
    preprocessing = names.model_of_geometry(settings, geometry).preprocessing
    # With relative paths in the list, results can be moved.
    arguments = ["--shard", shard, "--relative", "--preprocessing", canonical_json(preprocessing.geometry_json())]
    return Step("scripts/image2npz.py", {"geometry": geometry, "shard": shard, "of": settings["shards"]}, arguments)


@_step
def write_image_npz(settings: Settings, geometry: str, shard: str) -> Step:
    """Decode the images of a shard into npz inputs of one image each."""
    arguments = ["--shard", shard, "--exact"]
    if settings["engine"] == "ort":
        arguments.append("--relative")  # the vendor's tool wants absolute paths
    if geometry == "original":
        arguments.append("--original")
    else:
        preprocessing = names.model_of_geometry(settings, geometry).preprocessing
        arguments += ["--preprocessing", canonical_json(preprocessing.geometry_json())]
    return Step("scripts/image2npz.py", {"geometry": geometry, "shard": shard, "of": settings["shards"]}, arguments)


# ------------------------------------------------------------------------------------------------------------ model
@_step
def train_demo(settings: Settings, variant: str) -> Step:
    """Train weights on the demo set."""
    model = settings.models[variant]
    return Step(
        "scripts/train_demo.py",
        {"library": model.library, "name": model.name, "seed": 0},
        ["--model_library", model.library, "--model_name", model.name],
    )


@_step
def export_model(settings: Settings, variant: str, name: str, size: str) -> Step:
    """Write a variant's graph as ONNX."""
    model, file = settings.models[variant], names.weights(settings, variant)
    if model.is_onnx:
        return _import_onnx(model, name, size)
    arguments = ["--model_library", model.library, "--model_name", name, "--size", size]
    arguments += ["--weights", model.weights] if file is None else ["--pretrained_weights", file]
    arguments += ["--sha256", model.sha256] if model.sha256 else []
    arguments += ["--weights_key", model.weights_key] if model.weights_key else []
    arguments += [] if model.transform_input else ["--no_transform_input"]
    return Step(
        "scripts/export_timm_torchvision_model.py",
        {
            "library": model.library,
            "name": name,
            "size": size,
            # A file is an input, known by its content.
            "weights": model.weights if file is None else "file",
            "sha256": model.sha256,
            "weights_key": model.weights_key,
            "transform_input": model.transform_input,
            # Which published weights the file counts as stands in the description of the graph.
            "preset": model.preset.entry,
        },
        arguments,
        ["export_timm_torchvision_model.py"],
    )


def _import_onnx(model: ModelSettings, name: str, size: str) -> Step:
    """Make the user's own ONNX file what the exporter would have written."""
    values = canonical_json(model.preprocessing.to_json())  # for a word about what the graph itself does to values
    arguments = ["--model", model.weights, "--name", name, "--size", size, "--preprocessing", values]
    arguments += _flags("", {"output": model.output, "sha256": model.sha256})
    settings = {"name": name, "size": size, "output": model.output, "sha256": model.sha256, "values": values}
    return Step("scripts/import_onnx.py", settings, arguments, ["import_onnx.py"])


@_step
def condition_model(settings: Settings, variant: str, name: str, size: str) -> Step:
    """Make a graph robust to int8 for a compiler that does not do so itself."""
    model = settings.models[variant]
    arguments = ["--preprocessing", canonical_json(model.preprocessing.to_json())]
    arguments += ["--calibration", names.calibration_images(settings)]
    arguments += ["--images", str(settings["calibration"]["images"]), "--target", settings.conditioning_target]
    return Step("scripts/condition_model.py", {"arguments": arguments}, arguments)


# ------------------------------------------------------------------------------------------------------------ build
@_step
def write_build_config(settings: Settings, variant: str, precision: str) -> Step:
    """Write what the compiler is told, and the preprocessing file."""
    engine = settings.engine_of(precision)
    arguments = ["--name", variant, "--precision", precision, "--engine", engine]
    arguments += ["--preprocessing", canonical_json(settings.models[variant].preprocessing.to_json())]
    # Beside the card's rows fp32 is the reference: its means are not rounded to fp16, whatever form the card reads.
    form = settings["vdsp_params"] if engine == settings["engine"] else "current"
    arguments += ["--npz", settings["npz"], "--vdsp_variant", form]
    arguments += ["--work_dir", names.build_folder(variant, precision)]
    if settings.on_card(precision):
        arguments += ["--generation", str(settings["vacc"]["generation"]), *_card_options(settings, precision)]
    else:
        arguments += ["--runtime", settings["runtime"]]
    if is_quantized(precision):
        arguments += ["--quantize", canonical_json(settings["quantize"])]
        arguments += ["--calibration", names.calibration_images(settings)]
        arguments += ["--images", str(settings["calibration"]["images"])]
    return Step("scripts/write_build_config.py", {"arguments": arguments}, arguments)


def _card_options(settings: Settings, precision: str) -> list[str]:
    """What the build file says to the card's compiler alone; nothing where nothing is set."""
    card = settings["vacc"]
    sections = ("compile", "quantize") if is_quantized(precision) else ("compile",)
    options = {section: card[section] for section in sections if card[section]}
    arguments = ["--card_options", canonical_json(options)] if options else []
    return arguments + (["--softmax"] if _adds_softmax(settings, precision) else [])


def _adds_softmax(settings: Settings, precision: str) -> bool:
    return settings.on_card(precision) and settings["vacc"]["extra_ops"] in ("softmax", {"type": "softmax"})


@_step
def compile_model(settings: Settings, variant: str, precision: str) -> Step:
    """Compile and quantize: by the vendor's compiler for the card, else by the embedded one."""
    files = names.compiled_files(settings, variant, precision)
    if settings.on_card(precision):
        info = f"{names.build_folder(variant, precision)}/model_info.json"
        command = ["call_vamc.py", "--vamc", settings["vacc"]["vamc"], "--model_info", info, *_hwconfig(settings)]
        return Step("scripts/call_vamc.py", {"compiler": command}, command=command, files=files)
    command = ["ort-vamc", "build"]
    return Step("mnasbench/commands/ort_vamc.py", {"compiler": command}, command=command, files=files)


def _hwconfig(settings: Settings) -> list[str]:
    return _flags("", {"hwconfig": settings["vacc"]["hwconfig"]})


# -------------------------------------------------------------------------------------------------------------- run
def _performance_tool(settings: Settings, variant: str, precision: str) -> tuple[str, list[str]]:
    """The script whose code measures and scores a row, and the words that call it; both tools take the same flags."""
    if settings.on_card(precision):
        card, size = settings["vacc"], settings.models[variant].size_label
        options = ["--vamp", card["vamp"], "--size", size, "-d", str(card["device"]), *_hwconfig(settings)]
        return "scripts/call_vamp.py", ["call_vamp.py", *options]
    return "mnasbench/commands/ort_vamp.py", ["ort-vamp"]


@_step
def measure_performance(settings: Settings, variant: str, precision: str) -> Step:
    """Measure throughput and latency."""
    script, command = _performance_tool(settings, variant, precision)
    vamp = settings["vamp"]
    # How many instances fill a card says nothing of the CPU beside it.
    instances = vamp["instances"] if settings["engine"] == settings.engine_of(precision) else "auto"
    load = ["-i", str(instances), "-p", str(vamp["processes"]), "-b", str(vamp["batch_size"])]
    if not settings.on_card(precision):
        load += ["--retries", str(vamp["retries"])]
    if vamp["iterations"]:
        load += ["--iterations", str(vamp["iterations"])]
    prefix = ["-m", names.compiled_prefix(settings, variant, precision)]
    return Step(script, {"vamp": vamp, "tool": command}, [*prefix, *load], command)


@_step
def run_accuracy(settings: Settings, variant: str, precision: str, shard: str) -> Step:
    """Run a row's model on the images of a shard."""
    script, command = _performance_tool(settings, variant, precision)
    batch_size = settings["vamp"]["batch_size"]
    arguments = ["-m", names.compiled_prefix(settings, variant, precision), "-b", str(batch_size)]
    return Step(script, {"batch_size": batch_size, "tool": command}, arguments, command)


def accuracy_sessions(settings: Settings, precision: str, threads: int) -> list[str]:
    """Arguments for the sessions of ``run_accuracy``: as many as threads on a CPU, as configured on the card."""
    vamp = settings["vamp"]
    instances, processes = (vamp["instances"], vamp["processes"]) if settings.on_card(precision) else (threads, 1)
    return ["-i", str(instances), "-p", str(processes)]


# ----------------------------------------------------------------------------------------------------------- result
def has_reference(settings: Settings, precision: str) -> bool:
    """Whether a row is held against the fp32 row of its variant."""
    return precision != BASELINE and BASELINE in settings["precisions"]


@_step
def evaluate_outputs(settings: Settings, variant: str, precision: str) -> Step:
    """Turn a row's scores into answers and accuracies."""
    probabilities = _adds_softmax(settings, precision)
    arguments = ["--probabilities"] if probabilities else []
    used: dict[str, Any] = {"probabilities": True} if probabilities else {}
    if any(map(is_quantized, settings["precisions"])):
        used["split"] = settings["calibration"]["split"]
        arguments += ["--calibration", names.calibration_digests(settings), *(["--split"] if used["split"] else [])]
    return Step("scripts/eval_imagenet.py", used, arguments)


def judged_precision(settings: Settings) -> str:
    """The precision whose preprocessing file the parity certificate is about: the card's, where there is a card."""
    return next((precision for precision in settings["precisions"] if settings.on_card(precision)), BASELINE)


@_step
def check_parity(settings: Settings, variant: str) -> Step:
    """Certify that the model is given the images that its publisher would give it."""
    model = settings.models[variant]
    published = model.preset.preprocessing_for(model.size).to_json()  # whatever is configured here
    arguments = ["--model", names.compiled_prefix(settings, variant, BASELINE)]
    arguments += ["--published", canonical_json(published)]
    if settings["parity"]["images"]:
        arguments += ["--images", str(settings["parity"]["images"])]
    return Step("scripts/check_parity.py", {"published": published, "parity": settings["parity"]}, arguments)


@_step
def summarize(settings: Settings) -> Step:
    """Put the rows together."""
    rows = _summary_rows(settings)
    return Step("scripts/summarize.py", rows, ["--rows", canonical_json(rows)])


def _summary_rows(settings: Settings) -> dict[str, Any]:
    """What the rows are, the files they come from, and the published accuracies beside them.

    Names that differ from row to row in nothing but the row's own are given once, with {model}, {precision} and
    {shard} in them: a shell command has no room for all.
    """
    row, quantized = ("{model}", "{precision}"), any(map(is_quantized, settings["precisions"]))
    return {
        "dataset": settings["dataset"]["name"],
        "shards": len(names.shards(settings)),
        "data": {"manifest": names.manifest(settings), "classes": names.classes(settings)}
        | ({"calibration": names.calibration_list(settings)} if quantized else {}),
        "files": {
            "compiled": names.compiled(*row),
            "performance": names.performance(*row),
            "accuracy": names.accuracy(*row),
            "peak": names.peak(*row),
            "parity": names.parity(row[0]) if BASELINE in settings["precisions"] else None,
        },
        "answers": [names.answers(*row)],
        "variants": [_summary_variant(settings, variant) for variant in settings.models],
    }


def _summary_variant(settings: Settings, variant: str) -> dict[str, Any]:
    """What ``_summary_rows`` says of one variant."""
    model = settings.models[variant]
    published = model.preset if settings.dataset_is_imagenet else None
    return {
        "model": variant,
        "exported": f"{names.exported(settings, variant)}.json",
        "reference": {
            "top1": published.top1 if published else None,
            "top5": published.top5 if published else None,
            "source": published.source if published and published.top1 is not None else "",
        },
        "rows": [_summary_row(settings, variant, precision) for precision in settings["precisions"]],
    }


def _summary_row(settings: Settings, variant: str, precision: str) -> dict[str, Any]:
    """What ``_summary_rows`` says of one row."""
    files = names.compiled_files(settings, variant, precision)
    layers = next((file for file in files if file.endswith("/quantization.csv")), None)
    parity = {"parity": None} if settings.models[variant].is_onnx else {}
    certificate = names.certificate(settings, variant) if settings.is_conditioned(precision) else None
    own = {"layers": layers, "condition": certificate} | parity
    return {"precision": precision, "engine": settings.engine_of(precision), "files": own}


@_step
def make_report(settings: Settings) -> Step:
    """Write the report."""
    arguments = ["--dataset_path", names.dataset_root(settings)]
    class_names = f"{names.DEMO_ROOT}/classes.txt" if settings.is_demo else settings["dataset"]["class_names"]
    arguments += _flags("", {"class_names": class_names})
    if settings.dataset_is_imagenet:
        arguments.append("--imagenet")
    if any(map(is_quantized, settings["precisions"])):
        arguments += _flags("calibration_", _calibration_source(settings))
    return Step(
        "scripts/report.py",
        {
            "names": settings["dataset"]["class_names"],
            "imagenet": settings.dataset_is_imagenet,
            "templates": _page_digest(),
            "peaks": names.peaks(settings),
        },
        arguments,
    )


def _page_digest() -> str:
    """The digest of what pages are made from besides code: templates, style, script, published results."""
    folder = _WORKFLOW / "mnasbench/result"
    files = sorted([folder / "published.json", *(folder / "templates").iterdir()])
    return sha256_of_bytes("".join(sha256_of_file(file) for file in files).encode())
