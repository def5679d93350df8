"""Makes the host what the checks expect: rules by an armed change, then what loads them at boot."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from rocksalt.errors import Refused
from rocksalt.firewall import BANS, DOCKER_USER, FOLDER, JUMPS, VERSIONS, change, files, tables
from rocksalt.firewall.checks import AT_BOOT, CONFIRMED, GUARDED, ON_DISK, Firewall
from rocksalt.host import Host
from rocksalt.transaction import ASIDE

_ON_DISK = {ON_DISK, AT_BOOT, GUARDED}


def enforce(host: Host, it: Firewall, ids: Sequence[str], witness: change.Witness) -> None:
    """Enforces the controls ``ids``. Raises :class:`Refused` when nothing was changed, or after the
    old rules are back.
    """
    with change.lock(host):
        change.refuse_while_pending(host)
        safe = it.safe()
        if not safe.actual:
            raise Refused(safe.reason)
        tables.canonical(host, it.emergency())  # nobody looks at them until they have to load
        plans = it.plans()
        if any(plans.values()):
            change.make(host, plans, it.emergency(), it.settings["confirm_within"], witness)
        elif CONFIRMED in ids:
            host.remove(files.ROLLED_BACK)
        if _ON_DISK & set(ids):
            _keep(host, {**it.persisted(), **it.loading()})


def _keep(host: Host, texts: Mapping[str, str]) -> None:
    """Writes what is loaded at boot, and makes sure that it is."""
    folder = host.path(FOLDER)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chmod(folder, 0o700)
    for path, text in texts.items():
        host.write(path, text, files.mode(path))
    for path in host.glob(f"{files.UNITS}/{files.SERVICE}*.d/*.conf"):
        host.rename(path, path + ASIDE)
    service, timer = f"{files.SERVICE}.service", f"{files.GUARD}.timer"
    _systemctl(host, "daemon-reload")
    _systemctl(host, "--quiet", "enable", service, timer)
    if host.read(files.EMERGENCY_MARK) is not None:
        _systemctl(host, "restart", service)
    _systemctl(host, "start", service)
    _systemctl(host, "restart", timer)


def _systemctl(host: Host, *command: str) -> None:
    ran = host.run("systemctl", *command)
    if ran.status:
        raise Refused(f"systemctl {' '.join(command)}: {' '.join(ran.err.split())}")


def leftovers(host: Host) -> list[str]:
    """What of ours is on the host: files, and chains such as ``IPv4 rocksalt-input``."""
    found = files.all_paths(host)
    for version in VERSIONS:
        if not host.run(tables.PROGRAMS[version], "--version").status:
            chains = tables.read(host, version).chains
            found += [f"IPv{version} {name}" for name in (*JUMPS.values(), BANS) if name in chains]
    return found


def clean(host: Host) -> None:
    """Takes our chains and files away. What remains lets everything in; bans go on from INPUT."""
    with change.lock(host):
        change.refuse_while_pending(host)
        host.run(
            *("systemctl", "--quiet", "disable", "--now"),
            *(f"{files.GUARD}.timer", f"{files.SERVICE}.service"),
        )
        for version in VERSIONS:
            lines = _without_us(tables.read(host, version))
            if lines:
                tables.apply(host, version, tables.transaction(lines))
        for path in (*files.all_paths(host), files.EMERGENCY_MARK, files.ROLLED_BACK):
            if not os.path.isdir(host.path(path)):
                host.remove(path)
        host.run("systemctl", "daemon-reload")


def _without_us(live: tables.Table) -> list[str]:
    ours = [name for name in (*JUMPS.values(), BANS) if name in live.chains]
    if not ours:
        return []
    jumps = [
        f"-D {chain} -j {name}"
        for chain, name in JUMPS.items()
        for rule in live.chains.get(chain, ())
        if rule == f"-j {name}"
    ]
    kept = [r for r in live.chains.get(BANS, ()) if r not in live.chains.get("INPUT", ())]
    return [
        *(f"-P {chain} ACCEPT" for chain in JUMPS if chain != DOCKER_USER),
        *jumps,
        *(f"-A INPUT {rule}" for rule in kept),
        *(f"-F {name}" for name in ours),
        *(f"-X {name}" for name in ours),
    ]
