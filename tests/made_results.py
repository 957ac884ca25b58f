"""A results folder as a finished run leaves it, written in a moment and with every section's data in it."""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from mnasbench.data.class_file import write_class_file
from mnasbench.data.layouts import Dataset, labelled
from mnasbench.data.manifest import index_dataset
from mnasbench.result.answers import Answer, answers_table, write_answers
from mnasbench.result.evaluation import accuracy
from mnasbench.result.row_files import row_files
from mnasbench.result.summary import make_row, to_csv

CLASSES = 10
DATA = {"manifest": ".csv", "calibration": ".txt"}
# What a page must not take for markup or for the end of an attribute.
HOSTILE = '<script>alert("x")</script>'
_RATES = {"fp32": 370.0, "int8-percentile": 760.0, "int8-max": 755.0}
_DIGESTS = {"graph": "a" * 64, "params": "b" * 64}
_VERSIONS = {"numpy": "2.4.6", "torch": "2.13.0"}
_MACHINE = {"cpu": "Testing CPU <1 GHz>", "cpus": 2, "system": "Linux", "architecture": "x86_64", "python": "3.11"}


@dataclass(frozen=True)
class Made:
    """Where the results are, the dataset's root, and the file of class names."""

    results: Path
    root: Path
    class_names: Path


def make_results(
    folder: Path,
    *,
    variants: tuple[str, ...] = ("mnasnet0_5", "mnasnet1_0"),
    precisions: tuple[str, ...] = ("fp32", "int8-percentile", "int8-max"),
    images: int = 40,
    verdict: str = "VALID",
    lost: int = 3,
    speed: float = 1.0,
    extras: bool = True,
) -> Made:
    """Write one. int8 loses the first ``lost`` images and gains one; ``extras``: curve, layers, calibration, parity."""
    root, results = folder / "images", folder / "results"
    _write_dataset(root, images)
    data = results / "data" / "small"
    index_dataset(Dataset(root), data / "manifest.csv", workers=1)
    write_class_file(data / "manifest.csv", labelled(Dataset(root)))
    _receipt(data / "manifest", "index_dataset", [data / "manifest.classes.json", data / "manifest.csv"])
    names = sorted(path.stem for path in (root / "val").iterdir())
    rows = []
    for number, variant in enumerate(variants):
        published = {"entry": "IMAGENET1K_V1", "reason": "as named", "is_guess": False}
        exported = {"library": "torchvision", "name": variant, "size": 224, "preset": published}
        exported |= {"params": 2_218_512 + number, "macs": 104_455_968}
        _write(results / f"model/{variant}/{variant}_224.json", exported)
        graph = results / f"model/{variant}/{variant}_224"
        _receipt(graph, "export_model", [graph.with_suffix(".json")])
        reference = _answers(names, wrong=range(images - 5 + number, images))
        for precision in precisions:
            mine = _answers(names, wrong=[*range(lost), *range(images - 5 + number + 1, images)])
            answers = reference if precision == "fp32" else mine
            figures = accuracy(answers, None if precision == "fp32" else reference)
            performance = _performance(_RATES[precision] * speed / (number + 1), verdict)
            _write_row(results, variant, precision, figures, performance, answers, extras)
            identity = {"model": variant, "precision": precision, "engine": "ort", "dataset": "small"}
            compiled = {"files": {"graph_bytes": 100_000, "params_bytes": 2_000_000}}
            sources = {"identity": identity, "exported": exported, "compiled": compiled, "reference": {}}
            rows.append(make_row(sources | {"performance": performance, "accuracy": figures}))
    (results / "summary.csv").write_text(to_csv(rows))
    _write(results / "summary.json", row_files(described(results, variants, precisions), results))
    if extras:
        chosen = sorted((root / "val").iterdir())[: images // 2]
        (data / "calibration.txt").write_text("".join(f"{path.resolve()}\n" for path in chosen))
        for variant in variants:
            _write(results / f"result/{variant}/parity.json", _parity(images))
    class_names = folder / "classes.txt"
    class_names.write_text("".join(f"{HOSTILE} {index}\n" for index in range(CLASSES)))
    return Made(results, root, class_names)


def described(results: Path, variants: tuple[str, ...], precisions: tuple[str, ...]) -> dict[str, Any]:
    """What planning says of these rows."""
    build = f"{results}/build/{{model}}/{{precision}}"
    run, result = (f"{results}/{stage}/{{model}}/{{precision}}" for stage in ("run", "result"))
    return {
        "dataset": "small",
        "shards": 1,
        "data": {name: f"{results}/data/small/{name}{end}" for name, end in DATA.items()},
        "files": {
            "compiled": f"{build}/folder/{{model}}.json",
            "layers": f"{build}/folder/quantization.csv",
            "performance": f"{run}/performance.json",
            "accuracy": f"{result}/accuracy.json",
            "peak": f"{run}/peak.json",
            "parity": f"{results}/result/{{model}}/parity.json",
        },
        "answers": [f"{result}/answers.csv"],
        "variants": [
            {
                "model": variant,
                "exported": f"{results}/model/{variant}/{variant}_224.json",
                "reference": {},
                "rows": [{"precision": precision, "engine": "ort", "files": {}} for precision in precisions],
            }
            for variant in variants
        ],
    }


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _write_dataset(root: Path, images: int) -> None:
    (root / "val").mkdir(parents=True)
    lines = []
    for number in range(images):
        name = f"image & {number:03}.png"
        Image.new("RGB", (120, 100), (5 * number % 256, 200, 90)).save(root / "val" / name)
        lines.append(f"{name} {number % CLASSES}\n")
    (root / "val_label.txt").write_text("".join(lines))


def _answers(names: list[str], wrong: Any) -> pd.DataFrame:
    answers = []
    for number, name in enumerate(names):
        label = number % CLASSES
        first = (label + 1) % CLASSES if number in wrong else label
        rest = [index for index in range(CLASSES) if index != first]
        answers.append(Answer(name, label, (first, *rest[:4]), 100.0, 1.0 + number))
    return answers_table(answers)


def _performance(rate: float, verdict: str) -> dict[str, Any]:
    def spread(middle: float) -> dict[str, Any]:
        points = {"min": 0.8, "avg": 1.02, "p50": 1.0, "p90": 1.1, "p95": 1.2, "p99": 1.4, "max": 1.9}
        intervals = {name: [middle * share * 0.98, middle * share * 1.03] for name, share in points.items()}
        return {name: middle * share for name, share in points.items()} | {"p999": None, "intervals": intervals}

    reasons = ["other processes used 50.0% of the CPU time"] if verdict != "VALID" else []
    return {
        "throughput_qps": rate,
        "throughput_interval": [rate * 0.98, rate * 1.02],
        "latency_us": spread(16e6 / rate),
        "service_us": spread(15e6 / rate),
        "preprocessing_us": spread(1e6 / rate),
        "queue_us": spread(0.0),
        "requests": 700,
        "windows": {"throughput_qps": [rate * 0.99, rate, rate * 1.01]},
        "littles_law": {"in_flight": 2.0},
        "settings": {"batch": 8},
        "verdict": {"status": verdict, "reasons": reasons, "advice": ["end other jobs"] * len(reasons)},
        "machine": _MACHINE,
        "digests": _DIGESTS,
    }


def _write_row(
    results: Path,
    variant: str,
    precision: str,
    figures: dict[str, Any],
    performance: dict[str, Any],
    answers: pd.DataFrame,
    extras: bool,
) -> None:
    run, result, build = (results / stage / variant / precision for stage in ("run", "result", "build"))
    _write(run / "performance.json", performance)
    _write(result / "accuracy.json", figures)
    write_answers(result / "answers.csv", answers)
    point = {"layers": 2, "macs_share": 0.0712, "speed": 1.5, "sqnr_db": None, "agreement": 99.5, "kept": True}
    info = {
        "quantization": {"mode": "percentile", "front": [point]},
        "sources": {"checkpoint": "c" * 64},
        "notes": [HOSTILE],
    }
    _write(build / "folder" / f"{variant}.json", info)
    _receipt(build / "compile", "compile_model", [build / "folder" / f"{variant}.json"])
    _receipt(run / "performance", "measure_performance", [run / "performance.json"])
    _receipt(result / "accuracy", "evaluate_outputs", [result / "accuracy.json"])
    if extras and precision.startswith("int8"):
        text = io.StringIO()
        writer = csv.DictWriter(text, ["layer", "weight_sqnr_db", "activation_sqnr_db"], lineterminator="\n")
        writer.writeheader()
        for number in range(12):
            float_layer = number == 4
            sqnr = "" if float_layer else str(40 - number)
            writer.writerow({"layer": f"conv_{number}", "weight_sqnr_db": sqnr, "activation_sqnr_db": sqnr})
        (build / "folder" / "quantization.csv").write_text(text.getvalue())
    if extras and precision == "int8-percentile":
        curve = [{"rate": 10.0 * step, "p99_us": 9000.0 + 400 * step**2, "met": step < 5} for step in range(1, 7)]
        _write(run / "peak.json", {"latency_bound_us": 20000, "peak_rps": 40.0, "curve": curve, "digests": _DIGESTS})


def _parity(images: int) -> dict[str, Any]:
    way = {"way": "as in this run", "different_images": 7, "different_pixels": 1.25, "mean_difference": 0.0125}
    way |= {"max_difference": 3, "different_answers": 1, "different_answers_share": 1.0}
    way |= {"different_answers_low": 0.5, "different_answers_high": 2.0}
    way |= {"top1_drop": 0.5, "top1_drop_low": -1.0, "top1_drop_high": 2.0}
    return {
        "images": images,
        "drawn_from": images,
        "torchvision": {"top1": 87.5, "preprocessing": {"resize": 256}},
        "ways": [way | {"mcnemar_p": 1.0}],
    }


def _receipt(stem: Path, rule: str, outputs: list[Path]) -> None:
    content = {
        "rule": rule,
        "command": ["python", f"/somewhere/workflow/scripts/{rule}.py", "--name", "two words", HOSTILE],
        "code_sha256": "d" * 64,
        "outputs": {str(path): {"bytes": 1, "sha256": "e" * 64} for path in outputs},
        "git_commit": None,
        "versions": _VERSIONS,
        "machine": _MACHINE,
        "started": "2026-01-02T03:04:05+00:00",
        "seconds": 2.5,
        "cpu_seconds": 4.5,
        "peak_bytes": 123_000_000,
    }
    _write(stem.with_name(f"{stem.name}.receipt.json"), content)
