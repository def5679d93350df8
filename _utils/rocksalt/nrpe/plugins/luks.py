"""``check_luks``: whether the disks of this host are encrypted as its baseline wants it."""

from __future__ import annotations

from collections.abc import Sequence

from rocksalt.nrpe.plugins import report


def main(argv: Sequence[str] | None = None) -> int:
    """The plugin as a command."""
    what = "Disk encryption of this host against its hardening baseline, by the last report."
    return report.main("check_luks", "LUKS", what, "luks", argv)
