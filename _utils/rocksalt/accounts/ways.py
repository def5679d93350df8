"""Who keeps a way in: judged on the host as it will be once this family has been enforced."""

from __future__ import annotations

from collections.abc import Callable, Collection

from rocksalt import findings
from rocksalt.findings import Seen
from rocksalt.host import Host
from rocksalt.settings import Baseline
from rocksalt.sshd import checks as sshd
from rocksalt.sshd import keys, reading
from rocksalt.sshd.keys import Key
from rocksalt.ways_in import Newcomer, Plan

MAKING = frozenset({"ACC-010", "ACC-011", "ACC-012", "ACC-013"})
"""The controls that together make an administrator."""
_LOCKING = "ACC-040"
_TAKING_AWAY = {
    "accounts": "ACC-043",
    "authorized_keys": "ACC-042",
    "members": "ACC-044",
    "sudoers": "ACC-029",
}


def safe(host: Host, baseline: Baseline, ids: Collection[str]) -> Seen:
    """Whether the guarded controls may be enforced: somebody gets in with the baseline's
    configuration of sshd, and as it runs now. ``ids`` are the controls that a run in test mode has
    found to enforce so far; in a real run the administrators are on the host by now.
    """
    plan = Plan(_newcomers(host, baseline, ids), *_stay(baseline))
    it = sshd.Sshd(baseline, reading.read(host))
    then, now = it.administrator(host, plan), it.administrator(host, plan, as_it_runs=True)
    if then.actual and not now.actual:
        return Seen(False, f"with sshd as it runs now, {now.reason}")
    return then


def foreseen(host: Host, baseline: Baseline, ids: Collection[str]) -> Plan:
    """What a run in test mode, which enforces these controls of this family, does to the ways in
    of others.
    """
    newcomers = _newcomers(host, baseline, ids)
    if {_LOCKING, *_TAKING_AWAY.values()} & set(ids):
        return Plan(newcomers, *_stay(baseline))
    return Plan(newcomers)


def _newcomers(host: Host, baseline: Baseline, ids: Collection[str]) -> list[Newcomer]:
    family = baseline.families["accounts"]
    if not MAKING & set(ids) or MAKING - set(_wanted(baseline)):
        return []
    group = family.settings["administrators_group"]
    return [
        Newcomer(name, (name, group), entry["keys"])
        for name, entry in family.settings["administrators"].items()
        if host.attributes(entry.get("shell", "/bin/bash")) is not None
    ]


def _stay(baseline: Baseline) -> tuple[Callable[[str], bool], Callable[[str, Key], bool]]:
    """(whether an account and all it takes to become root is left alone by this family, whether a
    key of it is).
    """
    settings, wanted = baseline.families["accounts"].settings, _wanted(baseline)
    administrators = settings["administrators"]
    removed = {kind for kind in settings["remove"] if _TAKING_AWAY.get(kind) in wanted}
    locked = set(settings["default_accounts"] if _LOCKING in wanted else ())
    locked -= {*administrators, *settings["users"]}
    declared = {
        name: {key.fingerprint for line in entry["keys"] for key in keys.parse(line)}
        for name, entry in administrators.items()
    }

    def stays(name: str) -> bool:
        return name in administrators if removed else name not in locked

    def keeps(name: str, key: Key) -> bool:
        return "authorized_keys" not in removed or key.fingerprint in declared.get(name, ())

    return stays, keeps


def _wanted(baseline: Baseline) -> dict[str, object]:
    return findings.wanted(baseline, "accounts", baseline.families["accounts"].controls)
