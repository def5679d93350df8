"""What packing a backup costs, against a pipeline of stock tools on the same files, and against the
first run of restic and borg. Files are copies of those that this machine has, so that they are
worth compressing as real ones are.
"""

from __future__ import annotations

import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rocksalt.backup.crypto import age

ROUNDS = 3
REPO = Path(__file__).parents[1]
MIB = 1 << 20

PACK = """
import sys
from pathlib import Path
from rocksalt.backup import pack
pack.pack(pack.Part("operator", (sys.argv[1],)), [sys.argv[2]], Path(sys.argv[3]))
"""
PIPELINE = 'set -o pipefail; tar -cf - -C "$1" . | zstd -q -3 | age -r "$2" > "$3"'
RESTIC = 'restic init && restic backup "$1"'
BORG = 'borg init -e repokey-blake2 && borg create -C zstd,3 ::first "$1"'

Row = tuple[str, float, float, str, str]


@dataclass(frozen=True)
class Tree:
    """Files to pack, and how they are chosen: by size in bytes, until there are enough."""

    name: str
    where: tuple[Path, ...]
    smallest: int
    largest: int
    files: int
    bytes: int


TREES = (
    Tree("2,000 files / 8 MB", (REPO / ".venv-3008",), 256, 16_000, 2000, 8_000_000),
    Tree(
        "50,000 files / 400 MB",
        (REPO / ".venv-3008", REPO / ".venv-3006", Path("/usr")),
        16,
        100_000,
        50_000,
        400_000_000,
    ),
    Tree(
        "300 MB of binaries", (Path("/usr/lib"), Path("/usr/bin")), 500_000, 10**9, 10**6, 3 * 10**8
    ),
)


@dataclass(frozen=True)
class Cost:
    """CPU seconds, the peak of resident memory in MiB, and the size of what was made in bytes."""

    cpu: float
    memory: float
    size: int


def measured(command: Sequence[str], made: Path, **environment: str) -> Cost:
    """What a command and all that it starts cost; one that fails is no measure and stops."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, **environment},
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            sys.exit(errors.read().decode(errors="replace"))
    size = made.stat().st_size if made.is_file() else 0
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, size)


def packed(tree: Path, recipient: str, folder: Path) -> Cost:
    """Our archive, in a process of its own whose start counts."""
    target = folder / "ours.age"
    target.unlink(missing_ok=True)
    command = [sys.executable, "-c", PACK, str(tree), recipient, str(target)]
    return measured(command, target, PYTHONPATH=str(REPO / "_utils"))


def piped(tree: Path, recipient: str, folder: Path) -> Cost:
    """The same by tar, zstd and age."""
    target = folder / "theirs.age"
    return measured(["bash", "-c", PIPELINE, "-", str(tree), recipient, str(target)], target)


def first_run(script: str, tree: Path, folder: Path, **environment: str) -> float:
    """CPU seconds of a new repository and the first backup into it."""
    homes = {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    cost = measured(["bash", "-c", script, "-", str(tree)], folder, **homes, **environment)
    return cost.cpu


def candidates(tree: Tree) -> Iterator[Path]:
    """Files of this machine that a tree may be made of, the same ones every time."""
    for folder, folders, names in itertools.chain(*map(os.walk, tree.where)):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            path = Path(folder, name)
            if not path.is_symlink() and tree.smallest <= path.stat().st_size <= tree.largest:
                yield path


def build(tree: Tree, base: Path) -> tuple[int, int]:
    """Copies files into a new folder; how many, and how many bytes."""
    files = size = 0
    for path in candidates(tree):
        if files == tree.files or size >= tree.bytes:
            break
        folder = base / str(files // 1000) / str(files // 50 % 20)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / f"{files}-{path.name}")
        files += 1
        size += path.stat().st_size
    return files, size


def rows() -> list[Row]:
    """(title, cost, limit, unit, note) of each line of the table."""
    recipient = age.generate()[1]
    interpreter = measured([sys.executable, "-c", "import ctypes"], Path("/")).memory
    found: list[Row] = []
    sizes, memories = [], []
    for tree in TREES:
        with tempfile.TemporaryDirectory(prefix="rocksalt-bench-") as scratch:
            folder, base = Path(scratch), Path(scratch, "tree")
            files, size = build(tree, base)
            ours, theirs = [], []
            for _ in range(ROUNDS):
                theirs.append(piped(base, recipient, folder))
                ours.append(packed(base, recipient, folder))
            memories.append(max(cost.memory for cost in ours) - interpreter)
            sizes.append(ours[0].size / theirs[0].size)
            cpu = statistics.median(cost.cpu for cost in ours)
            pipeline = statistics.median(cost.cpu for cost in theirs)
            what = f"{files} files, {size / 1e6:.0f} MB, {cpu:.2f} s, pipeline {pipeline:.2f} s"
            if tree is TREES[0]:
                found.append((f"packing {tree.name}", cpu, 0.35, "s", what))
            else:
                limit = 1.5 if tree is TREES[1] else 1.3
                found.append(
                    (f"packing {tree.name}, of the pipeline", cpu / pipeline, limit, "x", what)
                )
            if tree is TREES[1]:
                found += peers(base, folder, cpu)
    note = ", ".join(f"{ratio:.3f}" for ratio in sizes)
    found.append(("size of the archive, of the pipeline's", max(sizes), 1.02, "x", note))
    note = ", ".join(f"{memory:.0f}" for memory in memories)
    found.append(
        ("peak memory of packing", max(memories), 64, "MiB", f"{note} above the interpreter")
    )
    return found


def peers(base: Path, folder: Path, cpu: float) -> list[Row]:
    """Our CPU seconds as a part of theirs."""
    where, word = str(folder / "repository"), "measured"
    restic = first_run(RESTIC, base, folder, RESTIC_REPOSITORY=where, RESTIC_PASSWORD=word)
    shutil.rmtree(where)
    borg = first_run(BORG, base, folder, BORG_REPO=where, BORG_PASSPHRASE=word)
    return [
        ("the same, of a first run of restic", cpu / restic, 1.0, "x", f"restic {restic:.2f} s"),
        ("the same, of a first run of borg", cpu / borg, 1.0, "x", f"borg {borg:.2f} s"),
    ]


if __name__ == "__main__":
    for title, cost, limit, unit, note in rows():
        print(f"{title:<46} {cost:>8.2f} {limit:>7.2f} {unit:<4} {note}")
