"""``/etc/crypttab``, as cryptsetup's scripts of Debian and systemd read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rocksalt.host import Host

PATH = "/etc/crypttab"


@dataclass(frozen=True)
class Entry:
    """A line: ``name`` of the mapping, ``source`` as written (``UUID=...``, ``/dev/...``),
    ``key`` the third field, ``options`` with their values (empty for flags).
    """

    line: int
    name: str
    source: str
    key: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def device(self) -> str:
        """The path that the source leads to: ``/dev/disk/by-uuid/...`` for ``UUID=...``."""
        raise NotImplementedError

    @property
    def key_kind(self) -> str:
        """``ask`` (or found out elsewhere), ``random``, ``device``, ``file``, ``elsewhere`` (a file
        on another device), ``script`` (argument of a keyscript), ``token`` (TPM, FIDO2, PKCS#11).
        """
        raise NotImplementedError

    @property
    def key_files(self) -> tuple[str, ...]:
        """Files that are read as key if they exist: the one named, or those that systemd looks for
        where none is.
        """
        raise NotImplementedError

    @property
    def header(self) -> str:
        """The file or device with the detached header, empty for none."""
        return self.options.get("header", "")

    @property
    def plain(self) -> bool:
        """Whether it is opened as plain dm-crypt."""
        raise NotImplementedError

    @property
    def discard(self) -> bool:
        return "discard" in self.options or "allow-discards" in self.options


def entries(text: str) -> list[Entry]:
    """The lines that are well-formed enough to mean something."""
    raise NotImplementedError


def problems(text: str) -> list[str]:
    """What is wrong with the lines by themselves, a sentence each with the number of the line."""
    raise NotImplementedError


def copied_to_initramfs(host: Host, names: Sequence[str]) -> list[str]:
    """Those of the key files (paths) that ``KEYFILE_PATTERN`` has copied into the initial RAM
    disk, which lies in ``/boot``.
    """
    raise NotImplementedError
