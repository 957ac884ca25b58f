"""Every net of config/zoo.yaml exported, built in fp32 and run, untrained, beside torch and the published figures.

Of each net: random weights whose statistics are those of drawn images, written as a state dict and read back as a
user's file is; the export, the build, the npz of eight drawn images and the accuracy run are the library's own. The
answers are held against torch's, the multiply-adds against those that torchvision publishes with its weights and
timm in its repository (zoo.csv: infer_gmacs of results/benchmark-infer-amp-nchw-pt240-cu124-rtx3090.csv, commit
aa4b5850). timm counts nets with branches of training as they are trained, so that is compared; what is run is fused.
Its counter adds two operations for each value that a BatchNorm gives; so does the comparison.

A net of more than 2 G multiply-adds is counted and not run, but for the smallest of a family. A net that fails stands
there with the reason. Each net's row is kept in --folder, and a further call goes on where the last one ended. The 37
nets that are run take some 15 s of processor time each. The last line is JSON: how many were run, how many agree with
torch, and how many are counted as published.

    python benchmarks/zoo.py --folder results/zoo
    python benchmarks/zoo.py --models timm:levit_128s torchvision:googlenet
"""

import argparse
import csv
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

from mnasbench.build.config import BuildConfig
from mnasbench.build.package import CompiledModel
from mnasbench.build.vamc import build
from mnasbench.data.demo import make_demo
from mnasbench.data.npz import write_npz
from mnasbench.data.preprocess import normalise, pixels_of
from mnasbench.data.shard import read_scores
from mnasbench.files import read_json, read_yaml, write_json
from mnasbench.model.architecture import create, load_file
from mnasbench.model.complexity import card_flops, multiply_adds, parameter_count
from mnasbench.model.export import export_onnx
from mnasbench.model.fusion import fuse_branches
from mnasbench.model.torchvision_import import import_timm, torchvision
from mnasbench.preprocessing import Preprocessing
from mnasbench.presets import preset
from mnasbench.run.accuracy import run_accuracy

ROOT = Path(__file__).parents[1]
IMAGES = 8
MOST_GMACS = 2.0
# Logits of fp32, in shares of the largest: the export's own limit, times what a runtime's other kernels may add.
AGREES = 1e-3
# G multiply-adds are published in hundredths; of LayerNorms each counter makes what it will.
COUNTED, ROUNDED = 0.015, 0.006
# What timm's counter adds for a value that a BatchNorm gives, and what card_flops does, which tells how many there are.
TIMM_PER_VALUE, CARD_PER_VALUE, CARD_FACTOR = 2, 4, 2 / 0.9


@dataclass
class Net:
    """What is known of one net; ``failed`` is the reason why there is no more."""

    family: str
    library: str
    name: str
    size: int
    published: float | None = None  # G multiply-adds, as those below
    counted: float | None = None
    as_publisher: float | None = None  # counted as the publisher does
    run: float | None = None
    params: int | None = None
    steps: str = ""
    difference: float | None = None
    seconds: float | None = None
    failed: str = ""
    left_out: bool = False
    fused: bool = False

    @property
    def agrees(self) -> bool:
        return self.difference is not None and self.difference <= AGREES

    @property
    def counts_as_published(self) -> bool | None:
        if self.published is None or self.as_publisher is None:
            return None
        return abs(self.as_publisher - self.published) <= max(COUNTED * self.published, ROUNDED)


def net_of(library: str, name: str, family: str = "", size: int | None = None) -> Net:
    """A net at its published size, where no other is given."""
    return Net(family, library, name, size or preset(library, name).size)


def nets() -> list[Net]:
    """The nets of config/zoo.yaml in its order, with their published counts."""
    models = read_yaml(ROOT / "config/zoo.yaml")["models"]
    with (ROOT / "benchmarks/zoo.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    made = []
    for row in rows:
        model = models[row["model"]]
        net = net_of(model["library"], row["model"], row["family"], model.get("size"))
        net.published = float(row["published_gmacs"] or 0) or None
        if net.library == "torchvision":
            weights = torchvision.models.get_model_weights(net.name)[model["weights"]]
            net.published = weights.meta["_ops"]
        made.append(net)
    return made


def count(net: Net, device: str) -> None:
    """Multiply-adds and parameters as published: not fused, at the published size; without weights on ``meta``."""
    with torch.device(device):
        model = create(net.library, net.name, size=net.size)
    counted = multiply_adds(model, net.size)
    normalised = (card_flops(model, net.size) / CARD_FACTOR - counted) / CARD_PER_VALUE
    net.counted = counted / 1e9
    net.as_publisher = (counted + TIMM_PER_VALUE * normalised) / 1e9 if net.library == "timm" else net.counted
    net.params = parameter_count(model)


def settled(model: torch.nn.Module, images: torch.Tensor) -> torch.nn.Module:
    """The net with statistics of ``images``, as training would leave them: the first ones let activations vanish."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    with torch.no_grad():
        model.train()(images)
        model.eval()
        # A head begins with zeros or nearly: its logits would be alike.
        logits = model(images)
        last = [part for part in model.modules() if isinstance(part, torch.nn.Linear | torch.nn.Conv2d)][-1]
        if float(logits.std(0).mean()) < 1e-2:
            torch.nn.init.normal_(last.weight, std=0.1)
    return model


def work(net: Net, drawn: Sequence[Path], folder: Path) -> None:
    """Export, prepare, build and run one net; what came of it goes into ``net``."""
    how = preset(net.library, net.name).preprocessing_for(net.size)
    torch.manual_seed(0)
    pixels = np.stack([pixels_of(path, how) for path in drawn])
    images = torch.from_numpy(normalise(pixels, how))
    weights = folder / "weights.pth"
    torch.save(settled(create(net.library, net.name, size=net.size), images).state_dict(), weights)
    model = load_file(net.library, net.name, weights, net.size).model
    fused, _ = fuse_branches(model, net.size)
    net.fused = fused is not model
    export_onnx(fused, net.size, folder / "net.onnx")
    net.steps = "exported"
    net.run, net.params = multiply_adds(fused, net.size) / 1e9, parameter_count(fused)
    inputs = [folder / f"{number}.npz" for number in range(len(pixels))]
    for path, image in zip(inputs, pixels, strict=True):
        write_npz(path, image)
    compiled = built(folder, how, (1, 3, net.size, net.size))
    net.steps = "prepared"
    run_accuracy(compiled, how.without_resize(), inputs, folder / "scores.npz", batch=4)
    net.steps = "run"
    _, scores = read_scores(folder / "scores.npz")
    with torch.no_grad():
        expected = model(images).numpy()
    if not (np.isfinite(expected).all() and float(expected.std(0).mean()) > 1e-3 * float(np.abs(expected).max())):
        raise ValueError("torch's logits are not finite, or alike for every image: nothing is compared")
    net.difference = float(np.abs(scores - expected).max() / np.abs(expected).max())


def built(folder: Path, how: Preprocessing, shape: tuple[int, int, int, int]) -> CompiledModel:
    """The compiled fp32 model."""
    config = BuildConfig(
        generation=1,
        name="net",
        checkpoint=folder / "net.onnx",
        input_name="input",
        shape=shape,
        precision="fp32",
        preprocessing=how,
        dataset=None,
        suffix="JPEG",
        images=None,
        work_dir=folder / "build",
    )
    return build(config)[0]


def in_child(net: Net, drawn: Sequence[Path], target: Path) -> None:
    """Work in a process of its own, whose end is not this one's; the row goes to ``target``."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            if net.counted is None:
                count(net, "cpu")
            work(net, drawn, Path(folder))
        except Exception as error:
            net.failed = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"
    net.seconds = round(time.perf_counter() - begin, 1)
    write_json(target, asdict(net))


def worked(todo: Sequence[Net], folder: Path) -> Iterator[Net]:
    """Each net's row, from ``folder`` where it is there."""
    context = multiprocessing.get_context("fork")  # torch and timm are loaded once
    make_demo(folder / "images", validation=24, training=24, seed=1, workers=1)
    drawn = sorted((folder / "images" / "val").rglob("*.JPEG"))[:IMAGES]
    for net in todo:
        target = folder / f"{net.library}-{net.name}.json"
        if not target.is_file() and not net.left_out:
            child = context.Process(target=in_child, args=(net, drawn, target))
            child.start()
            child.join()
            if child.exitcode:
                net.failed = f"its process ended with {child.exitcode}"
                write_json(target, asdict(net))
        if not net.left_out:
            # The count is made anew each time, what was run is not.
            anew = {"family": net.family, "published": net.published, "size": net.size}
            anew |= {} if net.counted is None else {"counted": net.counted, "as_publisher": net.as_publisher}
            net = Net(**(read_json(target) | anew))
        yield net


def choose(all_nets: Sequence[Net], most: float) -> None:
    """Mark the nets that are not run: those above ``most`` G, but for the smallest of a family."""
    for net in all_nets:
        smallest = min((other for other in all_nets if other.family == net.family), key=lambda one: one.counted or 0.0)
        net.left_out = (net.counted or 0.0) > most and net is not smallest


def line_of(net: Net) -> list[str]:
    """A row of the table."""
    yes = {"exported": 1, "prepared": 2, "run": 3}.get(net.steps, 0)
    steps = ["-"] * 3 if net.left_out else ["yes" if yes > step else "no" for step in range(3)]
    answers = "left out" if net.left_out else net.failed
    if not answers:
        answers = f"{net.difference:.1e}" + ("" if net.agrees else " DIFFERS")
    counted = "" if net.counted is None else f"{net.counted:.3f}"
    counted += "" if net.counts_as_published is not False else " OTHER"
    return [
        net.family,
        f"{net.library} {net.name}",
        *steps,
        answers,
        counted,
        "" if net.published is None else f"{net.published:.3f}",
        f"{net.run:.3f}" if net.fused and net.run else "",
        "" if net.params is None else f"{net.params / 1e6:.2f}",
        "" if net.seconds is None else f"{net.seconds:.0f}",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Work on every net, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where rows are kept; default: nowhere")
    parser.add_argument("--models", nargs="+", metavar="LIBRARY:NAME", help="others than those of config/zoo.yaml")
    parser.add_argument("--most_gmacs", type=float, default=MOST_GMACS, help="larger nets are counted, and not run")
    arguments = parser.parse_args(argv)

    begin = time.perf_counter()
    import_timm()
    all_nets = [net_of(*model.split(":", 1)) for model in arguments.models or ()] or nets()
    for net in all_nets:
        with suppress(Exception):  # some compute with values while they are made; they are counted with weights
            count(net, "meta")
    if not arguments.models:
        choose(all_nets, arguments.most_gmacs)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for net in worked(all_nets, folder):
            rows.append(net)
            print("  ".join(filter(None, line_of(net))), file=sys.stderr, flush=True)
    titles = ["family", "net", "exported", "prepared", "run", "difference of logits", "G multiply-adds", "published"]
    print(tabulate([line_of(net) for net in rows], [*titles, "fused", "M params", "s"], disable_numparse=True))
    compared = [net for net in rows if net.counts_as_published is not None]
    seconds = round(time.perf_counter() - begin)
    result = {
        "nets": len(rows),
        "run": sum(net.steps == "run" for net in rows),
        "agree": sum(net.agrees for net in rows),
        "left_out": sum(net.left_out for net in rows),
        "counts_compared": len(compared),
        "counts_as_published": sum(bool(net.counts_as_published) for net in compared),
        "seconds": seconds,
    }
    print(json.dumps(result))
    return 0 if result["run"] + result["left_out"] == result["nets"] else 1


if __name__ == "__main__":
    sys.exit(main())
