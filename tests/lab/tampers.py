"""Tamper cases: how a control is broken on a real host, and exactly which controls must drift then.

A case of ``tampers/<family>.yaml`` is a mapping with

- ``name`` and ``break`` (a shell line), or ``line`` (a directive put into a drop-in of sshd that
  sorts before ours; ``with`` adds a second one);
- ``drifts``: the ids that must be in the report, no more and no less;
- ``undo``: what the default way back does not cover (files, see ``on_host/look.py``);
- ``alone: true`` where it does not go together with the other cases of its family;
- ``needs_a_person: true`` where no state may heal it;
- ``host``: which host of the test it is for, where that has several.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from rocksalt_lab import Host

FOLDER = Path(__file__).parent / "tampers"
DROP_IN = "/etc/ssh/sshd_config.d/00-aaa.conf"
LOOK = "/root/look.py"


@dataclass(frozen=True)
class Case:
    """One way to break a host."""

    family: str
    name: str
    command: str
    drifts: frozenset[str]
    undo: str = ""
    alone: bool = False
    needs_a_person: bool = False
    host: str = ""

    @property
    def healed(self) -> set[str]:
        """Those of the drifting controls that a state heals by itself; others follow."""
        by_state = {
            i for f in families() for i, control in controls(f).items() if _by_state(control)
        }
        return set(self.drifts) & by_state

    @property
    def of_family(self) -> set[str]:
        """Those that a run of the family alone heals."""
        return self.healed & set(controls(self.family))


def _by_state(control: dict[str, Any]) -> bool:
    return control.get("remedy", "state") == "state"


@functools.cache
def controls(family: str) -> dict[str, dict[str, Any]]:
    """The controls of a family as its file describes them, by id."""
    path = FOLDER.parents[2] / "salt/hardening" / family / "controls.yaml"
    return yaml.safe_load(path.read_text())["controls"]


def families() -> list[str]:
    """The families that have tamper cases."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def cases(family: str) -> list[Case]:
    """The tamper cases of one family."""
    text = (FOLDER / f"{family}.yaml").read_text()
    return [_case(family, entry) for entry in yaml.safe_load(text)]


def bring_look(host: Host, cases: Iterable[Case]) -> str:
    """Brings ``on_host/look.py`` to a host as :data:`LOOK`; the cases as its standard input has
    them, one line of JSON.
    """
    host.write(LOOK, (FOLDER.parent / "on_host" / "look.py").read_text())
    return json.dumps([{"name": it.name, "break": it.command, "undo": it.undo} for it in cases])


def _case(family: str, entry: dict[str, Any]) -> Case:
    name, command = entry.get("name", ""), entry.get("break", "")
    if "line" in entry:
        name = f"a drop-in before ours says {entry['line']}"
        lines = "".join(f"{line}\\n" for line in (entry["line"], entry.get("with")) if line)
        command = (
            f"touch {DROP_IN}; chmod 600 {DROP_IN}; printf '{lines}' >> {DROP_IN}; "
            "sshd -t && systemctl reload ssh"
        )
    return Case(
        family=family,
        name=name,
        command=command,
        drifts=frozenset(entry["drifts"]),
        undo=entry.get("undo", ""),
        alone=entry.get("alone", False),
        needs_a_person=entry.get("needs_a_person", False),
        host=entry.get("host", ""),
    )
