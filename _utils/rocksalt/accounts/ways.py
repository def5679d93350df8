"""Who keeps a way in: judged on the host as it will be once this family has been enforced."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from rocksalt import findings
from rocksalt.findings import Seen
from rocksalt.host import Host
from rocksalt.settings import Baseline
from rocksalt.sshd import checks as sshd
from rocksalt.sshd import reading
from rocksalt.ways_in import Newcomer

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
    """Whether the guarded controls may be enforced. ``ids`` are the controls that a run in test
    mode has found to enforce so far; in a real run the administrators are on the host by now.
    """
    newcomers, _ = foreseen(baseline, ids)
    it = sshd.Sshd(baseline, reading.read(host))
    return it.administrator(host, newcomers, stays(baseline))


def foreseen(
    baseline: Baseline, ids: Collection[str]
) -> tuple[Sequence[Newcomer], Callable[[str], bool]]:
    """(the administrators whom a run will have made, whether an account stays) given the controls
    of this family that the run enforces.
    """
    newcomers = _newcomers(baseline) if MAKING & set(ids) else []
    everybody: Callable[[str], bool] = lambda _: True  # noqa: E731
    locks = {_LOCKING, *_TAKING_AWAY.values()} & set(ids)
    return newcomers, stays(baseline) if locks else everybody


def _newcomers(baseline: Baseline) -> list[Newcomer]:
    family = baseline.families["accounts"]
    if MAKING - set(findings.wanted(baseline, "accounts", family.controls)):
        return []
    group = family.settings["administrators_group"]
    return [
        Newcomer(name, (name, group), entry["keys"])
        for name, entry in family.settings["administrators"].items()
    ]


def stays(baseline: Baseline) -> Callable[[str], bool]:
    """Whether an account and all it takes to become root is left alone by this family."""
    family = baseline.families["accounts"]
    wanted = findings.wanted(baseline, "accounts", family.controls)
    declared = {*family.settings["administrators"], *family.settings["users"]}
    locked = set(family.settings["default_accounts"] if _LOCKING in wanted else ()) - declared
    cleared = any(_TAKING_AWAY.get(kind) in wanted for kind in family.settings["remove"])
    administrators = set(family.settings["administrators"])

    def judge(name: str) -> bool:
        return name in administrators if cleared else name not in locked

    return judge
