"""Snakemake's own lint, without its wish for a conda environment or container in each rule.

Steps run in the environment that `make` installs from requirements.lock; no image or conda environment that we could
name holds those packages.
"""

import re
import subprocess
import sys

_UNWANTED = "Specify a conda environment or container for each rule."
_PLACE = re.compile(r"^Lints for (.*):$", re.MULTILINE)
_TITLE = re.compile(r"^    \* (.*):$", re.MULTILINE)


def main() -> int:
    """Print what is found; exit code 1 where anything is."""
    command = [sys.executable, "-m", "snakemake", "--lint", "text"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    _, *sections = _PLACE.split(done.stdout)
    lints = [
        f"{place}: {title}"
        for place, text in zip(sections[::2], sections[1::2], strict=True)
        for title in _TITLE.findall(text)
        if title != _UNWANTED
    ]
    print("\n".join(lints) if sections else done.stdout, file=sys.stderr)
    return 1 if lints or (done.returncode and not sections) else 0


if __name__ == "__main__":
    sys.exit(main())
