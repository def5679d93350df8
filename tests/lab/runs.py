"""Salt runs on lab hosts, and what they said."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import tampers
from rocksalt_lab import Host, Lab

PYTHON = "/opt/salt/bin/python"
HAS_MODULES = "test -e /var/cache/salt/minion/extmods/modules/drift.py"
PILLAR = "/srv/rocksalt-pillar/hardening.sls"
OWN_PENALTIES = "/etc/ssh/sshd_config.d/50-no-penalties.conf"


@dataclass(frozen=True)
class Run:
    """One state run: what each state said, by its id."""

    states: Mapping[str, Mapping[str, Any]]

    def __getitem__(self, identifier: str) -> Mapping[str, Any]:
        return self.states[identifier]

    @property
    def failed(self) -> dict[str, str]:
        """State id -> comment, of those that failed."""
        return {i: s["comment"] for i, s in self.states.items() if s["result"] is False}

    @property
    def changes(self) -> dict[str, Any]:
        """State id -> changes, of those that changed something or would."""
        return {i: s["changes"] for i, s in self.states.items() if s["changes"]}

    @property
    def controls(self) -> set[str]:
        """The ids of the controls that were enforced or would be."""
        changed = {name for changes in self.changes.values() for name in changes}
        return {name for name in changed if re.fullmatch(r"[A-Z0-9]+-[0-9]{3}", name)}


def apply(host: Host, sls: str = "", **kwargs: Any) -> Run:
    """A highstate, or the application of one SLS; a run that did not render is an error."""
    value = host.salt_call("state.apply", *([sls] if sls else []), **kwargs).value
    assert isinstance(value, dict), f"the run did not render: {value}"
    return Run({state["__id__"]: state for state in value.values()})


def report(host: Host, **kwargs: Any) -> dict[str, Any]:
    """A drift report."""
    return host.salt_call("drift.report", **kwargs).value


def differing(host: Host, **kwargs: Any) -> dict[str, str]:
    """Control id -> reason, of everything that drifted or could not be looked at."""
    findings = report(host, **kwargs)["findings"]
    return {f["id"]: f["reason"] for f in findings if f["status"] in ("drift", "error")}


def harden(host: Host) -> None:
    """The host conforms: modules synced, highstate applied, no drift."""
    host.salt_call("saltutil.sync_all")
    run = apply(host)
    assert not run.failed
    assert not differing(host)


def conform(host: Host) -> None:
    """The host conforms: hardened unless it is."""
    found = host.salt_call("drift.report") if host.run(HAS_MODULES, False).returncode == 0 else None
    if found is None or found.retcode:
        harden(host)


def set_pillar(master: Host, hardening: Mapping[str, Any]) -> None:
    """Replaces the pillar that every minion gets; the lab's networks and administrator stay unless
    it has its own.
    """
    lab = master.lab.pillar
    accounts = {**lab["accounts"], **hardening.get("accounts", {})}
    tree = {"schema": 1, **lab, **hardening, "accounts": accounts}
    master.write(PILLAR, json.dumps({"hardening": tree}))


def administrator_gets_in(lab: Lab, master: Host, host: Host) -> bool:
    """Whether ops logs in from the management host by a new connection, and becomes root."""
    return "uid=0(root)" in lab.ssh(master, "ops", host, "sudo -n id").stdout


def everybody_has_left(host: Host) -> None:
    """Waits for the end of people's sessions: the account of a live one would be left alone."""
    host.wait_for('test -z "$(loginctl list-users --no-legend)"')


@contextmanager
def without_penalties(host: Host) -> Iterator[None]:
    """A newer sshd slows down by itself who fails to log in, for seconds that no test has."""
    if "persourcepenalties" in host.run("sshd -T").stdout:
        host.write(OWN_PENALTIES, "PerSourcePenalties no\n", mode="0600")
        host.run("systemctl reload ssh")
    yield
    host.run(f"rm -f {OWN_PENALTIES}; systemctl reload ssh")


def look_after_each(host: Host, cases: Iterable[tampers.Case]) -> dict[str, dict[str, str]]:
    """Case name -> (control id -> reason), from one process that breaks the host and puts it back.

    The name "" stands for the look after the last case.
    """
    host.write("/root/look.py", (tampers.FOLDER.parent / "on_host" / "look.py").read_text())
    todo = [{"name": case.name, "break": case.command, "undo": case.undo} for case in cases]
    command = [PYTHON, "-W", "ignore", "/root/look.py"]
    done = host.run(command, input=json.dumps(todo), timeout=270)
    lines = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    return {line["name"]: line["found"] for line in lines}


def shell(host: Host, command: str) -> str:
    """A command in the shell that tamper cases are written for; then the clock moves on a tick."""
    done = host.run(["bash", "-ec", command])
    time.sleep(0.05)
    return done.stdout


def fingerprint(host: Host) -> str:
    """Everything a run could change outside of Salt's own folders: files, packages, services."""
    return host.run(
        "find /etc /usr /home /root /var/lib/rocksalt /var/lib/dpkg /var/lib/pam /var/spool/cron"
        " -xdev -not -path '/etc/salt/*' -not -name '*.pyc'"
        " -not -path /var/lib/rocksalt -not -name 'settings-*.json'"
        " -printf '%p %m %u %s %C@\\n' 2>/dev/null | sort;"
        "systemctl show -p ActiveState,MainPID,UnitFileState,StateChangeTimestampMonotonic"
        " ssh.service ssh.socket rocksalt-drift.timer rocksalt-firewall.service fail2ban.service;"
        "systemctl show -p ActiveState,UnitFileState rocksalt-firewall-guard.timer;"  # it ticks
        "(iptables-save; ip6tables-save) | grep '^[:-]' | cut -d'[' -f1"
    ).stdout
