"""What all rules stand on: the settings, the digests of code, the record of each job, and where files are."""

import functools
import os
import shlex
import sys
from pathlib import Path

from mnasbench.data.available import check_data
from mnasbench.data.fingerprint import Dataset, changed_files, dataset_changes
from mnasbench.errors import MnasbenchError
from mnasbench.files import canonical_json, read_yaml, sha256_of_bytes, sha256_of_file
from mnasbench.provenance import RECEIPT_SUFFIX, code_digest, damaged_outputs
from mnasbench.result.times import PlannedJob, duration, estimate, job_times
from mnasbench.settings import DEMO, load_settings


# Everything in conda or a container is the user's choice (--sdm apptainer); the lock file is what is tested.
container: "docker://python:3.11"


def configured():
    """The configuration of this call; a file on top of the default one that names models names all of them.

    As a module of another workflow: what that one gives, alone.
    """
    if workflow.modifier.skip_configfile:
        return config
    named = [read_yaml(Path(file)) for file in workflow.overwrite_configfiles or ()]
    models = [name for file in named if isinstance(file, dict) for name in file.get("models") or {}]
    chosen = {name: config["models"][name] for name in models} if models else config.get("models")
    return {**config, "models": chosen}


try:
    SETTINGS = load_settings(configured())
    if workflow.is_main_process:
        check_data(SETTINGS)
except MnasbenchError as error:
    print(f"mnasbench: error in the configuration: {error}", file=sys.stderr)
    sys.exit(error.exit_code)

# The commands are found beside this Snakefile and the interpreter that runs it, by variables and not by paths in
# the rules: a shell command that names a path would count as changed code wherever the checkout moves.
SCRIPTS = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parent / "scripts"
os.environ.update(
    MNASBENCH_SCRIPTS=str(SCRIPTS), PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
)


def step(command, arguments, also=""):
    """The shell command of a step: record.py, which keeps its output and writes its receipt, then the step's own.

    ``command`` is a script of ours or any other command; ``also`` is more that the step makes (files that its rule
    cannot declare, or ``--folders`` that it fills).
    """
    recorder = (
        'python "$MNASBENCH_SCRIPTS/record.py" --receipt {output.receipt:q} --log {log:q}'
        " --settings {params.settings:q} --code {params.code:q} --inputs {input:q} --outputs {output:q}"
    )
    own = f'python "$MNASBENCH_SCRIPTS/{command}"' if command.endswith(".py") else command
    return f"{recorder} {also} -- {own} {arguments}"


# Where record.py notes what failed, to be said again when all has stopped.
FAILURES = Path("results/logs/failures.txt")

DATASET = SETTINGS["dataset"]
DATA = f"results/data/{DATASET['name']}"
DEMO_ROOT = f"results/data/{DEMO}/pictures"
SHARDS = range(SETTINGS["shards"])
MODELS = SETTINGS.models
PRECISIONS = SETTINGS["precisions"]
VACC = SETTINGS["vacc"]


wildcard_constraints:
    variant="|".join(map(re.escape, MODELS)),
    precision="|".join(map(re.escape, PRECISIONS)),
    shard=r"\d+",
    geometry=r"[^/]+",


def settings(**used):
    """The settings that a step uses, as one canonical string: a param that changes exactly when one of them does."""
    return canonical_json(used)


def code(script):
    """The digest of the code that a script runs."""
    return code_digest(SCRIPTS / script)


# ------------------------------------------------------------------------------------------------------------- data
def dataset_root():
    return DEMO_ROOT if SETTINGS.is_demo else DATASET["root"]


def demo_files(wildcards):
    """What must be made before the pictures can be read; nothing where the user brings them."""
    return ["results/data/demo/demo.receipt.json"] if SETTINGS.is_demo else []


def label_files(wildcards):
    """The user's own files that give classes their numbers, so that an edit of one is seen."""
    found = described_dataset()
    files = [found.label_file(), found.wnids_file()] if not SETTINGS.is_demo else []
    return [str(file) for file in files if file is not None]


def described_dataset():
    return Dataset(
        root=Path(dataset_root()),
        labels=Path(DATASET["labels"]) if DATASET["labels"] else None,
        wnids=Path(DATASET["wnids"]) if DATASET["wnids"] else None,
        limit=DATASET["limit"],
    )


def datalist(variant, shard):
    return f"{DATA}/lists/{inputs_name(variant)}-{shard}.txt"


def datalist_receipt(variant, shard):
    return f"{DATA}/lists/{inputs_name(variant)}-{shard}.receipt.json"


def inputs_name(variant):
    """Names the npz inputs that a variant reads: those of its geometry, or the whole pictures."""
    return "original" if SETTINGS["npz"] == "original" else MODELS[variant].geometry


def geometry_model(geometry):
    """Some variant with this geometry (all of them give the same pixels)."""
    return next(model for model in MODELS.values() if geometry in (model.geometry, "original"))


# ------------------------------------------------------------------------------------------------------------ model
def weights_file(variant):
    """The file of a variant's weights, or None where they are downloaded while exporting."""
    model = MODELS[variant]
    if model.weights == DEMO:
        return f"results/model/{variant}/weights.pth"
    return model.weights if model.weights_are_file else None


def exported(variant):
    """The exported graph, without its suffix."""
    return f"results/model/{variant}/{MODELS[variant].name}_{MODELS[variant].size}"


# ------------------------------------------------------------------------------------------------------------ build
def on_card(precision):
    """Whether the vendor's tools make the rows of a precision."""
    return SETTINGS.engine_of(precision) == "vacc"


def compiled(variant, precision):
    """Prefix of the three compiled files."""
    if on_card(precision) and VACC["generation"] == 2:
        return f"results/build/{variant}/{precision}/{variant}/mod"
    size = MODELS[variant].size
    dtype, _, mode = precision.partition("-")
    folder = f"{variant}-{dtype}-{mode or 'none'}-3_{size}_{size}-{SETTINGS.engine_of(precision)}"
    return f"results/build/{variant}/{precision}/{folder}/{variant}"


def description(variant, precision):
    """The JSON that says what was compiled: the third file of ours, or one beside the three of the vendor's."""
    if on_card(precision):
        return f"results/build/{variant}/{precision}/compiled.json"
    return compiled(variant, precision) + ".json"


# ---------------------------------------------------------------------------------------------------------- receipts
def data_receipts(variants):
    yield from demo_files(None)
    yield f"{DATA}/manifest.receipt.json"
    if any(precision.startswith("int8") for precision in PRECISIONS):
        yield f"{DATA}/calibration.receipt.json"
    for name in dict.fromkeys(inputs_name(variant) for variant in variants):
        yield from (f"{DATA}/lists/{name}-{shard}.receipt.json" for shard in SHARDS)


def row_receipts(variant, precision):
    """The receipts of what only one row of the summary needs."""
    yield f"results/build/{variant}/{precision}/config.receipt.json"
    yield f"results/build/{variant}/{precision}/compile.receipt.json"
    yield f"results/run/{variant}/{precision}/performance.receipt.json"
    for shard in SHARDS:
        yield f"results/run/{variant}/{precision}/accuracy-{shard}.receipt.json"
        yield f"results/result/{variant}/{precision}/answers-{shard}.receipt.json"
    yield f"results/result/{variant}/{precision}/accuracy.receipt.json"


def chain_receipts(variants, precisions):
    """The receipts of every job that the rows of these variants and precisions need, in the order of the chain."""
    yield from data_receipts(variants)
    for variant in variants:
        if MODELS[variant].weights == DEMO:
            yield f"results/model/{variant}/train.receipt.json"
        yield f"{exported(variant)}.receipt.json"
        if "fp32" in precisions:
            yield f"results/result/{variant}/parity.receipt.json"
        for precision in precisions:
            yield from row_receipts(variant, precision)


def needed(variants=MODELS, precisions=PRECISIONS):
    """An input function for a target: all receipts of these rows, after a look at what needs repair."""

    def receipts(wildcards):
        force_repairs()
        return list(chain_receipts(variants, precisions))

    return receipts


@functools.cache
def force_repairs():
    """Have Snakemake make again what is missing, cut short, or no longer true of the dataset.

    Snakemake itself sees neither a truncated output nor a lost intermediate one nor a picture that was replaced.
    The receipts and the manifest do; what they find goes the way of ``--forcerun``, so a dry run shows it and
    changes nothing. Only jobs that the call's targets need anyway are affected.
    """
    if not workflow.is_main_process:
        return
    receipts = [Path(receipt) for receipt in chain_receipts(MODELS, PRECISIONS)]
    receipts += [Path("results/summary.receipt.json"), Path("results/report.receipt.json")]
    # The receipt is the one output of a job that its rule always declares.
    repairs = {str(receipt) for receipt in receipts if receipt.is_file() and damaged_outputs(receipt)}
    manifest = Path(f"{DATA}/manifest.csv")
    if manifest.is_file():
        try:
            changes = dataset_changes(described_dataset(), manifest)
        except MnasbenchError as error:
            changes = [str(error)]  # The indexing job says it as its own error
        if changes:
            more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
            logger.info(f"The dataset differs from its manifest: {changes[0]}{more}")
            repairs.add(str(manifest))
    chosen = Path(f"{DATA}/calibration.sha256")
    if chosen.is_file():
        try:
            changes = changed_files(chosen)
        except MnasbenchError as error:
            changes = [str(error)]
        if changes:
            logger.info(f"Calibration pictures differ from those that were chosen: {changes[0]}")
            repairs.add(str(chosen))
    workflow.dag.forcefiles.update(repairs)


def expected_time():
    """One line: how long the planned jobs will take, by the receipts of earlier ones."""
    planned = {}
    for job in workflow.dag.needrun_jobs():
        receipt = next((Path(file) for file in job.output if file.endswith(RECEIPT_SUFFIX)), None)
        planned[job] = PlannedJob(job.rule.name, receipt, job.threads, list(workflow.dag.dependencies[job]))
    found = estimate(planned, job_times(Path("results").rglob(f"*{RECEIPT_SUFFIX}")), workflow.resource_settings.cores or sys.maxsize)
    if found.seconds is None:
        return "How long this takes is not known: nothing was run here before."
    without = f", without {', '.join(found.unknown)}, never run here" if found.unknown else ""
    return f"This takes about {duration(found.seconds)} by what the same jobs took before{without}."


# -------------------------------------------------------------------------------- the arguments of each step's command
def index_arguments():
    arguments = ["--root", dataset_root(), "--shards", str(SETTINGS["shards"]), "--on_fault", DATASET["on_fault"]]
    for flag in ("labels", "wnids", "limit"):
        if DATASET[flag] is not None:
            arguments += [f"--{flag}", str(DATASET[flag])]
    return arguments


def calibration_source(prefix="--"):
    """Arguments that say which dataset calibration pictures are chosen from, and where its classes stand."""
    if SETTINGS["calibration"]["source"] is not None:
        chosen = {"root": SETTINGS["calibration"]["source"], "part": "val"}
    elif SETTINGS.is_demo:
        chosen = {"root": DEMO_ROOT, "part": "train"}
    else:
        # The dataset's own label files belong to its validation pictures, not to another source.
        chosen = {"root": DATASET["root"], "part": "val", "labels": DATASET["labels"], "wnids": DATASET["wnids"]}
    return [word for flag, value in chosen.items() if value is not None for word in (f"{prefix}{flag}", str(value))]


def calibration_arguments():
    chosen = SETTINGS["calibration"]
    arguments = ["--images", str(chosen["images"]), "--seed", str(chosen["seed"]), "--on_fault", DATASET["on_fault"]]
    return arguments + calibration_source()


def npz_arguments(wildcards):
    # The vendor's tool wants absolute paths; ours takes relative ones, so that results can be moved.
    arguments = ["--shard", str(wildcards.shard), *(["--relative"] if SETTINGS["engine"] == "ort" else [])]
    if wildcards.geometry == "original":
        return [*arguments, "--original"]
    model = geometry_model(wildcards.geometry)
    resize = [model.resize] if isinstance(model.resize, int) else model.resize
    return [
        *arguments,
        "--resize",
        *map(str, resize),
        "--crop",
        str(model.size),
        "--interpolation",
        model.preset.interpolation,
    ]


def export_arguments(variant):
    model, file = MODELS[variant], weights_file(variant)
    weights = ["--weights", model.weights] if file is None else ["--pretrained_weights", file]
    return ["--model_library", model.library, *weights]


def build_arguments(variant, precision):
    """What the build file says, as arguments; one list for the command and for the record of its settings."""
    arguments = ["--name", variant, "--precision", precision, "--engine", SETTINGS.engine_of(precision)]
    arguments += ["--preprocessing", canonical_json(MODELS[variant].preprocessing)]
    # Beside the card's rows fp32 is the reference: its means are not rounded to fp16, whatever form the card reads.
    form = "current" if SETTINGS.engine_of(precision) != SETTINGS["engine"] else SETTINGS["vdsp_params"]
    arguments += ["--npz", SETTINGS["npz"], "--vdsp_variant", form]
    arguments += ["--work_dir", f"results/build/{variant}/{precision}"]
    if SETTINGS.engine_of(precision) == "vacc":
        arguments += ["--generation", str(SETTINGS["vacc"]["generation"])]
    else:
        arguments += ["--runtime", SETTINGS["runtime"]]
    if precision.startswith("int8"):
        arguments += ["--quantize", canonical_json(SETTINGS["quantize"])]
        arguments += ["--calibration", f"{DATA}/calibration/pictures"]
        arguments += ["--images", str(SETTINGS["calibration"]["images"])]
    return arguments


def calibration_list(precision):
    return f"{DATA}/calibration.txt" if precision.startswith("int8") else []


def calibration_receipt(precision):
    return f"{DATA}/calibration.receipt.json" if precision.startswith("int8") else []


def shell_words(*words):
    """Words for a shell command that stands in params as it is, because the place of a script must stay a variable."""
    return shlex.join(map(str, words))


def compiler(variant, precision):
    """The command that compiles, to be followed by the build file."""
    if not on_card(precision):
        return "ort-vamc build"
    folder = f"results/build/{variant}/{precision}"
    arguments = ["--vamc", VACC["vamc"], "--json", f"{folder}/compiled.json"]
    arguments += ["--model_info", f"{folder}/model_info.json", *hwconfig_arguments()]
    return f'python "$MNASBENCH_SCRIPTS/call_vamc.py" {shell_words(*arguments)}'


def compiler_code(precision):
    return code("call_vamc.py" if on_card(precision) else "ort_vamc.py")


def hwconfig_arguments():
    return ["--hwconfig", VACC["hwconfig"]] if VACC["hwconfig"] else []


def performance_tool(variant, precision):
    """The command that measures and scores; both take the same flags."""
    if not on_card(precision):
        return "ort-vamp"
    arguments = ["--vamp", VACC["vamp"], "--size", MODELS[variant].size, "-d", VACC["device"], *hwconfig_arguments()]
    return f'python "$MNASBENCH_SCRIPTS/call_vamp.py" {shell_words(*arguments)}'


def performance_code(precision):
    return code("call_vamp.py" if on_card(precision) else "ort_vamp.py")


def compiled_files(variant, precision):
    prefix = compiled(variant, precision)
    if on_card(precision):
        return [*(prefix + suffix for suffix in (".so", ".json", ".params")), description(variant, precision)]
    made = [prefix + suffix for suffix in (".onnx", ".params", ".json")]
    if precision.startswith("int8"):
        made.append(str(Path(prefix).with_name("quantization.csv")))
    return made


def load_arguments(precision):
    """The load of a measurement; how many instances fill a card says nothing of the CPU beside it."""
    vamp = SETTINGS["vamp"]
    instances = "auto" if SETTINGS["engine"] != SETTINGS.engine_of(precision) else vamp["instances"]
    arguments = ["-i", str(instances), "-p", str(vamp["processes"]), "-b", str(vamp["batch_size"])]
    if not on_card(precision):
        arguments += ["--retries", str(vamp["retries"])]
    return arguments + (["--iterations", str(vamp["iterations"])] if vamp["iterations"] else [])


def accuracy_load(precision, threads):
    """Sessions of an accuracy run: as many as threads on a CPU, as configured on the card."""
    vamp = SETTINGS["vamp"]
    instances, processes = (vamp["instances"], vamp["processes"]) if on_card(precision) else (threads, 1)
    return ["-i", str(instances), "-p", str(processes), "-b", str(vamp["batch_size"])]


def has_reference(precision):
    return precision != "fp32" and "fp32" in PRECISIONS


def reference_run(wildcards):
    if not has_reference(wildcards.precision):
        return []
    return f"results/run/{wildcards.variant}/fp32/accuracy-{wildcards.shard}.receipt.json"


def reference_arguments(wildcards):
    if not has_reference(wildcards.precision):
        return []
    return ["--reference_path", f"results/run/{wildcards.variant}/fp32/outputs/{wildcards.shard}"]


def judged_precision():
    """The precision whose preprocessing file the parity certificate is about: the card's, where there is a card."""
    return next((precision for precision in PRECISIONS if on_card(precision)), "fp32")


def published_resize(variant):
    """The short side that the model's publisher resizes to, whatever this configuration does."""
    model = MODELS[variant]
    return model.preset.resize_for(model.size)


def answers(variant, precision):
    return [f"results/result/{variant}/{precision}/answers-{shard}.csv" for shard in SHARDS]


def summary_rows():
    """For each row of the summary: what it is, the files it is read from, and the published accuracies beside it."""
    rows = []
    for variant, model in MODELS.items():
        published = model.preset if SETTINGS.dataset_is_imagenet else None
        reference = {
            "top1": published.top1 if published else None,
            "top5": published.top5 if published else None,
            "source": published.source if published and published.top1 is not None else "",
        }
        for precision in PRECISIONS:
            engine = SETTINGS.engine_of(precision)
            rows.append(
                {
                    "identity": {
                        "model": variant,
                        "precision": precision,
                        "engine": engine,
                        "dataset": DATASET["name"],
                    },
                    "exported": f"{exported(variant)}.json",
                    "compiled": description(variant, precision),
                    "performance": f"results/run/{variant}/{precision}/performance.json",
                    "accuracy": f"results/result/{variant}/{precision}/accuracy.json",
                    "reference": reference,
                    "parity": f"results/result/{variant}/parity.json" if "fp32" in PRECISIONS else None,
                }
            )
    return rows


def row_files(row):
    return [row[key] for key in ("exported", "performance", "accuracy", "parity") if row[key]] + [
        f"results/build/{row['identity']['model']}/{row['identity']['precision']}/compile.receipt.json"
    ]


def peak_files():
    """Curves of the rate of arrivals against p99 that somebody had measured."""
    files = [f"results/run/{variant}/{precision}/peak.json" for variant in MODELS for precision in PRECISIONS]
    return [file for file in files if Path(file).is_file()]


def report_arguments():
    arguments = ["--dataset_path", str(dataset_root())]
    names = f"{DEMO_ROOT}/classes.txt" if SETTINGS.is_demo else DATASET["class_names"]
    if names is not None:
        arguments += ["--class_names", names]
    if SETTINGS.dataset_is_imagenet:
        arguments += ["--imagenet"]
    if any(precision.startswith("int8") for precision in PRECISIONS):
        arguments += calibration_source("--calibration_")
    return arguments


def page_digest():
    """The digest of what pages are made from besides code: templates, style, script, published results."""
    folder = SCRIPTS.parent / "mnasbench" / "result"
    files = sorted([folder / "published.json", *(folder / "templates").iterdir()])
    return sha256_of_bytes("".join(sha256_of_file(file) for file in files).encode())
