"""Every command in the documents is run, planned or parsed here; a new one that nothing tries fails the test.

What needs a card, a cluster or ImageNet is planned: Snakemake draws up all its jobs, on a stand-in dataset.
"""

import importlib
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import yaml

from checkout import Workflow, make_workflow
from mnasbench.model.architecture import create
from mnasbench.settings import load_settings
from readers import tiny_onnx

REPOSITORY = Path(__file__).parents[2]
# What is not of this project, and why nothing is tried: its behaviour is its own, and a clean clone has shown it.
NOT_OURS = {
    ".": "activates the environment; the tests run in it",
    "rm": "removes the user's own results",
    "git": "fetches from where the project is published",
    "cd": "changes folder",
    "sbatch": "Slurm's",
    "squeue": "Slurm's",
    "pip": "installs; `make` does the same on every clean clone",
    "apt-get": "installs; continuous integration does",
    "vamc": "the vendor's",
    "vamp": "the vendor's",
    "export": "sets a variable",
}
# A word that is replaced by the reader.
PLACEHOLDERS = {"/path/to/ImageNet": "images", "IMAGENET": "images", "TARGET": "mnasnet0_5"}
MINE = """
dataset: {name: images, root: images}
models:
  mnasnet0_5: {weights: weights.pth}
  small: {library: timm, name: mnasnet_small, weights: pretrained}
"""
_INLINE = re.compile(
    r"`((?:make|snakemake|\.venv/bin/\S+|python workflow/\S+|ort-vam[cp] (?:-m|build|compile) \S+)(?: [^`]*)?)`"
)


@dataclass(frozen=True)
class Said:
    """A command as a document has it."""

    document: str
    text: str

    @property
    def words(self) -> list[str]:
        """The command's words without redirections."""
        return [PLACEHOLDERS.get(word, word) for word in shlex.split(self.text, comments=True)]


def _documents() -> list[Path]:
    return [REPOSITORY / "README.md", REPOSITORY / "config/README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def _blocks(text: str, *languages: str) -> list[str]:
    found = re.findall(r"^( *)```(\w*)\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return [
        "\n".join(line.removeprefix(indent) for line in block.splitlines())
        for indent, language, block in found
        if language in languages
    ]


def _commands() -> list[Said]:
    said = []
    for path in _documents():
        text = path.read_text()
        for block in _blocks(text, "sh", "bash", "shell", "console"):
            lines = block.replace("\\\n", " ").splitlines()
            said += [
                Said(path.name, line.strip()) for line in lines if line.strip() and not line.strip().startswith("#")
            ]
        said += [Said(path.name, " ".join(found.split())) for found in _INLINE.findall(text)]
    return list(dict.fromkeys(said))


COMMANDS = _commands()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A checkout whose stand-in dataset takes ImageNet's place: a thousand names, which planning never opens."""
    workflow = make_workflow(REPOSITORY, tmp_path_factory.mktemp("documents") / "checkout")
    images = workflow.root / "images"
    (images / "val").mkdir(parents=True)
    for number in range(1000):
        (images / f"val/{number}.JPEG").touch()
    (images / "val_label.txt").write_text("".join(f"{number}.JPEG {number % 10}\n" for number in range(1000)))
    for file in (workflow.root / "config").glob("*.yaml"):
        file.write_text(file.read_text().replace("/path/to/ImageNet", "images"))
    (workflow.root / "weights.pth").touch()
    # What `make init` would write; the recipe for a new model uses the same name, and its variant is planned, too.
    (workflow.root / "mine.yaml").write_text(MINE)
    shutil.copy(REPOSITORY / "Makefile", workflow.root)
    # make would install an environment; the tests' own takes its place.
    (workflow.root / ".venv/bin").mkdir(parents=True)
    for name in ("requirements.lock", "pyproject.toml"):
        (workflow.root / name).touch()
    (workflow.root / ".venv/installed").touch()
    return workflow


@pytest.mark.parametrize("said", COMMANDS, ids=lambda said: f"{said.document}: {said.text[:70]}")
def test_every_command_in_the_documents_is_one_that_works(checkout: Workflow, said: Said) -> None:
    program, *arguments = said.words
    name = program.removeprefix(".venv/bin/")
    if name == "make":
        _plan_make(checkout, arguments)
    elif name == "snakemake":
        _plan(checkout, arguments)
    elif name == "python" or name.startswith("ort-vam"):
        script, *arguments = arguments if name == "python" else (name, *arguments)
        _parse(script, arguments)
    else:
        assert name in NOT_OURS, f"{said.document}: nothing here tries `{said.text}`; run it, plan it, or say why not"


def _plan_make(checkout: Workflow, arguments: list[str]) -> None:
    """Have make say what it would do, and plan the Snakemake call in it."""
    target = [word for word in arguments if "=" not in word]
    done = subprocess.run(["make", "-n", *arguments], cwd=checkout.root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    calls = [line for line in done.stdout.splitlines() if line.startswith("snakemake --cores")]
    assert bool(calls) == (target == ["run"])
    for call in calls:
        _plan(checkout, shlex.split(call)[1:])


_planned: set[tuple[str, ...]] = set()


def _plan(checkout: Workflow, arguments: list[str]) -> None:
    """Have Snakemake draw up the jobs of a call, unless another document has the same."""
    if tuple(arguments) in _planned or "--unlock" in arguments:
        return
    # Options such as --configfile take all the words behind them.
    command = [sys.executable, "-m", "snakemake", *([] if "--lint" in arguments else ["--dry-run"]), *arguments]
    done = subprocess.run(
        command, cwd=checkout.root, env=checkout.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = done.stdout + done.stderr
    assert "Job stats" in said or "Congratulations" in said
    _planned.add(tuple(arguments))


def _installed(program: str) -> str:
    """The module of a command that is installed by name."""
    return f"mnasbench.commands.{program.replace('-', '_')}"


def _parse(script: str, arguments: list[str]) -> None:
    """Have a command take the arguments; the ones that a reader fills in may stand for anything."""
    module: Any = importlib.import_module(_installed(script) if script.startswith("ort-") else Path(script).stem)
    module.build_parser().parse_args(arguments)


@pytest.mark.parametrize("path", _documents(), ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_the_configurations_in_the_documents_are_valid(tmp_path: Path) -> None:
    recipe = (REPOSITORY / "docs/new-model.md").read_text()
    blocks = [yaml.safe_load(block) for block in _blocks(recipe, "yaml")]
    assert [sorted(block) for block in blocks] == [["models", "precisions"], ["quantize"], *[["models"]] * 2]
    load_settings(blocks[0] | blocks[1])
    net = tiny_onnx()
    for side in net.graph.input[0].type.tensor_type.shape.dim[2:]:
        side.dim_param = "free"
    onnx.save(net, tmp_path / "net.onnx")
    next(model for block in blocks[2:] for model in block["models"].values() if "onnx" in model)["onnx"] = str(
        tmp_path / "net.onnx"
    )
    for block in blocks[2:]:
        load_settings(block | {"dataset": {"name": "mine", "root": "/path/to/images"}})


def test_the_new_models_recipe_is_one(checkout: Workflow) -> None:
    """The recipe's own file is checked as it says."""
    (block,) = [b for b in _blocks((REPOSITORY / "docs/new-model.md").read_text(), "yaml") if "precisions" in b]
    (checkout.root / "recipe.yaml").write_text(block)
    done = _run(checkout, checkout.root, "workflow/scripts/check_config.py", "--configfile", "recipe.yaml")
    assert done.returncode == 0, done.stderr
    assert "the configuration is right" in done.stdout and re.search(r"^train_demo +1$", done.stdout, re.MULTILINE)


def _run(checkout: Workflow, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=checkout.environment, capture_output=True, text=True, check=False)


def test_the_chain_by_hand_runs_as_it_stands(checkout: Workflow, tmp_path: Path) -> None:
    """Every command of the last part of docs/chain.md in turn, on fewer images and for a shorter time."""
    block = _blocks((REPOSITORY / "docs/chain.md").read_text(), "sh")[-1].replace("\\\n", " ")
    cheaper = {"make_demo.py": "--validation 24 --training 200", "ort-vamp": "--seconds 0.3 --warmup 0"}
    torch.manual_seed(0)
    net = create("torchvision", "mnasnet0_5", 24)
    for module in net.modules():  # with the initial statistics an untrained net's activations vanish
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        net.train()(torch.randn(8, 3, 224, 224))
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    (tmp_path / "workflow").symlink_to(REPOSITORY / "workflow")
    said = {}
    for line in block.splitlines():
        program, *arguments = shlex.split(line)
        if program == ".":
            continue
        name = Path(arguments[0]).name if program == "python" else program
        if program != "python":
            arguments = ["-m", _installed(program), *arguments]
        done = _run(checkout, tmp_path, *arguments, *cheaper.get(name, "").split())
        assert done.returncode == 0, f"{line}\n{done.stderr[-2000:]}"
        said[name] = done.stdout
    assert len(said) == 7 and "throughput (qps)" in said["ort-vamp"] and "top1" in said["eval_topk.py"].lower()
