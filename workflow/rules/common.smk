"""What all rules stand on: the settings, the digests of code, the record of each job, and where files are."""

import functools
import os
import shlex
import shutil
import signal
import sys
import threading
from pathlib import Path

from snakemake_interface_logger_plugins.common import LogEvent

import mnasbench
from mnasbench.data.available import (
    check_data,
    check_results,
    input_bytes,
    output_bytes,
    whole_input_bytes,
)
from mnasbench.data.fingerprint import Dataset, changed_files, dataset_changes, read_manifest
from mnasbench.disk_room import require_room
from mnasbench.errors import MnasbenchError, OutputError, one_line
from mnasbench.files import canonical_json, read_yaml, sha256_of_bytes, sha256_of_file
from mnasbench.precisions import is_quantized
from mnasbench.processes import former_holder, is_gone, sign, take, this_process
from mnasbench.provenance import RECEIPT_SUFFIX, code_digest, damaged_receipts
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
    named = [file["models"] for file in named if isinstance(file, dict) and isinstance(file.get("models"), dict)]
    models = config.get("models")
    if named and isinstance(models, dict):
        models = {name: models[name] for file in named for name in file}
    return {**config, "models": models}


def refuse(told, code=2):
    """End before anything is planned; an exception here would be Snakemake's traceback."""
    print(f"mnasbench: error{told}", file=sys.stderr)
    sys.exit(code)


try:
    SETTINGS = load_settings(configured())
    if workflow.is_main_process:
        EXTENT = check_data(SETTINGS, on_cluster=workflow.resource_settings.nodes is not None)
        check_results(Path())
        # Each job's own Snakemake asks for it on its node, where counting 50,000 images of a shared disk takes long.
        os.environ.update(MNASBENCH_IMAGES=str(EXTENT.images))
except MnasbenchError as error:
    refuse(f"{'' if isinstance(error, OutputError) else ' in the configuration'}: {error}", error.exit_code)

# The commands are found beside this Snakefile and the interpreter that runs it, by variables and not by paths in
# the rules: a shell command that names a path would count as changed code wherever the checkout moves.
SCRIPTS = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parent / "scripts"
if SCRIPTS.is_dir() and not SCRIPTS.parent.samefile(Path(mnasbench.__file__).parent.parent):
    refuse(
        f": {one_line(SCRIPTS.parent)}: belongs to another checkout than the mnasbench of this Python ({sys.prefix}); "
        "run `make` here, or this checkout's own .venv/bin/snakemake"
    )
os.environ.update(
    MNASBENCH_SCRIPTS=str(SCRIPTS),
    MNASBENCH_RUNNER=this_process(),
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]),
)


def is_news(record):
    """Whether a message of Snakemake's tells more than record.py does of the same job."""
    started = record.getMessage().startswith(("Select jobs to execute", "Execute "))
    return not started and getattr(record, "event", None) != LogEvent.JOB_FINISHED


# The user's own workflow says what it likes.
if not workflow.modifier.skip_configfile:
    logger.addFilter(is_news)


def step(command, arguments, also=""):
    """The shell command of a step: record.py, which keeps its output and writes its receipt, then the step's own.

    ``command`` is a script of ours or any other command; ``also`` is more that the step makes (files that its rule
    cannot declare, or ``--folders`` that it fills).
    """
    recorder = (
        'python "$MNASBENCH_SCRIPTS/record.py" --receipt {output.receipt:q} --log {log:q}'
        " --settings {params.settings:q} --code {params.code:q} --threads {threads} --inputs {input:q} --outputs {output:q}"
    )
    own = f'python "$MNASBENCH_SCRIPTS/{command}"' if command.endswith(".py") else command
    return f"{recorder} {also} -- {own} {arguments}"


# Where record.py notes what failed, to be said again when all has stopped.
FAILURES = Path("results/logs/failures.txt")

DATASET = SETTINGS["dataset"]
DATA = f"results/data/{DATASET['name']}"
DEMO_ROOT = f"results/data/{DEMO}/images"
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
    """The digest of the code that a script runs, or one of the two commands that are installed."""
    file = SCRIPTS / script
    return code_digest(file if file.is_file() else SCRIPTS.parent / "mnasbench" / "commands" / script)


# ------------------------------------------------------------------------------------------------------------- data
def dataset_root():
    return DEMO_ROOT if SETTINGS.is_demo else DATASET["root"]


def demo_files(wildcards):
    """What must be made before the images can be read; nothing where the user brings them."""
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


def manifests():
    """The manifests of the shards, in their order."""
    return [f"{DATA}/manifests/{shard}.csv" for shard in SHARDS]


def datalist(variant, shard):
    return f"{DATA}/lists/{inputs_name(variant)}-{shard}.txt"


def datalist_receipt(variant, shard):
    return f"{DATA}/lists/{inputs_name(variant)}-{shard}.receipt.json"


def inputs_name(variant):
    """Names the npz inputs that a variant reads: those of its geometry, or the whole images."""
    return "original" if SETTINGS["npz"] == "original" else MODELS[variant].preprocessing.label


def geometry_model(geometry):
    """Some variant with this geometry (all of them give the same pixels)."""
    return next(model for model in MODELS.values() if geometry in (model.preprocessing.label, "original"))


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
    yield from (f"{DATA}/manifests/{shard}.receipt.json" for shard in SHARDS)
    yield f"{DATA}/manifest.receipt.json"
    if any(map(is_quantized, PRECISIONS)):
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

    Snakemake itself sees neither a truncated output nor a lost intermediate one nor an image that was replaced.
    The receipts and the manifest do; what they find goes the way of ``--forcerun``, so a dry run shows it and
    changes nothing. Only jobs that the call's targets need anyway are affected.
    """
    if not workflow.is_main_process:
        return
    own_results()
    receipts = [Path(receipt) for receipt in chain_receipts(MODELS, PRECISIONS)]
    receipts += [Path("results/summary.receipt.json"), Path("results/report.receipt.json")]
    by_contents = SETTINGS["verify"] == "contents"
    memory = None if by_contents else Path("results/looked-at.json")
    there = [receipt for receipt in receipts if receipt.is_file()]
    # The receipt is the one output of a job that its rule always declares.
    repairs = {str(receipt) for receipt in damaged_receipts(there, memory, by_contents)}
    try:
        changes = dataset_changes(described_dataset(), [Path(file) for file in manifests()], by_contents, EXTENT.files)
        repairs.update(manifests()[change.shard] for change in changes)
        if calibration_is_changed(changes):
            repairs.add(f"{DATA}/calibration.receipt.json")
        told = [str(change) for change in changes]
    except MnasbenchError as error:
        told = [str(error)]  # The indexing jobs say it as their own error
        repairs.update(manifests())
    if told:
        more = f" and {len(told) - 1} more" if len(told) > 1 else ""
        logger.info(f"The dataset differs from its manifest: {told[0]}{more}")
    chosen = Path(f"{DATA}/calibration.sha256")
    if chosen.is_file():
        try:
            found = changed_files(chosen)
        except MnasbenchError as error:
            found = [str(error)]
        if found:
            logger.info(f"Calibration images differ from those that were chosen: {found[0]}")
            repairs.add(str(chosen))
    workflow.dag.forcefiles.update(repairs)


def end_by_signal():
    """Let SIGTERM end the run at any moment.

    Snakemake's own handler waits for a lock that the interrupted thread itself may hold, and then for ever; from a
    thread of its own it does not.
    """
    snakemakes = signal.getsignal(signal.SIGTERM)
    if callable(snakemakes):
        signal.signal(
            signal.SIGTERM, lambda number, frame: threading.Thread(target=snakemakes, args=(number, frame)).start()
        )


def expected_time():
    """One line: how long the planned jobs will take, by the receipts of earlier ones."""
    planned = {}
    for job in workflow.dag.needrun_jobs():
        receipt = next((Path(file) for file in job.output if file.endswith(RECEIPT_SUFFIX)), None)
        planned[job] = PlannedJob(job.rule.name, receipt, job.threads, list(workflow.dag.dependencies[job]))
    found = estimate(
        planned,
        job_times(map(Path, chain_receipts(MODELS, PRECISIONS))),
        workflow.resource_settings.cores or sys.maxsize,
    )
    if found.seconds is None:
        return "How long this takes is not known: nothing was run here before."
    without = f", without {', '.join(found.unknown)}, never run here" if found.unknown else ""
    return f"This takes about {duration(found.seconds)} by what the same jobs took before{without}."


def check_cores():
    """End the run that was given no cores: Snakemake plans it and then waits, without a word and without end."""
    cores = workflow.resource_settings.cores
    if cores is not None and cores < 1:
        refuse(f": --cores {cores}: expected a number of cores, 1 or more, or all")


def check_room_for_planned():
    """End the run where the disk will not hold a file for each image of its jobs.

    Told here and not by the jobs, because each of them knows its own shard only: the disk would fill in the middle.
    """
    missing = {}
    for job in workflow.dag.needrun_jobs():
        if job.rule.name == "write_npz":
            size = npz_bytes(job.wildcards.geometry)
        elif job.rule.name == "run_accuracy":
            size = output_bytes(EXTENT.classes)
        else:
            continue
        folder = Path(job.params.folder)
        # What a killed run left, or what is written anew, takes no more room than it has.
        there = sum(len(names) for _, _, names in os.walk(folder))
        missing[folder] = size * max(0, images_a_shard() - there)
    try:
        require_room(missing, "this run")
    except OutputError as error:
        print(f"mnasbench: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


@functools.cache
def npz_bytes(geometry):
    """What the input of one image takes on a disk."""
    if geometry != "original":
        return input_bytes(geometry_model(geometry).size)
    return whole_input_bytes(Path(dataset_root())) if Path(dataset_root(), "val").is_dir() else 0


def own_results():
    """Hold the results folder for this run; free it of the lock that a killed run of this machine left.

    Snakemake's own lock stays behind when it is killed, or power fails. It is removed only where the process that
    made it is known to have ended; while another run lives, Snakemake refuses, and why is said before it does.
    """
    if workflow.dryrun or workflow.touch:
        return
    lock = Path(".snakemake/mnasbench.lock")
    before = former_holder(lock)
    holder = take(lock)
    if holder is not None:
        logger.error(f"Another run works on {Path('results').resolve()} (process {holder}); wait for it, or end it.")
        return
    # What Snakemake itself calls locked is by the jobs of a plan, which is not yet made here; and its own way of
    # unlocking takes the folder along, which the lock of this run belongs in.
    left = list(Path(".snakemake/locks").glob("*.lock"))
    if before and is_gone(before) and left:
        logger.info("The last run was killed; its lock is removed, and what it did not finish is made again.")
        for file in left:
            file.unlink()
    sign(lock)
    # Jobs inherit it, on a cluster as well: those that a killed run left in a queue see that it is no longer theirs.
    os.environ.update(MNASBENCH_RUN=this_process())


def calibration_is_changed(changes):
    """Whether a change of the dataset may change which of its images are chosen, where they are its own."""
    manifest = Path(f"{DATA}/manifest.csv")
    if SETTINGS.is_demo or SETTINGS["calibration"]["source"] is not None or not changes or not manifest.is_file():
        return False
    known = {image.name for image in read_manifest(manifest, with_faulty=True)}
    # Another content is seen by the digests of the chosen ones. And what is new to its shard, but not to the
    # dataset, only says that the number of shards is another.
    return any(not change.is_of_content and not (change.is_new and change.name in known) for change in changes)


def remove_former_shards():
    """Remove what was made of shards that the present number of them does not have: nothing will read it again."""
    patterns = [f"{DATA}/manifests/*", f"{DATA}/lists/*", f"{DATA}/npz/*/*"]
    for variant in MODELS:
        for precision in PRECISIONS:
            patterns += [f"results/run/{variant}/{precision}/{what}" for what in ("accuracy-*", "outputs/*")]
            patterns += [f"results/result/{variant}/{precision}/answers-*"]
    for pattern in patterns:
        for path in Path().glob(pattern):
            number = re.search(r"(?:^|-)(\d+)(?:\.|$)", path.name)
            if number and int(number[1]) >= len(SHARDS):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


# --------------------------------------------------------------------------------------------------------- resources
# Images for one more thread: some five seconds of decoding. Less is not worth holding a core for.
IMAGES_A_THREAD = 2000


@functools.cache
def images_a_shard():
    """How many images a shard has, about: what memory and time of a job are asked for by."""
    told = os.environ.get("MNASBENCH_IMAGES")  # some executors hand no environment on
    return -(-(int(told) if told else check_data(SETTINGS).images) // len(SHARDS))


def threads_for_images(wildcards):
    """Threads of a job that goes through the images of a shard."""
    return max(1, min(16, images_a_shard() // IMAGES_A_THREAD))


def images_of_parity():
    """How many images the parity certificate is made of, about."""
    images = images_a_shard() * len(SHARDS)
    return min(images, SETTINGS["parity"]["images"] or images)


def threads_for_parity(wildcards):
    """Threads of the parity certificate, where an image costs more than elsewhere, and is read again."""
    return max(1, min(16, images_of_parity() // (IMAGES_A_THREAD // 2)))


# Memory in MB, more of it a thread, minutes, and images a minute and thread (0: not by images). The receipts of
# runs on two cores say what was used; here stands three times that, for larger images, nets and slower disks.
NEEDS = {
    "make_demo": (500, 300, 10, 0),
    "index_shard": (500, 400, 5, 6000),
    "sample_calibration": (800, 400, 10, 1000),
    "write_npz": (500, 600, 5, 6000),
    "train_demo": (4000, 0, 60, 0),
    "export_model": (2000, 0, 15, 0),
    "compile_model": (4000, 0, 20, 60),
    "measure_performance": (1000, 250, 30, 0),
    "run_accuracy": (1000, 400, 5, 1500),
    "evaluate_outputs": (1000, 0, 5, 6000),
    "check_parity": (2000, 300, 10, 1000),
}
# What a measurement may start on a machine with very many cores.
MOST_SESSIONS = 64


def needs(name):
    """Memory (mem_mb) and time (runtime, in minutes) that a job asks a cluster for; a retry asks for more."""
    base_mb, thread_mb, base_minutes, images_a_minute = NEEDS[name]

    def mem_mb(wildcards, threads, attempt):
        return attempt * (base_mb + thread_mb * min(threads, MOST_SESSIONS))

    def runtime(wildcards, threads, attempt):
        images = images_a_shard()
        if name in ("sample_calibration", "compile_model"):
            images = SETTINGS["calibration"]["images"]
        elif name == "check_parity":
            images = images_of_parity()
        minutes = images / images_a_minute / max(1, min(threads, MOST_SESSIONS)) if images_a_minute else 0
        return attempt * round(base_minutes + minutes)

    return {"mem_mb": mem_mb, "runtime": runtime}


# -------------------------------------------------------------------------------- the arguments of each step's command
def index_arguments():
    arguments = ["--root", dataset_root(), "--shards", str(SETTINGS["shards"]), "--on_fault", DATASET["on_fault"]]
    for flag in ("labels", "wnids", "limit"):
        if DATASET[flag] is not None:
            arguments += [f"--{flag}", str(DATASET[flag])]
    return arguments


def calibration_source(prefix="--"):
    """Arguments that say which dataset calibration images are chosen from, and where its classes stand."""
    if SETTINGS["calibration"]["source"] is not None:
        chosen = {"root": SETTINGS["calibration"]["source"], "part": "val"}
    elif SETTINGS.is_demo:
        chosen = {"root": DEMO_ROOT, "part": "train"}
    else:
        # The dataset's own label files belong to its validation images, not to another source.
        chosen = {"root": DATASET["root"], "part": "val", "labels": DATASET["labels"], "wnids": DATASET["wnids"]}
    return [word for flag, value in chosen.items() if value is not None for word in (f"{prefix}{flag}", str(value))]


def calibration_arguments():
    chosen = SETTINGS["calibration"]
    arguments = ["--images", str(chosen["images"]), "--seed", str(chosen["seed"]), "--on_fault", DATASET["on_fault"]]
    arguments += calibration_source()
    if chosen["source"] is not None:
        # Every class of the dataset must be among them. Not read from its manifest: one replaced image of the
        # dataset would calibrate everything anew.
        wanted = {"root": dataset_root(), **{key: DATASET[key] for key in ("labels", "wnids", "limit")}}
        arguments += [word for key, value in wanted.items() if value for word in (f"--classes_{key}", str(value))]
    return arguments


def npz_arguments(wildcards):
    # The vendor's tool wants absolute paths; ours takes relative ones, so that results can be moved.
    arguments = ["--shard", str(wildcards.shard), *(["--relative"] if SETTINGS["engine"] == "ort" else [])]
    if wildcards.geometry == "original":
        return [*arguments, "--original"]
    model = geometry_model(wildcards.geometry)
    return [*arguments, "--preprocessing", canonical_json(model.preprocessing.geometry_json())]


def export_arguments(variant):
    model, file = MODELS[variant], weights_file(variant)
    weights = ["--weights", model.weights] if file is None else ["--pretrained_weights", file]
    pinned = ["--sha256", model.sha256] if model.sha256 else []
    return ["--model_library", model.library, *weights, *pinned]


def build_arguments(variant, precision):
    """What the build file says, as arguments; one list for the command and for the record of its settings."""
    arguments = ["--name", variant, "--precision", precision, "--engine", SETTINGS.engine_of(precision)]
    arguments += ["--preprocessing", canonical_json(MODELS[variant].preprocessing.to_json())]
    # Beside the card's rows fp32 is the reference: its means are not rounded to fp16, whatever form the card reads.
    form = "current" if SETTINGS.engine_of(precision) != SETTINGS["engine"] else SETTINGS["vdsp_params"]
    arguments += ["--npz", SETTINGS["npz"], "--vdsp_variant", form]
    arguments += ["--work_dir", f"results/build/{variant}/{precision}"]
    if SETTINGS.engine_of(precision) == "vacc":
        arguments += ["--generation", str(SETTINGS["vacc"]["generation"])]
    else:
        arguments += ["--runtime", SETTINGS["runtime"]]
    if is_quantized(precision):
        arguments += ["--quantize", canonical_json(SETTINGS["quantize"])]
        arguments += ["--calibration", f"{DATA}/calibration/images"]
        arguments += ["--images", str(SETTINGS["calibration"]["images"])]
    return arguments


def calibration_list(precision):
    return f"{DATA}/calibration.txt" if is_quantized(precision) else []


def calibration_receipt(precision):
    return f"{DATA}/calibration.receipt.json" if is_quantized(precision) else []


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
    if is_quantized(precision):
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


def parity_arguments():
    images = SETTINGS["parity"]["images"]
    return f"--images {images}" if images else ""


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
    if any(map(is_quantized, PRECISIONS)):
        arguments += calibration_source("--calibration_")
    return arguments


def page_digest():
    """The digest of what pages are made from besides code: templates, style, script, published results."""
    folder = SCRIPTS.parent / "mnasbench" / "result"
    files = sorted([folder / "published.json", *(folder / "templates").iterdir()])
    return sha256_of_bytes("".join(sha256_of_file(file) for file in files).encode())
