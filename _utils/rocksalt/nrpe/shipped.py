"""The plugins that we bring: path -> content, each one file that Salt's own Python runs."""

from __future__ import annotations

from functools import cache

from rocksalt import nrpe, program

_PACKAGE = "rocksalt.nrpe.plugins"
NAMES = {"check_salt_drift": "drift", "check_luks": "luks", "check_ossec": "ossec"}


@cache
def programs(interpreter: str) -> dict[str, str]:
    """The files, as :class:`rocksalt.host.Host` reads and writes them."""
    return {
        f"{nrpe.PLUGINS}/{name}": _text(interpreter, f"{_PACKAGE}.{module}")
        for name, module in NAMES.items()
    }


def _text(interpreter: str, entry: str) -> str:
    data = program.build(interpreter, entry, program.sources(entry))
    return data.decode(errors="surrogateescape")
