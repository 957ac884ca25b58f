"""What the report says, section by section, as values for its template."""

import base64
import io
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from mnasbench.data.datalist import read_datalist
from mnasbench.data.image_keys import by_key
from mnasbench.data.layouts import Dataset, scan
from mnasbench.data.manifest_file import IndexedImage, read_manifest
from mnasbench.data.preprocess import open_image, read_image
from mnasbench.errors import InputError
from mnasbench.preprocessing import Preprocessing
from mnasbench.result.results_folder import Receipt, Results, RowResults

# A page of some 1.5 MB can be mailed: 3 KB an image of this size leave room for 240 of them.
THUMBNAIL_SIDE = 96
MOST_THUMBNAILS = 240
THUMBNAILS_A_ROW = 12


def class_label(index: int, names: Sequence[str]) -> str:
    """A class as a reader wants it: its name where known, and its index, because two classes may share a name."""
    return f"{names[index]} ({index})" if index < len(names) else f"class {index}"


# ------------------------------------------------------------------------------------------------------------ layers
# Why a layer stays in float, by the word that model_info has for it.
_FLOAT_REASONS = {
    "asked": "Asked for by the configuration",
    "kernel": "Without an int8 kernel where they stand",
    "budget": "Put back for the budget",
    "use": "Put back because int8 was of no use with them",
}


def quantization_notes(result: RowResults) -> list[str]:
    """Which layers of an int8 row stay in float, why and what that costs, and what its compiler noted, as sentences."""
    quantization = result.model_info.get("quantization") or {}
    sentences = []
    layers, budget = quantization.get("float_layers") or [], quantization.get("budget")
    if layers:
        share = 100 * quantization.get("float_macs_share", 0.0)
        sentences.append(f"In float: {', '.join(layers)}; they do {share:.1f} % of the multiply-adds, at fp32's speed.")
        reasons = quantization.get("float_reasons") or {}
        for reason, words in _FLOAT_REASONS.items():
            named = [layer for layer in layers if reasons.get(layer) == reason]
            if named:
                sentences.append(f"{words}: {', '.join(named)}.")
    if budget:
        held = f"{budget['drop']:.2f} points of agreement lost on {budget['images']} held-out calibration images"
        allowed = f"{budget['max_drop']:g} allowed"
        back = len(budget["put_back"])
        why = f"; layers put back to float for it: {back}"
        sentences.append(f"Budget: {held}, {allowed}{why}.")
    return [*sentences, *(f"{note[0].upper()}{note[1:]}." for note in quantization.get("notes") or [])]


def front_rows(result: RowResults) -> list[dict[str, str]]:
    """What the build tried when it put layers back to float, a row for each choice: what it loses, how fast it is."""
    points = (result.model_info.get("quantization") or {}).get("front") or []
    return [
        {
            "layers put back": str(point["layers"]),
            "of the multiply-adds in float": f"{100 * point['macs_share']:.1f} %",
            "fp32's time over its own": "not measured" if point["speed"] is None else f"{point['speed']:.2f}",
            "SQNR": "no error" if point["sqnr_db"] is None else f"{point['sqnr_db']:.1f} dB",
            "agreement": f"{point['agreement']:.1f} %",
            "": "kept" if point["kept"] else "",
        }
        for point in points
    ]


# ------------------------------------------------------------------------------------------------------------ losses
@dataclass(frozen=True)
class LostImage:
    """An image that fp32 answers rightly and the row does not; ``image`` is a data URI, empty where unreadable."""

    name: str
    image: str
    expected: str
    answered: str


@dataclass(frozen=True)
class Loss:
    """What one row lost against fp32: the first few of the lost images, the greatest change of logits first."""

    result: RowResults
    lost: int
    gained: int
    images: tuple[LostImage, ...]


def losses(results: Results, dataset_root: Path | None, names: Sequence[str]) -> dict[str, list[Loss]]:
    """By variant, a Loss for each row that was compared with fp32. ``names``: class names, empty where unknown."""
    compared = [result for result in results.rows if "lost" in result.accuracy]
    files = _image_files(results, dataset_root) if compared and dataset_root else {}
    with_losses = sum(bool(result.accuracy["lost"]) for result in compared)
    most = min(THUMBNAILS_A_ROW, max(1, MOST_THUMBNAILS // max(1, with_losses)))
    by_variant: dict[str, list[Loss]] = {}
    for result in compared:
        images = tuple(_lost_image(answer, files, names) for answer in _worst(result, most))
        lost, gained = len(result.accuracy["lost"]), len(result.accuracy["gained"])
        by_variant.setdefault(result.row.model, []).append(Loss(result, lost, gained, images))
    return by_variant


def excluded(results: Results) -> list[IndexedImage]:
    """The images that could not be read and count in no row, with what is wrong with each."""
    if not any(result.accuracy.get("excluded") for result in results.rows):
        return []
    manifest = read_manifest(results.manifest, with_faulty=True)
    return [image for image in manifest if image.fault]


def _image_files(results: Results, root: Path) -> dict[str, Path]:
    return {key: root / name for key, name in by_key(image.name for image in read_manifest(results.manifest)).items()}


def _worst(result: RowResults, most: int) -> list[Any]:
    """Lost images whose logits changed most, in shares of the reference's: rows of the table of answers."""
    if not result.accuracy["lost"]:
        return []
    answers = result.answers()
    lost = answers[answers.name.isin(result.accuracy["lost"])]
    change = lost.noise.fillna(0.0) / lost.signal.fillna(0.0).replace(0.0, 1.0)
    return list(lost.loc[change.sort_values(ascending=False, kind="stable").index[:most]].itertuples())


def _lost_image(answer: Any, files: Mapping[str, Path], names: Sequence[str]) -> LostImage:
    file = files.get(answer.name)
    return LostImage(
        answer.name,
        thumbnail(file) if file else "",
        class_label(answer.label, names),
        class_label(answer.top1, names),
    )


def thumbnail(path: Path, side: int = THUMBNAIL_SIDE) -> str:
    """A square JPEG of ``side`` pixels of an image's middle, as a data URI; empty where it cannot be read."""
    try:
        image = open_image(read_image(path), path)
        image.draft("RGB", (2 * side, 2 * side))
        small = ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.LANCZOS)
    except (InputError, OSError, SyntaxError, ValueError):
        return ""  # Gone or damaged since: the report names it all the same
    content = io.BytesIO()
    small.save(content, "JPEG", quality=72, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


# ------------------------------------------------------------------------------------------------------- calibration
@dataclass(frozen=True)
class Coverage:
    """How many calibration images each class of the dataset has; ``missing`` are those with none.

    ``unknown``: images that were calibrated with and that their dataset no longer has, so their class is not known.
    """

    images: int
    unknown: int
    by_class: Mapping[int, int]
    missing: tuple[str, ...]


def coverage(results: Results, source: Dataset | None, names: Sequence[str]) -> Coverage | None:
    """The calibration list by class, against the classes of the dataset; None where there is no list or source.

    ``source``: the dataset that the calibration images were chosen from.
    """
    if source is None or results.calibration is None or not results.calibration.is_file():
        return None
    classes = {str((source.root / name).resolve()): image.class_index for name, image in scan(source).items()}
    paths = [str(path.resolve()) for path in read_datalist(results.calibration)]
    counts = Counter(classes[path] for path in paths if path in classes)
    expected = {image.class_index for image in read_manifest(results.manifest)}
    by_class = {index: counts[index] for index in sorted(expected | set(counts))}
    missing = tuple(class_label(index, names) for index, count in by_class.items() if not count)
    return Coverage(len(paths), len(paths) - counts.total(), by_class, missing)


# ------------------------------------------------------------------------------------------- parity with torchvision
def parity(results: Results) -> list[tuple[str, Mapping[str, Any]]]:
    """The parity certificate of each variant that has one."""
    certificates = {result.row.model: result.parity for result in results.rows if result.parity}
    return list(certificates.items())


# --------------------------------------------------------------------------------------------------- conditioned graphs
def conditioned(results: Results) -> dict[str, tuple[Mapping[str, Any], list[str]]]:
    """By variant, the certificate of its conditioned graph, and what to ask its compiler for, as sentences."""
    certificates = {result.row.model: result.condition for result in results.rows if result.condition}
    return {model: (one, _conditioning_advice(one)) for model, one in certificates.items()}


# Less than this is within what other images would give.
_WORTH_DB = 0.5


def _conditioning_advice(certificate: Mapping[str, Any]) -> list[str]:
    sentences = []
    for kind in dict.fromkeys(row["kind"] for row in certificate["foreseen"]):
        rows = [row for row in certificate["foreseen"] if row["kind"] == kind and row["conditioned"]["sqnr_db"]]
        if len(rows) < 2:
            continue
        best, worst = (pick(rows, key=lambda row: row["conditioned"]["sqnr_db"]) for pick in (max, min))
        kept = f"{best['conditioned']['sqnr_db']:.1f} dB is foreseen with it"
        least = f"{worst['conditioned']['sqnr_db']:.1f} dB with {worst['mode']}"
        sentences.append(f"If the compiler is {kind}: ask for {best['mode']}, because {kept} and {least}.")
    excluded = certificate.get("losing_layers")
    if excluded and excluded["layers"]:
        share = 100 * excluded["macs_share"]
        brought = excluded["sqnr_db_with"] - excluded["sqnr_db_without"]
        named = ", ".join(f"{layer} ({kept:.1f} dB)" for layer, kept in excluded["layers"].items())
        keys = f"skip_conv_layers: {excluded['skip_conv_layers']} or exclude_layers: {excluded['exclude_layers']}"
        if brought < _WORTH_DB:
            sentences.append(
                f"No layer is worth float: the one(s) that stand out, {named}, would bring {brought:.1f} dB."
            )
        else:
            sentences.append(
                f"Layers that lose most by themselves: {named}. Left in float, with {share:.1f} % of the "
                f"multiply-adds, that brings {brought:.1f} dB: {keys}."
            )
    return sentences


# ------------------------------------------------------------------------------------------- weights, preprocessing
def origins(results: Results) -> dict[str, list[str]]:
    """By variant, as sentences: which published weights it counts as, how its images are prepared, what was noted."""
    by_variant = {}
    for variant, rows in results.variants.items():
        description, sentences = rows[0].description, []
        published = description.get("preset")
        if published:
            entry = published["entry"] or "the published weights"
            sentences.append(f"Preprocessing and reference are those of {entry} ({published['reason']}).")
        used = next((p for row in rows if (p := row.model_info.get("preprocessing"))), None)
        if used:
            sentences.append(f"Its images: {Preprocessing.from_json(used).text}.")
        theirs = next((row.parity["torchvision"]["preprocessing"] for row in rows if row.parity), used)
        if used and theirs and theirs != used:
            sentences.append(f"The publisher's images: {Preprocessing.from_json(theirs).text}.")
        by_variant[variant] = [
            *sentences,
            *(f"{note[0].upper()}{note[1:]}." for note in description.get("notes") or []),
        ]
    return by_variant


def acceptances(results: Results) -> list[tuple[Receipt, Mapping[str, Any]]]:
    """The jobs that somebody accepted as made by newer code, and each time what was said."""
    return [(receipt, entry) for receipt in results.receipts for entry in receipt.content.get("accepted") or ()]


# -------------------------------------------------------------------------------------------------- commands, digests
# What a figure is read from: the rule whose command makes it.
_FIGURES = {
    "export_model": "parameters, multiply-adds",
    "condition_model": "the conditioned graph and its certificate",
    "compile_model": "model size, error by layer",
    "measure_performance": "throughput, latency, verdict",
    "run_accuracy": "the outputs behind every accuracy",
    "evaluate_outputs": "top-1, top-5, drop, McNemar's p, agreement, SQNR",
    "check_parity": "parity with torchvision's preprocessing",
}


@dataclass(frozen=True)
class Command:
    """The command of one job, as typed in the checkout, and the figures that it makes."""

    rule: str
    figures: str
    text: str


def command_of(receipt: Receipt) -> Command:
    """The job's command with every argument quoted; scripts by their place in the checkout."""
    words = (re.sub(r"^.*/(workflow/scripts/\w+\.py)$", r"\1", word) for word in receipt.content["command"])
    return Command(receipt.rule, _FIGURES.get(receipt.rule, ""), shlex.join(words))


def chain_of(results: Results, result: RowResults) -> list[Receipt]:
    """The receipts of the jobs that a row rests on, in the order in which they ran."""
    identity = {("", ""), (result.row.model, ""), (result.row.model, result.row.precision)}
    return [receipt for receipt in results.receipts if (receipt.variant, receipt.precision) in identity]


def row_commands(results: Results, result: RowResults) -> list[Command]:
    """Commands of the jobs that serve this variant alone, in the order in which they ran."""
    return [command_of(receipt) for receipt in chain_of(results, result) if receipt.variant]


def shared_commands(results: Results) -> list[Command]:
    """Commands of the jobs that serve every row."""
    return [command_of(receipt) for receipt in results.receipts if not receipt.variant]


def peak_commands(results: Results) -> list[tuple[RowResults, Command]]:
    """For each row of the embedded engine, the command that measures its rate of arrivals against p99.

    It is the row's own measurement, with a bound of twice the median latency at saturation.
    """
    commands = []
    for receipt in results.receipts:
        words = list(receipt.content["command"])
        if receipt.rule != "measure_performance" or Path(words[0]).name != "ort-vamp" or "--json" not in words:
            continue
        result = next(row for row in results.rows if (row.row.model, row.row.precision) == receipt.identity)
        median = (result.performance.get("latency_us") or {}).get("p50")
        if median is None or result.peak:
            continue
        report = words.index("--json") + 1
        words[report] = str(Path(words[report]).with_name("peak.json"))
        words += ["--find-peak", "--latency-bound", str(round(2 * median))]
        commands.append((result, Command("peak", "", shlex.join(words))))
    return commands


def distinct(receipts: Iterable[Receipt], key: str) -> list[tuple[Mapping[str, Any] | str | None, int]]:
    """The different values of ``key`` in the receipts, and how many jobs had each; more than one is worth knowing."""
    values = [receipt.content.get(key) for receipt in receipts]
    different: list[Any] = []
    for value in values:
        if value not in different:
            different.append(value)
    return [(value, values.count(value)) for value in different]


def digests_of(results: Results, result: RowResults) -> dict[str, str]:
    """SHA-256 of what a row rests on, by what it is."""
    digests = {name: str(value) for name, value in (result.performance.get("digests") or {}).items()}
    digests |= {name: str(value) for name, value in (result.model_info.get("sources") or {}).items()}
    for receipt in chain_of(results, result):
        if receipt.rule == "index_dataset":
            outputs = receipt.content["outputs"].items()
            digests["manifest"] = next(str(file["sha256"]) for name, file in outputs if name.endswith(".csv"))
        if receipt.variant:
            digests[f"code of {receipt.rule}"] = str(receipt.content["code_sha256"])
    return digests
