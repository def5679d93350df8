"""Makes the host what the checks expect: rules by an armed change, then what loads them at boot."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence, Set

from rocksalt.errors import Refused
from rocksalt.firewall import BANS, DOCKER_USER, FOLDER, JUMPS, VERSIONS, change, files, tables
from rocksalt.firewall.checks import AT_BOOT, CONFIRMED, GUARDED, ON_DISK, Firewall
from rocksalt.host import Host
from rocksalt.transaction import ASIDE, systemctl


def enforce(
    host: Host,
    look: Callable[[], Firewall],
    ids: Sequence[str],
    witness: Callable[[Firewall], change.Witness],
) -> None:
    """Enforces the controls ``ids``, after a ``look`` at the host that no other run disturbs.
    Raises :class:`Refused` when nothing was changed, or after the old rules are back.
    """
    with change.lock(host):
        change.refuse_while_pending(host)
        it = look()
        safe = it.safe()
        if not safe.actual:
            raise Refused(safe.reason)
        tables.canonical(host, it.emergency())  # nobody looks at them until they have to load
        plans = it.plans()
        if any(plans.values()):
            change.make(host, plans, it.emergency(), it.settings["confirm_within"], witness(it))
        elif CONFIRMED in ids:
            host.remove(files.ROLLED_BACK)
        keep(host, it, set(ids) & it.wanted)


def confirm(host: Host, it: Firewall, witness: change.Witness) -> str:
    """Confirms the pending change by hand, and keeps it for the next boot; what confirmed it, in
    words.
    """
    if any(it.plans().values()):
        raise Refused("the rules in force are not the declared ones: run state.apply instead")
    who = change.confirm(host, witness)
    keep(host, it, {ON_DISK, AT_BOOT, GUARDED} & it.wanted)
    return who


def keep(host: Host, it: Firewall, ids: Set[str]) -> None:
    """Writes what is loaded at boot, or afterwards by the guard, and makes sure that it is."""
    texts = {path: text for control in ids for path, text in it.files_of(control).items()}
    if not texts:
        return
    folder = host.path(FOLDER)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chmod(folder, 0o700)
    for path, text in texts.items():
        host.write(path, text, files.mode(path))
    for path in files.overrides(host):
        host.rename(path, path + ASIDE)
    systemctl(host, "daemon-reload")
    service, timer = f"{files.SERVICE}.service", f"{files.GUARD}.timer"
    if AT_BOOT in ids:
        systemctl(host, "--quiet", "enable", service)
        verb = "start" if host.read(files.EMERGENCY_MARK) is None else "restart"
        systemctl(host, verb, service)
    if GUARDED in ids:
        systemctl(host, "--quiet", "enable", timer)
        systemctl(host, "restart", timer)


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
        # It makes our chains anew where it finds none of them.
        host.run("systemctl", "stop", f"{files.GUARD}.service")
        for version in VERSIONS:
            lines = _without_us(tables.read(host, version))
            if lines:
                tables.apply(host, version, tables.transaction(lines))
        for path in (*files.all_paths(host), files.EMERGENCY_MARK, files.ROLLED_BACK):
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
