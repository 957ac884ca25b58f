"""A real SLURM of one node, from Debian's packages, for as long as the tests here run."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

PROGRAMS = ("munged", "munge", "unmunge", "slurmctld", "slurmd", "sinfo", "sbatch", "srun", "squeue", "scancel")
# Job steps are started with an environment without SLURM_CONF, so the file must be where SLURM looks by itself.
CONFIGURATION = Path("/etc/slurm/slurm.conf")
MUNGE_SOCKET = Path("/run/munge/munge.socket.2")
# SLURM dies of one that asks for cgroups where there are none.
CGROUPS = Path("/etc/slurm/cgroup.conf")
MARK = "# Written by a test of mnasbench for a SLURM of its own; in nobody's use once that test has ended."
SETTINGS = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MinJobAge=3600
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=16000 State=UNKNOWN
PartitionName=ci Nodes={host} Default=YES State=UP
"""


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a running SLURM's logs; skips where it cannot be brought up, saying why."""
    if os.geteuid() != 0:
        pytest.skip("a SLURM of our own needs root")
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurmctld slurmd slurm-client munge")
    if CGROUPS.exists() or (CONFIGURATION.exists() and MARK not in CONFIGURATION.read_text()):
        pytest.skip(f"this machine has a SLURM of its own ({CONFIGURATION.parent})")
    if "slurmctld" in {process.info["name"] for process in psutil.process_iter(["name"])}:
        pytest.skip("a slurmctld runs here already")
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o755)
    processes: list[subprocess.Popen[bytes]] = []
    made_folder = not CONFIGURATION.parent.exists()
    # Where a service manager starts munged as its package is installed, that one serves us as well: SLURM finds it
    # by its socket, and its key matters to nobody on a cluster of one node.
    running = _munge_answers()
    try:
        if not running:
            _start_munge(folder, processes)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        host = socket.gethostname().partition(".")[0]
        CONFIGURATION.parent.mkdir(exist_ok=True)
        CONFIGURATION.write_text(f"{MARK}\n{SETTINGS.format(host=host, folder=folder)}")
        for command in (["slurmctld", "-D", "-i"], ["slurmd", "-D", "-N", host]):
            processes.append(_start(command, folder))
        _wait_until_idle(folder)
        yield folder
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        CONFIGURATION.unlink(missing_ok=True)
        if made_folder and CONFIGURATION.parent.exists():
            CONFIGURATION.parent.rmdir()
        if not running:
            MUNGE_SOCKET.unlink(missing_ok=True)


def _munge_answers() -> bool:
    """Whether a munged runs that gives and takes credentials; skips where one runs that does not."""
    if not MUNGE_SOCKET.exists():
        return False
    given = subprocess.run(["munge", "--no-input"], capture_output=True, check=False)
    taken = subprocess.run(["unmunge"], input=given.stdout, capture_output=True, check=False)
    if given.returncode == taken.returncode == 0:
        return True
    with socket.socket(socket.AF_UNIX) as stream:
        if stream.connect_ex(str(MUNGE_SOCKET)) == 0:
            said = (given.stderr or taken.stderr).decode(errors="replace").strip()
            pytest.skip(f"munged runs here already, and does not serve us: {said}")
    return False  # what a munged that was killed has left


def _start(command: list[str], folder: Path, user: str | None = None) -> subprocess.Popen[bytes]:
    with (folder / f"{command[0]}.out").open("wb") as stream:
        return subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, user=user, group=user, extra_groups=[] if user else None
        )


def _start_munge(folder: Path, processes: list[subprocess.Popen[bytes]]) -> None:
    try:
        owner = pwd.getpwnam("munge")
    except KeyError:
        pytest.skip("no user munge, whom munge's package makes")
    # munged insists on folders that nobody else may write to, all the way up; so not below /tmp.
    place = Path("/run/munge")
    place.mkdir(exist_ok=True)
    key = place / "test.key"
    key.unlink(missing_ok=True)
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    for path in (place, key):
        os.chown(path, owner.pw_uid, owner.pw_gid)
    place.chmod(0o755)
    command = ["munged", "--foreground", f"--key-file={key}", f"--socket={MUNGE_SOCKET}", "--force"]
    command += [f"--pid-file={place}/test.pid", f"--log-file={place}/test.log", f"--seed-file={place}/test.seed"]
    processes.append(_start(command, folder, user="munge"))
    deadline = time.monotonic() + 20
    while not _munge_answers():
        if time.monotonic() > deadline or processes[-1].poll() is not None:
            pytest.fail(f"munged does not run: {(folder / 'munged.out').read_text()}")
        time.sleep(0.2)


def _wait_until_idle(folder: Path) -> None:
    deadline = time.monotonic() + 60
    said = ""
    while time.monotonic() < deadline:
        done = subprocess.run(["sinfo", "--noheader", "--format=%t"], capture_output=True, text=True, check=False)
        said = done.stdout.strip() or done.stderr.strip()
        if said == "idle":
            return
        time.sleep(0.5)
    logs = "".join(
        (folder / f"{name}.log").read_text()[-1500:]
        for name in ("slurmctld", "slurmd")
        if (folder / f"{name}.log").is_file()
    )
    pytest.fail(f"SLURM's node does not become idle: {said}\n{logs}")
