"""The report's decisions and sections, and that its page is what it says: alone, escaped, complete."""

import base64
import dataclasses
import io
import json
import os
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

import report as report_script
from made_results import HOSTILE, make_results
from mnasbench.commands import ort_vamp
from mnasbench.data.calibration import sample_calibration, write_calibration
from mnasbench.data.layouts import Dataset
from mnasbench.errors import InputError
from mnasbench.result import columns
from mnasbench.result import report_sections as sections
from mnasbench.result.decision import pareto_front, recommend
from mnasbench.result.page import number, p_value
from mnasbench.result.report import _published, make_report
from mnasbench.result.results_folder import Results, read_results
from mnasbench.result.summary import Row


def _row(
    model: str, precision: str, top1: float, rate: float | None, drop: float | None = None, **other: object
) -> Row:
    values = dict.fromkeys(columns.names(), None) | {
        "model": model,
        "precision": precision,
        "top1": top1,
        "top1_drop": drop,
        "top1_drop_high": None if drop is None else drop + 0.3,
        "throughput_qps": rate,
        "verdict": "VALID",
    }
    return Row(**(values | other))


# --------------------------------------------------------------------------------------------------------- decision
def test_the_front_holds_what_none_beats() -> None:
    slow, fast, beaten = _row("a", "fp32", 70, 100), _row("a", "int8-max", 69, 200), _row("b", "fp32", 68, 150)
    unmeasured = _row("c", "fp32", 90, None)
    assert pareto_front([slow, beaten, fast, unmeasured]) == [fast, slow]


def test_equal_rows_stand_on_the_front_once() -> None:
    assert len(pareto_front([_row("a", "fp32", 70, 100), _row("b", "fp32", 70, 100)])) == 1


def test_the_fastest_precision_that_keeps_its_accuracy_is_recommended() -> None:
    rows = [
        _row("a", "fp32", 70.0, 100),
        _row("a", "int8-percentile", 69.5, 200, 0.5),
        _row("a", "int8-max", 60.0, 300, 10.0),
    ]
    found = recommend(rows)
    assert found.row is rows[1] and not found.provisional
    assert "2.00 times fp32's rate" in found.sentence and "loses 0.50 points" in found.sentence


@pytest.mark.parametrize(("drop", "kept"), [(0.7, True), (0.71, False)])
def test_one_percent_of_fp32s_accuracy_may_go(drop: float, kept: bool) -> None:
    rows = [_row("a", "fp32", 70.0, 100), _row("a", "int8-max", 70.0 - drop, 200, drop)]
    assert (recommend(rows).row is rows[1]) == kept


@pytest.mark.parametrize(("drop", "said"), [(-0.2, "it gains 0.20 points"), (0.0, "it loses nothing")])
def test_a_gain_is_called_one(drop: float, said: str) -> None:
    rows = [_row("a", "fp32", 70.0, 100), _row("a", "int8-max", 70.0 - drop, 200, drop)]
    assert said in recommend(rows).sentence


def test_the_more_accurate_variant_wins_and_the_faster_one_is_named() -> None:
    rows = [_row("small", "fp32", 67.0, 400), _row("large", "fp32", 73.0, 200)]
    found = recommend(rows)
    assert found.row is rows[1]
    assert "small as fp32 gives 400 images/s for 6.0 points less" in found.sentence


def test_a_disturbed_run_counts_only_where_no_run_is_valid() -> None:
    valid = _row("a", "fp32", 60.0, 100)
    disturbed = _row("b", "fp32", 70.0, 400, verdict="DISTURBED")
    assert recommend([valid, disturbed]).row is valid
    alone = recommend([disturbed])
    assert alone.row is disturbed and alone.provisional


def test_nothing_is_recommended_where_the_loss_is_unknown() -> None:
    found = recommend([_row("a", "int8-max", 60.0, 100)])
    assert found.row is None and "add fp32" in found.sentence
    assert "no row has a throughput" in recommend([_row("a", "fp32", 60.0, None)]).sentence


# ---------------------------------------------------------------------------------------------------------- reading
def test_a_results_folder_is_read_back(tmp_path: Path) -> None:
    results = read_results(make_results(tmp_path).results)
    first = results.rows[1]
    assert (first.name, first.row.images, first.row.throughput_qps) == ("mnasnet0_5-int8-percentile", 40, 760.0)
    assert len(first.layers) == 12 and first.peak is not None and len(first.answers()) == 40
    assert results.reference_of(first) is results.rows[0]


def test_receipts_of_variants_that_were_taken_out_are_left_out(tmp_path: Path) -> None:
    made = make_results(tmp_path)
    summary = made.results / "summary.csv"
    summary.write_text("".join(summary.read_text().splitlines(keepends=True)[:2]))
    kept = {(receipt.variant, receipt.precision) for receipt in read_results(made.results).receipts}
    assert kept == {("", ""), ("mnasnet0_5", ""), ("mnasnet0_5", "fp32")}


def test_a_step_in_a_folder_of_its_own_is_among_the_commands_of_every_precision(tmp_path: Path) -> None:
    results = make_results(tmp_path).results
    folder = results / "build/mnasnet0_5/conditioned"
    for compiled in (results / "build/mnasnet0_5").glob("*/compile.receipt.json"):
        content = json.loads(compiled.read_text())
        conditioned = {**content, "rule": "condition_model", "inputs": {}, "outputs": {}, "folders": {}}
        conditioned["outputs"] = {"results/build/mnasnet0_5/conditioned/m.onnx": {"bytes": 1, "sha256": "0" * 64}}
        content["inputs"] = {"results/build/mnasnet0_5/conditioned/m.onnx": "0" * 64}
        compiled.write_text(json.dumps(content))
    folder.mkdir()
    (folder / "m.receipt.json").write_text(json.dumps(conditioned))
    read = read_results(results)
    for row in read.rows:
        rules = [command.rule for command in sections.row_commands(read, row)]
        assert ("condition_model" in rules) == (row.row.model == "mnasnet0_5"), row.row.name


@pytest.mark.parametrize("text", ["", "model,precision\n", None])
def test_a_folder_without_a_summary_is_an_error(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "summary.csv").write_text(text)
    with pytest.raises(InputError, match=r"summary\.csv"):
        read_results(tmp_path)


def test_a_damaged_number_is_named(tmp_path: Path) -> None:
    made = make_results(tmp_path)
    summary = made.results / "summary.csv"
    summary.write_text(summary.read_text().replace("370.00", "fast"))
    with pytest.raises(InputError, match="throughput_qps is 'fast'"):
        read_results(made.results)


# --------------------------------------------------------------------------------------------------------- sections
@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Path]:
    """Read results and the dataset's root."""
    made = make_results(tmp_path_factory.mktemp("made"))
    return read_results(made.results), made.root


def test_losses_have_images_and_both_answers(results: tuple[Results, Path]) -> None:
    found, root = results
    loss = sections.losses(found, root, [f"class-{index}" for index in range(10)])["mnasnet0_5"][0]
    assert (loss.lost, loss.gained, len(loss.images)) == (3, 1, 3)
    worst = loss.images[0]
    assert (worst.name, worst.expected, worst.answered) == ("image & 002", "class-2 (2)", "class-3 (3)")
    header, _, content = worst.image.partition(",")
    assert header == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(content))).size == (96, 96)


def test_a_lost_image_that_is_gone_is_named_without_thumbnail(results: tuple[Results, Path], tmp_path: Path) -> None:
    images = sections.losses(results[0], tmp_path, [])["mnasnet1_0"][0].images
    assert [image.image for image in images] == ["", "", ""]
    assert images[0].expected == "class 2"


def test_layers_in_float_are_named_with_their_reason_and_cost(results: tuple[Results, Path]) -> None:
    result = results[0].rows[-1]
    budget = {"max_drop": 0.5, "drop": 0.25, "images": 400, "put_back": ["conv_39"]}
    message = {
        "float_layers": ["conv_01", "conv_39"],
        "float_macs_share": 0.0712,
        "float_reasons": {"conv_01": "kernel", "conv_39": "budget"},
        "budget": budget,
        "notes": ["weights have 7 bits"],
    }
    info = dict(result.model_info) | {"quantization": message}
    assert sections.quantization_notes(dataclasses.replace(result, model_info=info)) == [
        "In float: conv_01, conv_39; they do 7.1 % of the multiply-adds, at fp32's speed.",
        "Without an int8 kernel where they stand: conv_01.",
        "Put back for the budget: conv_39.",
        "Budget: 0.25 points of agreement lost on 400 held-out calibration images, 0.5 allowed; layers put back "
        "to float for it: 1.",
        "Weights have 7 bits.",
    ]
    assert sections.quantization_notes(dataclasses.replace(result, model_info={"quantization": None})) == []
    assert sections.front_rows(dataclasses.replace(result, model_info={"quantization": None})) == []


def test_what_a_budget_tried_stands_in_the_report_as_loss_against_speed(results: tuple[Results, Path]) -> None:
    point = {"layers": 1, "macs_share": 0.0712, "speed": 1.5, "sqnr_db": 20.0, "agreement": 99.5, "kept": True}
    tried = {**point, "layers": 0, "speed": None, "kept": False}
    result = results[0].rows[-1]
    info = dict(result.model_info) | {"quantization": {"front": [tried, point]}}
    rows = sections.front_rows(dataclasses.replace(result, model_info=info))
    assert [list(row.values()) for row in rows] == [
        ["0", "7.1 %", "not measured", "20.0 dB", "99.5 %", ""],
        ["1", "7.1 %", "1.50", "20.0 dB", "99.5 %", "kept"],
    ]


@pytest.mark.parametrize("relative", [False, True])
def test_coverage_counts_classes_and_names_those_without(tmp_path: Path, relative: bool) -> None:
    made = make_results(tmp_path)
    names = sample_calibration(Dataset(made.root), 10, seed=0, workers=1)[:8]
    kept = {int(re.findall(r"\d+", name)[-1]) % 10 for name in names}
    chosen = made.results / "data/small/calibration.txt"
    root = Path(os.path.relpath(made.root)) if relative else made.root
    write_calibration(root, names, chosen, tmp_path / "calibration")
    found = sections.coverage(read_results(made.results), Dataset(made.root), [])
    assert found is not None
    assert found.images == 8 and sum(found.by_class.values()) == 8 and found.unknown == 0
    assert found.missing == tuple(f"class {index}" for index in range(10) if index not in kept)


def test_calibration_images_that_left_their_dataset_are_counted(tmp_path: Path) -> None:
    made = make_results(tmp_path)
    chosen = made.results / "data/small/calibration.txt"
    chosen.write_text(chosen.read_text() + "/nowhere/a.png\n")
    found = sections.coverage(read_results(made.results), Dataset(made.root), [])
    assert found is not None and (found.images, found.unknown) == (21, 1)


def test_the_command_for_the_curve_is_the_measurements_own_with_a_bound(results: tuple[Results, Path]) -> None:
    found = results[0]
    measured = [
        *(["ort-vamp", "-m", "results/build/x", "-b", "8", "--retries", "1", "--json"]),
        "results/run/a b/performance.json",
    ]
    receipts = [
        dataclasses.replace(receipt, content={**receipt.content, "command": measured})
        for receipt in found.receipts
        if receipt.rule == "measure_performance"
    ]
    commands = sections.peak_commands(dataclasses.replace(found, receipts=tuple(receipts)))
    # int8-percentile has its curve already; the median of fp32 at 370 images/s in batches of 16 is 43.2 ms.
    assert {result.row.precision for result, _ in commands} == {"fp32", "int8-max"}
    message = shlex.split(commands[0][1].text)
    arguments = ort_vamp.build_parser().parse_args([*message[1:], "--vdsp_params", "x.json"])
    assert arguments.find_peak and arguments.latency_bound == round(2 * 16e6 / 370)
    assert arguments.json == Path("results/run/a b/peak.json")


def test_commands_are_quoted_and_scripts_stand_in_the_checkout(results: tuple[Results, Path]) -> None:
    commands = {command.rule: command.text for command in sections.row_commands(results[0], results[0].rows[0])}
    assert commands["export_model"].startswith("python workflow/scripts/export_model.py --name 'two words' '<script>")


def test_jobs_that_ran_differently_are_told_apart(results: tuple[Results, Path]) -> None:
    receipts = results[0].receipts
    changed = dataclasses.replace(receipts[0], content={**receipts[0].content, "versions": {"numpy": "1.0"}})
    found = sections.distinct([changed, *receipts[1:]], "versions")
    assert [jobs for _, jobs in found] == [1, len(receipts) - 1]


# -------------------------------------------------------------------------------------------------------------- page
class _Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def page(results: tuple[Results, Path]) -> str:
    """The page of results that have every section's data, with hostile class names."""
    found, root = results
    names = [f"{HOSTILE} {index}" for index in range(10)]
    return make_report(found, dataset_root=root, calibration=Dataset(root), class_names=names, imagenet=True)


def test_the_front_of_a_budget_is_a_table_of_the_page(page: str) -> None:
    assert "<td>no error</td><td>99.5 %</td><td>kept</td>" in page


def test_nothing_is_loaded_and_nothing_hostile_is_markup(page: str) -> None:
    parsed = _Page(page)
    assert sum(tag == "script" for tag, _ in parsed.tags) == 1
    addresses = [value for _, attributes in parsed.tags for key, value in attributes.items() if key in {"src", "href"}]
    assert all(str(address).startswith(("data:", "#")) for address in addresses)
    assert "url(http" not in page and "@import" not in page
    assert HOSTILE in "".join(parsed.text)


def test_identifiers_are_unique_and_every_reference_leads_somewhere(page: str) -> None:
    parsed = _Page(page)
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', page)) <= set(ids)


def test_every_colour_of_a_plot_is_the_pages_own(page: str) -> None:
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        assert "#0a0b" not in svg
        assert not re.search(r"(?:fill|stroke): #", svg)


def test_every_section_says_something_without_data(tmp_path: Path) -> None:
    made = make_results(tmp_path, variants=("mnasnet0_5",), precisions=("fp32",), extras=False)
    text = " ".join("".join(_Page(make_report(read_results(made.results))).text).split())
    for said in (
        "Nothing to compare",
        "Not measured in this run: ort-vamp --find-peak",
        "No int8 row left a table",
        "No calibration set",
        "No parity certificate",
        "small is another dataset",
    ):
        assert said in text


def test_published_results_stand_beside_imagenet_only_and_pages_are_the_same_each_time(
    page: str, tmp_path: Path
) -> None:
    made = make_results(tmp_path, variants=("mnasnet0_5",), precisions=("fp32",), extras=False)
    first, second = (make_report(read_results(made.results)) for _ in range(2))
    assert first == second
    assert "7,934 images/s" in page and "7,934 images/s" not in first


@pytest.mark.parametrize(
    "other",
    [
        {"size": 160},
        {"preset": {"entry": "IMAGENET1K_V2", "reason": "as named", "is_guess": False}},
        {"preset": {"entry": "IMAGENET1K_V1", "reason": "the first published", "is_guess": True}},
        {"library": "timm"},
    ],
    ids=["size", "weights", "guessed", "library"],
)
def test_published_results_are_of_the_same_weights_at_the_same_size(tmp_path: Path, other: dict) -> None:
    made = make_results(tmp_path, variants=("mnasnet0_5",), precisions=("fp32",), extras=False)
    exported = made.results / "model/mnasnet0_5/mnasnet0_5_224.json"
    beside = _published(read_results(made.results).rows)
    assert {(point["model"], point["weights"]) for point in beside} == {("mnasnet0_5", "IMAGENET1K_V1")}
    exported.write_text(json.dumps({**json.loads(exported.read_text()), **other}))
    assert not _published(read_results(made.results).rows)


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_results(tmp_path, variants=("mnasnet0_5",))
    target = tmp_path / "out/report.html"
    arguments = ["--html", str(target), "--dataset_path", str(made.root), "--class_names", str(made.class_names)]
    assert report_script.main([str(made.results), *arguments, "--calibration_root", str(made.root)]) == 0
    assert "MB" in capsys.readouterr().out
    assert "<title>Which model to ship: small</title>" in target.read_text()
    assert "<p>The dataset: a label file, " in target.read_text()
    assert report_script.main([str(tmp_path / "nowhere"), *arguments]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_numbers_as_shown() -> None:
    assert (number(1234.567, 1), number(None), number(float("nan")), number(2e6, 1, 1e-6)) == (
        "1,234.6",
        "\N{EN DASH}",
        "\N{EN DASH}",
        "2.0",
    )
    assert (p_value(None), p_value(0.00001), p_value(0.0312), p_value(1.0)) == (
        "\N{EN DASH}",
        "< 0.0001",
        "0.031",
        "1",
    )


def test_provenance_says_whose_preprocessing_it_is_and_what_was_accepted(tmp_path: Path) -> None:
    made = make_results(tmp_path)
    exported = made.results / "model/mnasnet0_5/mnasnet0_5_224.json"
    note = "the weights under 'model' are used; it also holds 'ema' (weights_key chooses)"
    preset = {"entry": "IMAGENET1K_V1", "reason": "the first published, as neither name nor digest says which"}
    exported.write_text(json.dumps({**json.loads(exported.read_text()), "preset": preset, "notes": [note]}))
    compiled = made.results / "build/mnasnet0_5/fp32/folder/mnasnet0_5.json"
    own = {"resize": {"fit": 224, "fill": 114}, "mean": [0.5, 0.5, 0.5]}
    compiled.write_text(json.dumps({**json.loads(compiled.read_text()), "preprocessing": own}))
    receipt = made.results / "build/mnasnet0_5/fp32/compile.receipt.json"
    word = {"code_sha256": "c" * 64, "at": "2026-01-02T03:04:05+00:00", "because": f"renamed {HOSTILE}"}
    receipt.write_text(json.dumps({**json.loads(receipt.read_text()), "accepted": [word]}))
    results = read_results(made.results)
    assert sections.origins(results)["mnasnet0_5"] == [
        "Preprocessing and reference are those of IMAGENET1K_V1 (the first published, as neither name nor digest says "
        "which).",
        "Its images: resize fitted into 224 x 224, centre, filled with 114, 114, 114 (bilinear, pillow), crop 224 x "
        "224, RGB, mean 0.5, 0.5, 0.5, std 0.229, 0.224, 0.225.",
        "The publisher's images: resize short side 256 (bilinear, pillow), crop 224 x 224, RGB, mean 0.485, 0.456, "
        "0.406, std 0.229, 0.224, 0.225.",
        f"The{note[3:]}.",
    ]
    page = make_report(results)
    assert "the first published, as neither name nor digest" in page and "fitted into 224 x 224" in page
    assert "compile_model mnasnet0_5 fp32, 2026-01-02" in page and HOSTILE not in page


def test_the_advice_names_the_mode_and_only_layers_that_pay() -> None:
    def row(mode: str, kept: float) -> dict:
        return {"kind": "symmetric", "mode": mode, "conditioned": {"agreement": 98.0, "sqnr_db": kept}}

    losing = {"layers": {"conv_03": 12.0}, "macs_share": 0.02, "skip_conv_layers": [2], "exclude_layers": ["conv_03"]}
    for gained, expected in ((5.0, "skip_conv_layers: [2] or exclude_layers"), (-1.0, "No layer is worth float")):
        figures = losing | {"sqnr_db_without": 25.0, "sqnr_db_with": 25.0 + gained}
        certificate = {"foreseen": [row("max", 20.0), row("mse", 25.0)], "losing_layers": figures}
        result = SimpleNamespace(row=SimpleNamespace(model="net"), condition=certificate)
        mode, layers = sections.conditioned(SimpleNamespace(rows=[result]))["net"][1]  # type: ignore[arg-type]
        assert "ask for mse, because 25.0 dB" in mode and "20.0 dB with max" in mode
        assert expected in layers
