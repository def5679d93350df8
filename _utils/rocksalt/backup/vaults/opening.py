"""Opens the vault that a setting describes."""

from __future__ import annotations

from collections.abc import Mapping

from rocksalt.backup.vaults import Settings, Vault
from rocksalt.backup.vaults.file import FileVault
from rocksalt.backup.vaults.s3 import S3Vault
from rocksalt.backup.vaults.ssh import SshVault

Credentials = Mapping[str, Mapping[str, str]]
"""By the name of an s3 vault, ``access_key`` and ``secret_key``: what is in config.CREDENTIALS."""


def vault(name: str, settings: Settings, credentials: Credentials, instance: str) -> Vault:
    """The vault ``name`` for putting; ``settings`` is its own entry below ``vaults``.

    Nothing is connected or checked yet: the first use does that, and says what is wrong. Call
    ``close`` in the end.
    """
    if settings["type"] == "file":
        return FileVault(name, settings, instance)
    if settings["type"] == "ssh":
        return SshVault(name, settings, instance)
    return S3Vault(name, settings, credentials.get(name, {}), instance)
