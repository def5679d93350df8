"""What receives the keys of customers on a host: files, units and the account, as rendered."""

from __future__ import annotations

from typing import Any

from rocksalt import systemd
from rocksalt.findings import AS_RENDERED, compared
from rocksalt.host import Host
from rocksalt.luks import config, program
from rocksalt.luks.family.setup import HOME, Setup
from rocksalt.luks.handover import units


def expected(setup: Setup) -> dict[str, Any]:
    """What :func:`seen` gives where everything is right."""
    files = {path: f"{AS_RENDERED}, {rights}" for path, (_, rights) in setup.files().items()}
    account = setup.account.expected() if setup.account else {}
    rendered = dict.fromkeys(setup.units(), AS_RENDERED)
    return {
        **setup.folders(),
        **files,
        **account,
        **rendered,
        **setup.started(),
        "overrides": [],
        "left over": [],
    }


def seen(setup: Setup, host: Host) -> dict[str, Any]:
    """The same as it is."""
    files = {}
    for path, (text, _) in setup.files().items():
        found = host.read(path)
        there = found is not None
        files[path] = f"{compared(found, text)}, {_access(host, path)}" if there else None
    return {
        **{path: _access(host, path) for path in setup.folders()},
        **files,
        **(setup.account.seen(host) if setup.account else {}),
        **{path: compared(host.read(path), text) for path, text in setup.units().items()},
        **_started(setup, host),
        "overrides": overrides(setup, host),
        "left over": left_over(setup, host),
    }


def _started(setup: Setup, host: Host) -> dict[str, str]:
    """How the units are; one that is only to start at boot may have ended by now."""
    wanted = setup.started()
    known = systemd.units(host, list(wanted))
    found = {}
    for name, words in wanted.items():
        state = systemd.state(known.get(name, {}))
        found[name] = state if words != "enabled" else state.partition(", ")[2]
    return found


def overrides(setup: Setup, host: Host) -> list[str]:
    """What systemd reads instead of our units, or on top of them."""
    return systemd.overrides(host, list(setup.units()))


def left_over(setup: Setup, host: Host) -> list[str]:
    """What of ours this host needs no more."""
    wanted = {*setup.units(), *setup.files()}
    file = setup.account.file if setup.account else ""
    return [path for path in installed(host) if path not in wanted and path != file]


def installed(host: Host) -> list[str]:
    """What of ours is there, other than what belongs to volumes themselves."""
    found = host.glob(f"{units.FOLDER}/{units.PREFIX}*") + host.glob(f"{HOME}/.ssh/authorized_keys")
    found += [f"{units.FOLDER}/{units.OPENER}", config.PATH, program.PATH]
    there = [path for path in found if host.attributes(path, follow=False) is not None]
    return [path for path in there if not path.endswith(".d")]


def _access(host: Host, path: str) -> str | None:
    found = host.attributes(path, follow=False)
    return found.access if found else None
