"""Say whether a configuration is right and what would run; nothing is run.

Exit code 2 where the configuration is wrong, with the key, what stands there and what was expected.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mnasbench.commands.arguments import parser_for
from mnasbench.commands.command_line import run
from mnasbench.errors import InputError, OutputError, one_line
from mnasbench.files import read_yaml

_DEFAULT = Path("config/config.yaml")
_REASONS = re.compile(r"^Why these jobs run:\n(.*?)\n\n", re.MULTILINE | re.DOTALL)
_JOBS = re.compile(r"^job +count\n-+ +-+\n.*?^total +\d+$", re.MULTILINE | re.DOTALL)


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this command."""
    parser = parser_for(__doc__)
    purpose = "what goes on top of config/config.yaml, in this order"
    parser.add_argument("--configfile", type=Path, nargs="*", default=[], help=purpose)
    purpose = (
        "read the files and plan nothing: what Snakemake says of one that it cannot read is a traceback, or a wait"
    )
    parser.add_argument("--files_only", action="store_true", help=purpose)
    return parser


def check_files(overlays: Sequence[Path]) -> None:
    """Raise InputError for a file that Snakemake could not read, OutputError where it has no place for its cache."""
    for path in (_DEFAULT, *overlays):
        if not isinstance(read_yaml(path), dict):
            raise InputError(f"{one_line(path)}: holds no settings; config/README.md lists them")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "snakemake"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{one_line(cache)}: cannot be made ({error.strerror}), and Snakemake keeps its cache there; set "
            "XDG_CACHE_HOME to a folder that is yours"
        ) from error


def look_ahead_at(overlays: Sequence[Path]) -> list[str]:
    """A line on the dataset, each model and the card's options; raises what is wrong before anything is made."""
    from snakemake.utils import update_config

    from mnasbench.card_options import unpublished
    from mnasbench.data.available import check_data
    from mnasbench.plan.configured import configured
    from mnasbench.plan.early import look_ahead
    from mnasbench.plan.model_classes import model_classes
    from mnasbench.settings import card_options, load_settings

    files = [read_yaml(path) for path in overlays]
    merged = read_yaml(_DEFAULT)
    for file in files:
        update_config(merged, file)
    settings = load_settings(configured(merged, files, {}))
    extent = check_data(settings, outputs=partial(model_classes, settings))
    options = unpublished(card_options(settings)) if settings["engine"] == "vacc" else []
    return [*([f"dataset: {extent.message}"] if extent.message else []), *look_ahead(settings, extent), *options]


def check(arguments: argparse.Namespace) -> int:
    """Plan, and say what came of it."""
    check_files(arguments.configfile)
    if arguments.files_only:
        return 0
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", "--nocolor"]
    if arguments.configfile:
        command += ["--configfile", *map(str, arguments.configfile)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        # Ours is one line; anything else is Snakemake's, and said whole.
        ours = [line for line in done.stdout.splitlines() if line.startswith("mnasbench: error")]
        print("\n".join(ours) or done.stdout, file=sys.stderr)
        return done.returncode
    for line in look_ahead_at(arguments.configfile):
        print(line)
    jobs = _JOBS.search(done.stdout)
    names = ", ".join(map(str, arguments.configfile)) or "config/config.yaml"
    print(f"{names}: the configuration is right")
    if jobs is None:
        print("Nothing would run: all results are there and up to date.")
        return 0
    print(f"What would run:\n\n{jobs[0]}")
    reasons = _REASONS.search(done.stdout)
    if reasons is not None:
        print(f"\nWhy:\n{reasons[1]}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Check a configuration."""
    return run(build_parser(), check, argv)


if __name__ == "__main__":
    sys.exit(main())
