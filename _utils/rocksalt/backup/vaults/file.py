"""The file vault."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from rocksalt.backup.vaults import Settings, Stored, Vault


class FileVault(Vault):
    """A vault of the type file; ``settings`` is its entry below ``vaults``."""

    def __init__(self, name: str, settings: Settings, instance: str):
        self.name = name

    def names(self) -> Mapping[str, Stored]:
        raise NotImplementedError

    def open(self, name: str) -> BinaryIO:
        raise NotImplementedError

    def put(self, name: str, source: Path, sha256: str) -> None:
        raise NotImplementedError

    def faults(self) -> list[str]:
        raise NotImplementedError
