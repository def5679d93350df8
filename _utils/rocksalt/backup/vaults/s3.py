"""The s3 vault."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from rocksalt.backup.vaults import Settings, Stored, Vault


class S3Vault(Vault):
    """A vault of the type s3; ``settings`` is its entry below ``vaults``."""

    def __init__(
        self, name: str, settings: Settings, credentials: Mapping[str, str], instance: str
    ):
        self.name = name

    def names(self) -> Mapping[str, Stored]:
        raise NotImplementedError

    def open(self, name: str) -> BinaryIO:
        raise NotImplementedError

    def put(self, name: str, source: Path, sha256: str) -> None:
        raise NotImplementedError

    def faults(self) -> list[str]:
        raise NotImplementedError
