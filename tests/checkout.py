"""A copy of the checkout, a small dataset and real Snakemake to run on them."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Workflow:
    """A checkout of its own with a configuration, run as a user would."""

    root: Path
    environment: dict[str, str]

    def call(self, *arguments: str, cores: int = 2) -> subprocess.CompletedProcess[str]:
        """Call Snakemake in the checkout; the output is whatever it says."""
        command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--configfile", "test.yaml", "--nocolor"]
        # Targets stand before the options: several options take any number of words.
        return subprocess.run(
            [*command[:3], *arguments, *command[3:]],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def run(self, *arguments: str) -> str:
        """Call Snakemake and insist that it succeeds."""
        done = self.call(*arguments)
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    def planned(self, *arguments: str) -> dict[str, int]:
        """Jobs that a call would run, by rule, targets themselves left out."""
        said = self.run(*arguments, "--dry-run")
        table = re.search(r"^job +count\n-+ +-+\n(.*?)^total ", said, re.MULTILINE | re.DOTALL)
        if table is None:
            assert "Nothing to be done" in said, said
            return {}
        rows = (line.split() for line in table[1].splitlines())
        return {name: int(count) for name, count in rows if name != "all" and not name.startswith("mnasnet")}

    def configure(self, settings: dict[str, Any]) -> None:
        """Write the configuration."""
        (self.root / "test.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))

    def script(self, name: str, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one of the commands by hand."""
        command = [sys.executable, str(self.root / "workflow/scripts" / name), *map(str, arguments)]
        return subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=check)


def make_workflow(repository: Path, root: Path) -> Workflow:
    """Copy what git would give of the checkout to ``root``."""
    root.mkdir(parents=True)
    for name in ("workflow", "config", "profiles"):
        shutil.copytree(repository / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(repository / "Snakefile", root)
    paths = [str(root / "workflow"), str(root / "workflow/scripts")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "NO_COLOR": "1"}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    # Compiled code is kept beside the tests' other files, not made anew for each copy of the checkout.
    environment["NUMBA_CACHE_DIR"] = str(Path(os.environ.get("NUMBA_CACHE_DIR", root.parent / "numba")))
    return Workflow(root, environment)
