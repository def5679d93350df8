"""Looks for secrets in everything that a host wrote: files, disks, streams, in many encodings."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

from rocksalt_lab import Host

STEP = 4 << 20
_OVERLAP = 1 << 10
_ZEROS = bytes(STEP)


def spellings(secret: bytes) -> dict[str, bytes]:
    """What a piece from the middle of a secret looks like wherever it was written."""
    piece = secret[8:40]
    found = {
        "raw": piece,
        "hex": piece.hex().encode(),
        "HEX": piece.hex().upper().encode(),
        "escaped": repr(piece)[2:-1].encode(),
        "as text": piece.decode("latin-1").encode(),
        "numbers": ", ".join(map(str, piece)).encode(),
    }
    for shift in range(3):
        # What comes before decides how the bytes fall into groups of three; the ends are mixed.
        text = base64.b64encode(bytes(shift) + piece)[4:-4]
        found[f"base64, shifted by {shift}"] = text
        found[f"base64 for addresses, shifted by {shift}"] = text.translate(
            bytes.maketrans(b"+/", b"-_")
        )
    return found


class Traces:
    """Where secrets were found: "name of the place: name of the secret, how it is written"."""

    def __init__(self, secrets: Mapping[str, bytes]) -> None:
        self.wanted = {
            f"{name}, {how}": text
            for name, secret in secrets.items()
            for how, text in spellings(secret).items()
        }
        self.found: set[str] = set()
        self.bytes = 0

    def look(self, place: str, chunks: Iterable[bytes]) -> None:
        """Goes through one place; parts of it follow each other."""
        before = b""
        for chunk in chunks:
            self.bytes += len(chunk)
            text = before + chunk
            self.found |= {f"{place}: {it}" for it, piece in self.wanted.items() if piece in text}
            before = chunk[-_OVERLAP:]

    def in_disk(self, path: Path) -> None:
        """A file behind a disk, but for what is zero anyhow."""
        with path.open("rb", buffering=0) as file:
            self.look(path.name, _written(file.fileno()))

    def in_folders(self, host: Host, folders: Iterable[str], without: Iterable[str] = ()) -> None:
        """All files below folders of a host."""
        excluded = [f"--exclude={path}" for path in without]
        command = ["tar", "-C", "/", "-cf", "-", "--ignore-failed-read", *excluded, *folders]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": False}
        with host.start(command, **pipes) as tar:
            assert tar.stdout
            self.look(host.name, _read(tar.stdout))


def _written(descriptor: int) -> Iterator[bytes]:
    at, size = 0, os.fstat(descriptor).st_size
    while at < size:
        try:
            at = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError:  # nothing but a hole is left
            return
        data = os.pread(descriptor, STEP, at)
        at += len(data)
        if data != _ZEROS[: len(data)]:
            yield data


def _read(file: IO[str] | IO[bytes]) -> Iterator[bytes]:
    while data := file.read(STEP):
        assert isinstance(data, bytes)
        yield data
