"""``check_salt_drift``: how far this host is from its baseline."""

from __future__ import annotations

from collections.abc import Sequence

from rocksalt.nrpe.plugins import report


def main(argv: Sequence[str] | None = None) -> int:
    """The plugin as a command."""
    what = "Drift of this host from its hardening baseline, by the last report on it."
    return report.main("check_salt_drift", "DRIFT", what, "", argv)
