"""The suite of tests/infra on a host of the lab itself, where local:// and salt:// lead from."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import distribution
from pathlib import Path

import outside
import runs
from rocksalt_lab import Host

CLONE, SUITE = "/opt/clone", "/opt/infra"  # a clone, and what `pip install --target` would bring
NEEDED = ("pytest", "pytest-testinfra", "pluggy", "iniconfig", "packaging", "pygments")


def bring(host: Host) -> None:
    """Brings a clone of the repository, and what the suite needs beside Salt's own Python."""
    host.copy_repo(CLONE)
    files = [str(it) for name in NEEDED for it in distribution(name).files or ()]
    there = Path(str(distribution("pytest").locate_file("")))
    host.copy_tree(there, SUITE, [it for it in files if not it.startswith("..")])


def judged(host: Host, way: str, words: Sequence[str] = (), user: str = "root") -> dict[str, str]:
    """Test -> outcome, of a run on the host as this user, by Salt's own Python there."""
    report = f"/tmp/infra-{user}.xml"
    command = ["runuser", "-u", user, "--", "env", f"PYTHONPATH={SUITE}", runs.PYTHON]
    command += ["-m", "pytest", "tests/infra", f"--hosts={way}", *words, "-q"]
    command += [f"--junitxml={report}", "-p", "no:cacheprovider"]
    line = f"cd {CLONE} && PYTHONDONTWRITEBYTECODE=1 {' '.join(command)}"
    done = host.run(line, check=False, timeout=300)
    assert done.returncode in (0, 1), f"{done.stdout}\n{done.stderr}"
    found = outside.outcomes(host.read(report))
    host.run(["rm", report])
    return found
