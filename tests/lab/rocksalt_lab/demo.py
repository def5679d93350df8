"""`make demo`: what Rocksalt promises, shown on real hosts, as a person would see it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping

from .host import Host
from .lab import KEY, Lab
from .system import LabError

TAMPERS = (
    (
        "web1",
        "let root in",
        "echo 'PermitRootLogin yes' > /etc/ssh/sshd_config.d/00-aaa.conf; systemctl reload ssh",
    ),
    ("web1", "edit our file", "sed -i 's/^MaxAuthTries.*/MaxAuthTries 20/' {drop_in}"),
    ("web1", "a host key that others can read", "chmod 644 /etc/ssh/ssh_host_ecdsa_key"),
    ("web1", "stop the reports", "systemctl disable -q --now rocksalt-drift.timer"),
    (
        "web2",
        "let one user in by password",
        "printf 'Match User bob\\n  PasswordAuthentication yes\\n' >> /etc/ssh/sshd_config",
    ),
    ("web2", "listen on another port", "sed -i '1i Port 2222' /etc/ssh/sshd_config"),
    (
        "web2",
        "start sshd with options that beat every file",
        "echo 'SSHD_OPTS=\"-o LogLevel=QUIET\"' > /etc/default/ssh; systemctl restart ssh",
    ),
)
BROKEN = {
    "web1": {"SSHD-001", "SSHD-006", "SSHD-008", "SSHD-009", "SSHD-101", "SSHD-131", "DRIFT-001"},
    "web2": {"SSHD-002", "SSHD-005", "SSHD-007", "SSHD-151", "SSHD-160"},
}
DROP_IN = "/etc/ssh/sshd_config.d/00-rocksalt.conf"
Findings = Mapping[str, set[str]]


class Demo:
    """One showing. What does not come out as promised ends it with an error."""

    def __init__(self, lab: Lab, hosts: Mapping[str, Host]) -> None:
        self.lab, self.hosts, self.master = lab, hosts, hosts["master"]

    def play(self) -> None:
        """The whole story."""
        act("1. The hosts are fresh: what drifts?")
        self._salt("saltutil.sync_all", show=lambda _: "")
        self.master.run("salt-run saltutil.sync_all")
        self._salt("drift.report severity=critical")
        self._promise(
            "a fresh host drifts", all("SSHD-101" in ids for ids in self._drift().values())
        )

        act("2. The highstate hardens them; the administrator still gets in, root no longer.")
        self._salt("state.apply", show=changes)
        self._salt("drift.report")
        self._promise("no drift is left", self._drift() == {"web1": set(), "web2": set()})
        self._log_in()

        act("3. Somebody breaks them, in seven ways.")
        for name, what, command in TAMPERS:
            line = command.format(drop_in=DROP_IN)
            print(f"  {name}: {what}\n      # {line}")
            self.hosts[name].run(line)
        time.sleep(0.1)
        self._salt("drift.report")
        self._promise("every one of them is seen", self._drift() == BROKEN)

        act("4. A second highstate heals them.")
        self._salt("state.apply", show=changes)
        self._salt("drift.report")
        self._promise("no drift is left", self._drift() == {"web1": set(), "web2": set()})
        self._log_in()

        act("5. A third one changes nothing.")
        text = self._salt("state.apply", show=changes)
        self._promise("nothing was changed", "changed nothing" in text and "changed:" not in text)

    def _salt(self, call: str, show: Callable[[str], str] | None = None) -> str:
        """Run Salt on both minions and print what a person would see of it."""
        print(f"\n  master# salt '*' {call}")
        out = "" if show is None else "--out=json --static "
        done = self.master.run(f"salt {out}'*' {call} 2>/dev/null", check=False, timeout=300)
        text = (show(done.stdout) if show else done.stdout).strip("\n")
        print("\n".join(f"    {line}" for line in text.splitlines()), flush=True)
        return text

    def _drift(self) -> dict[str, set[str]]:
        """Minion -> ids of what drifted or could not be looked at."""
        done = self.master.run("salt --out=json --static '*' drift.report", check=False)
        reports = json.loads(done.stdout)
        return {
            name: {f["id"] for f in report["findings"] if f["status"] in ("drift", "error")}
            for name, report in sorted(reports.items())
        }

    def _log_in(self) -> None:
        """From the management host: who gets in?"""
        for user in ("ops", "root"):
            done = self.lab.ssh(self.master, user, self.hosts["web1"], "sudo -n id", key=KEY)
            said = (done.stdout or done.stderr).strip().splitlines()[-1]
            print(f"\n  master# ssh {user}@web1 sudo id\n    {said}")
            self._promise(f"{user} {'gets in' if user == 'ops' else 'does not'}",
                          (done.returncode == 0) == (user == "ops"))  # fmt: skip

    @staticmethod
    def _promise(words: str, kept: bool) -> None:
        print(f"  {'✓' if kept else '✗'} {words}", flush=True)
        if not kept:
            raise LabError(f"the demo did not come out as promised: {words}")


def act(title: str) -> None:
    """A heading."""
    print(f"\n{title}\n{'=' * len(title)}", flush=True)


def changes(text: str) -> str:
    """Per minion, the controls that a state run changed."""
    lines = []
    for minion, states in sorted(json.loads(text).items()):
        if not isinstance(states, dict):
            return f"{minion}: {states}"
        failed = [s["comment"] for s in states.values() if s["result"] is False]
        changed = sorted(i for state in states.values() for i in state["changes"])
        lines += [f"{minion}: FAILED: {comment}" for comment in failed]
        lines.append(
            f"{minion}: changed: {' '.join(changed)}" if changed else f"{minion}: changed nothing"
        )
    return "\n".join(lines)


def show(release: str, salt: str) -> None:
    """Boot hosts, play, clean up."""
    started = time.monotonic()
    with Lab.start(release=release, salt=salt) as lab:
        Demo(lab, lab.salt_cluster()).play()
    seconds = time.monotonic() - started
    print(f"\nAll of it on real hosts in {seconds:.0f} s. `make lab` leaves some to play with.")
