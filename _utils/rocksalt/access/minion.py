"""The minion of a host: that it signs what it answers, and by which algorithms. It starts anew when
the run that changed something is over, for that run's answer is on its way until then.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml

from rocksalt import access
from rocksalt.access import controls, master, rendering, sources, undoing, versions
from rocksalt.access.facts import Checks, Facts
from rocksalt.errors import Refused
from rocksalt.findings import AS_RENDERED, Seen, compared, show, some
from rocksalt.host import Host
from rocksalt.transaction import Transaction

UNIT, RESTART = "salt-minion.service", "rocksalt-minion-restart.service"
RIGHTS = "root:root 0644"
IDS = (controls.SIGNS, controls.RESTARTED)
_RELEASE, _KNOWN = "release", "signs what masters verify"
_ASIDE = "/run/rocksalt-minion-refused.conf"
_SCRIPT = (
    'ours=$1 folder=$2 aside=$3; finds_its_master() { timeout 60 salt-call --config-dir="$folder" '
    "--no-return-event --out=quiet test.ping; }; "
    f'tail --pid="$4" -f /dev/null; if systemctl try-restart {UNIT}; then '
    '[ -e "$ours" ] || exit 0; finds_its_master && exit 0; '
    'mv -f "$ours" "$aside"; finds_its_master || mv -f "$aside" "$ours"; rm -f "$aside"; '
    'else rm -f "$ours"; fi; '
    f"systemctl reset-failed {UNIT}; exec systemctl restart {UNIT}"
)
"""Waits for a process, then starts the minion anew; without our file where it does not start, or
finds its master without it alone: one that is older does not know the algorithms.
"""


def path(folder: str) -> str:
    """Our file of the minion's configuration."""
    return f"{folder}/minion.d/{access.MINION_CONFIG}"


def options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a minion is to do. The master answers it by the same algorithms, and verifies what it
    signs by its own ``signing_algorithm``.
    """
    algorithms = {key: settings[key] for key in ("encryption_algorithm", "signing_algorithm")}
    return {**algorithms, "minion_sign_messages": True}


def config(settings: Mapping[str, Any]) -> str:
    """The text of our file."""
    return rendering.HEADER + yaml.safe_dump(options(settings))


def inapplicable(it: Facts) -> str:
    """Why none of it is about this host; empty where it is."""
    if not it.settings["minions_sign"] and it.host.access(path(it.folder)) is None:
        return f"{it.setup.family.where('minions_sign')} is false"
    return "" if _runs(it.host) else f"{UNIT} does not run here"


def _runs(host: Host) -> bool:
    ran = host.run("systemctl", "show", "-P", "ActiveState", UNIT)
    if ran.status:
        raise Refused(f"systemctl show {UNIT}, which says whether it runs, fails: {ran.err}")
    return ran.out.strip() == "active"


# What is configured -------------------------------------------------------------------------------


def _signs_expected(it: Facts) -> dict[str, Any]:
    own = path(it.folder)
    if not it.settings["minions_sign"]:
        return {own: None}
    return {own: f"{AS_RENDERED}, {RIGHTS}", **options(it.settings), _RELEASE: _KNOWN}


def _signs_seen(it: Facts) -> Seen:
    own = path(it.folder)
    rights = it.host.access(own)
    if not it.settings["minions_sign"]:
        where = it.setup.family.where("minions_sign")
        return Seen({own: rights}, f"{own} is there, and {where} is false")
    state = "is a link" if it.host.path(own).is_symlink() else ""
    state = state or compared(it.host.read(own), config(it.settings))
    wanted = _signs_expected(it)
    old = versions.unverifiable(it.wires.release())
    found = _sources(it)
    actual = {own: f"{state}, {rights}" if rights else None, **_effective(it, found)}
    actual[_RELEASE] = old or _KNOWN
    why = [f"{own} {actual[own] or 'does not exist'}"] if actual[own] != wanted[own] else []
    why += [*_others(it, found), *([f"this minion {old}"] if old else [])]
    return Seen(actual, some(why), remedy="manual" if old else "")


def _effective(it: Facts, read: Sequence[sources.Source]) -> dict[str, Any]:
    """The minion's options as its files have them, of which the last one wins."""
    found = dict[str, Any]()
    for source in read:
        found.update(source.data)
    return {key: found.get(key) for key in options(it.settings)}


def _sources(it: Facts) -> list[sources.Source]:
    found = sources.read(it.host, f"{it.folder}/minion")
    others = [source for source in found if source.path != path(it.folder)]
    if broken := [source.problem for source in others if source.problem]:
        raise Refused("; ".join(broken))
    return found


def _others(it: Facts, read: Sequence[sources.Source]) -> list[str]:
    """What other files make of the options, in words."""
    found = [source for source in read if source.path != path(it.folder)]
    effective, wanted = _effective(it, read), options(it.settings)
    return [
        f"{key} is {show(effective[key])}, expected {show(wanted[key])} ({', '.join(named)})"
        for key in wanted
        if effective[key] != wanted[key] and (named := sources.naming(found, key))
    ]


# What runs ----------------------------------------------------------------------------------------


def _restarted_expected(it: Facts) -> dict[str, str]:
    return {UNIT: master.AFTER}


def _restarted_seen(it: Facts) -> Seen:
    own = path(it.folder)
    if not master.later(it, UNIT, [own]):
        return Seen(_restarted_expected(it))
    why = f"{UNIT} was not started since {own} changed"
    if _is_coming(it.host):
        return Seen({UNIT: f"before {own}"}, f"{why}; it will be after this run", remedy="manual")
    return Seen({UNIT: f"before {own}"}, why)


def _is_coming(host: Host) -> bool:
    """Whether the minion is about to start anew."""
    shown = host.run("systemctl", "show", "-P", "ActiveState", RESTART).out.strip()
    return shown in ("active", "activating")


# Enforcement --------------------------------------------------------------------------------------


def enforce(host: Host, it: Facts, own: Collection[str]) -> None:
    """Writes our file, or takes it away, and has the minion start anew after this run."""
    _refuse(host)
    signs = it.settings["minions_sign"]
    if signs and (why := versions.unverifiable(it.wires.release())):
        raise Refused(f"this minion {why}")
    change, ours = Transaction(host), path(it.folder)
    with undoing.undone(change):
        if controls.SIGNS in own:
            if host.path(ours).is_symlink() or not signs:
                change.remove(ours)
            if signs:
                host.path(ours).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                owner, mode = RIGHTS.split()
                change.write(ours, config(it.settings), mode, owner)
                if others := _others(it, _sources(it)):
                    raise Refused(f"another file replaces {ours}: {some(others)}")
        _restart(host, ours)


def clean(host: Host, folder: str) -> None:
    """Takes our file away; the minion starts anew without it."""
    host.remove(path(folder))
    if _runs(host):
        _restart(host, path(folder))


def _refuse(host: Host) -> None:
    """A job within the minion's own process would wait for its own end."""
    if host.run("systemctl", "show", "-P", "MainPID", UNIT).out.strip() == str(os.getpid()):
        raise Refused(
            f"{UNIT} runs jobs in its own process (multiprocessing: False), so that none of them "
            "can have it start anew; on the host itself: salt-call state.apply hardening.access"
        )


def _restart(host: Host, ours: str) -> None:
    if _is_coming(host):
        return
    words = ("--quiet", "--collect", f"--unit={RESTART}", "/bin/sh", "-c", _SCRIPT, "sh")
    folder = os.path.dirname(os.path.dirname(ours))
    ran = host.run("systemd-run", *words, ours, folder, _ASIDE, str(os.getpid()))
    if ran.status:
        raise Refused(f"systemd-run, which starts {UNIT} anew: {' '.join(ran.err.split())}")


CHECKS: Checks = {
    controls.SIGNS: (_signs_expected, _signs_seen),
    controls.RESTARTED: (_restarted_expected, _restarted_seen),
}
