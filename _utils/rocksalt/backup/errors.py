"""What can go wrong with a backup, told apart because each has its own exit code and remedy."""

from __future__ import annotations

from rocksalt.errors import RocksaltError

OK, FAILED, WARNINGS, LOCKED, UNREACHABLE, UNVERIFIED = 0, 1, 4, 5, 6, 7
"""Exit codes of every backup command; 2 and 3 are those of drift."""


class BackupError(RocksaltError):
    """A backup, a check or a restore failed; ``code`` is the exit code of the command."""

    code = FAILED


class Locked(BackupError):
    """Another run is at work."""

    code = LOCKED


class VaultError(BackupError):
    """A vault did not take or give an object: full, refused, broken."""


class Unreachable(VaultError):
    """A vault did not answer, or stopped answering; the object is tried again with the next run."""

    code = UNREACHABLE


class Taken(VaultError):
    """The name is in the vault already, with another content."""


class Unverified(BackupError):
    """What a vault holds is not what was signed."""

    code = UNVERIFIED
