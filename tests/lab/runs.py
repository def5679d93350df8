"""Salt runs on lab hosts, and what they said."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import outside
import tampers
from rocksalt_lab import Host, Lab, LabError, SaltResult
from rocksalt_lab.lab import ADMINISTRATOR

PYTHON = "/opt/salt/bin/python"
HAS_MODULES = "test -e /var/cache/salt/minion/extmods/modules/drift.py"
PILLAR = "/srv/rocksalt-pillar/hardening.sls"
STRANGERS = ["accounts", "authorized_keys", "crontabs", "members", "sudoers"]
ACCOUNTS = {
    "remove": STRANGERS,
    "password_hashes": {ADMINISTRATOR: f"$y$j9T${'s' * 22}${'h' * 43}"},  # of no password
}
"""Nothing of strangers stays, and the administrator has a declared password."""
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


class Salt(Protocol):
    """What runs Salt functions on a host: the host itself, or an :class:`Asker`."""

    def salt_call(self, fun: str, *args: Any, **kwargs: Any) -> SaltResult: ...


class Asker:
    """Salt and a shell in one process on a host, for those where it takes long to start them: see
    ``on_host/ask.py``.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        text = (tampers.FOLDER.parent / "on_host" / "ask.py").read_text()
        host.write("/run/ask.py", text)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = host.start([PYTHON, "-W", "ignore", "/run/ask.py"], **pipes)

    def salt_call(self, fun: str, *args: Any, **kwargs: Any) -> SaltResult:
        """What a function returned; there is no return code."""
        return SaltResult(self._ask(call=[fun, args, kwargs]), 0, "")

    def shell(self, line: str) -> str:
        """The output of a shell line; a failure is an error."""
        return str(self._ask(shell=line))

    def anew(self) -> None:
        """From now on with modules and pillar as they are now."""
        self._ask(anew=True)

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()

    def _ask(self, **what: Any) -> Any:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(('{"value"', '{"error"')):  # Salt may say more
                answer = json.loads(line)
                if "error" in answer:
                    raise LabError(f"{self.host.name}: {answer['error']}")
                return answer["value"]
        raise LabError(f"{self.host.name}: the process that answers has ended.")


def apply(host: Salt, sls: str = "", **kwargs: Any) -> Run:
    """A highstate, or the application of one SLS; a run that did not render is an error."""
    value = host.salt_call("state.apply", *([sls] if sls else []), **kwargs).value
    assert isinstance(value, dict), f"the run did not render: {value}"
    return Run({state["__id__"]: state for state in value.values()})


def report(host: Salt, **kwargs: Any) -> dict[str, Any]:
    """A drift report."""
    return host.salt_call("drift.report", **kwargs).value


def differing(host: Salt, **kwargs: Any) -> dict[str, str]:
    """Control id -> reason, of everything that drifted or could not be looked at."""
    findings = report(host, **kwargs)["findings"]
    return {f["id"]: f["reason"] for f in findings if f["status"] in ("drift", "error")}


def harden(host: Host) -> None:
    """The host conforms: modules synced, highstate applied, no drift, also seen from outside."""
    host.salt_call("saltutil.sync_all")
    run = apply(host)
    assert not run.failed
    assert not differing(host)
    outside.conforms(host)


def conform(host: Host) -> None:
    """The host conforms: hardened unless it is."""
    found = host.salt_call("drift.report") if host.run(HAS_MODULES, False).returncode == 0 else None
    if found is None or found.retcode:
        harden(host)


@contextmanager
def conforming(master: Host, host: Host, **hardening: Any) -> Iterator[Host]:
    """The host, which conforms to this pillar; afterwards the pillar is as it was."""
    before = master.read(PILLAR)
    try:
        set_pillar(master, hardening)
        conform(host)
        yield host
    finally:
        master.write(PILLAR, before)


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


def look_after_each(
    host: Host, cases: Iterable[tampers.Case], *families: str
) -> dict[str, dict[str, str]]:
    """Case name -> (control id -> reason), from one process that breaks the host and puts it back.
    Where families are named, others are not looked at.

    The name "" stands for the look after the last case.
    """
    steps = tampers.bring_look(host, cases)
    done = host.run([PYTHON, "-W", "ignore", tampers.LOOK, *families], input=steps, timeout=580)
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
