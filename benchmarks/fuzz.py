"""Every reader of a foreign file against a coverage-guided fuzzer (atheris, on libFuzzer), for some minutes each.

The readers, and whole files to begin with, are those of tests/readers.py. A finding is whatever is not a value or an
error of ours in one line: another exception, an input that takes over 10 seconds, one that takes over 1 GB of memory,
a crash of the process. Findings are kept in the folder of --keep, the first input of each. The last line is one JSON
object: minutes, executions and findings by reader. Without atheris (benchmarks/requirements.txt) nothing is done.

fuzz.py --minutes 5 --readers "build YAML" settings
"""

import argparse
import importlib.util
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / name) for name in ("workflow", "workflow/scripts", "tests")]

_MEMORY_BYTES = 1 << 30
_SLOW_SECONDS = 10
# Beyond the examples' size nothing new is reached, and every execution takes longer.
_LONGEST = 16_384
# Pure Python beneath our readers, whose branches are worth following, too.
_FOLLOWED = ["mnasbench", "yaml", "zipfile", "csv", "numpy.lib", "PIL"]
# What the formats allow and no example holds; the tags found four kinds of exception that hours without them had not.
_WORDS = [
    b"!!int",
    b"!!bool",
    b"!!timestamp",
    b"!!set",
    b"!!binary",
    b"0x",
    b"&a",
    b"*a",
    b"<<",
    b".nan",
    b"NaN",
    b"u0000",
]
# What numba compiles cannot hold the fuzzer's marks.
_COMPILED = ["mnasbench.data.resample", "mnasbench.run.inputs"]


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="for each reader")
    parser.add_argument("--readers", nargs="+", help="only these; default: all")
    parser.add_argument("--keep", type=Path, default=REPOSITORY / "test-output" / "fuzz", help="folder for findings")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


# -------------------------------------------------------------------------------------------- one reader, one process
def fuzz_reader(name: str, seconds: float, keep: Path) -> None:
    """Run libFuzzer on one reader; it ends the process. Findings are written to ``keep``."""
    import atheris

    with atheris.instrument_imports(include=_FOLLOWED, exclude=_COMPILED):
        from readers import READERS

    reader = READERS[name]
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))  # noqa: S108
    corpus, findings = folder / "corpus", set[str]()
    corpus.mkdir()
    words = set(_WORDS)
    for number, example in enumerate(reader.examples()):
        reader.try_content(folder, example)  # what compiles at its first call is no slow reader
        (corpus / f"example-{number}").write_bytes(example)
        words.update(re.findall(rb"[A-Za-z_][A-Za-z0-9_]{2,30}", example))
    dictionary = folder / "words.dict"
    dictionary.write_bytes(b"".join(b'"%s"\n' % word for word in sorted(words)))
    highest = _peak_bytes()

    def note(finding: str, content: bytes, about: str = "") -> None:
        if finding not in findings:
            findings.add(finding)
            (keep / f"finding-{len(findings)}").write_bytes(content)
            (keep / f"finding-{len(findings)}.txt").write_text(f"{finding}{about}\n")

    def try_one(content: bytes) -> None:
        nonlocal highest
        begin = time.monotonic()
        try:
            reader.try_content(folder, content)
        except Exception as error:
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "mnasbench" in frame.filename]
            place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "outside"
            note(f"{type(error).__name__} at {place}", content, f": {str(error)[:200]!r}")
        if time.monotonic() - begin > _SLOW_SECONDS:
            note("takes too long", content)
        if (peak := _peak_bytes()) > highest + _MEMORY_BYTES:
            highest = peak
            note("takes too much memory", content)

    arguments = [f"-max_total_time={int(seconds)}", f"-timeout={4 * _SLOW_SECONDS}", "-rss_limit_mb=6144"]
    arguments += [f"-max_len={_LONGEST}", f"-dict={dictionary}", f"-artifact_prefix={keep}/ended-", "-verbosity=0"]
    atheris.Setup([sys.argv[0], str(corpus), *arguments, "-print_final_stats=1"], try_one)
    atheris.Fuzz()


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# ------------------------------------------------------------------------------------------------------- all readers
def run_reader(name: str, minutes: float, keep: Path) -> dict[str, Any]:
    """Fuzz one reader in a process of its own; what came out of it."""
    folder = keep / name.replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    command = [sys.executable, __file__, "--child", name, "--minutes", str(minutes), "--keep", str(folder)]
    begin = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    spent = (time.monotonic() - begin) / 60
    executions = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    findings = [file.read_text().strip() for file in sorted(folder.glob("finding-*.txt"))]
    # libFuzzer leaves the input that ended the process: a crash, or one that it gave up waiting for.
    findings += [f"ended the process: {file.name}" for file in sorted(folder.glob("ended-*"))]
    if executions is None and not findings:
        findings = [f"did not run: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}"]
    return {
        "reader": name,
        "minutes": round(spent, 2),
        "executions": int(executions[1]) if executions else None,
        "findings": findings,
    }


def main() -> int:
    arguments = build_parser().parse_args()
    if arguments.child:
        fuzz_reader(arguments.child, 60 * arguments.minutes, arguments.keep)
        return 0
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: pip install -r benchmarks/requirements.txt", file=sys.stderr)
        print(json.dumps({"benchmark": "fuzz", "skipped": "atheris is not installed"}))
        return 0
    from readers import READERS

    results = []
    for name in arguments.readers or READERS:
        results.append(run_reader(name, arguments.minutes, arguments.keep))
        result = results[-1]
        print(f"{name:<16} {result['minutes']:6.2f} min {result['executions'] or 0:>9} executions", flush=True)
        for finding in result["findings"]:
            print(f"    {finding}", flush=True)
    print(
        json.dumps({"benchmark": "fuzz", "minutes": round(sum(r["minutes"] for r in results), 1), "readers": results})
    )
    return int(any(result["findings"] for result in results))


if __name__ == "__main__":
    sys.exit(main())
