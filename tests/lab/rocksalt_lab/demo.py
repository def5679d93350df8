"""`make demo`: what Rocksalt promises, shown on real hosts, as a person would see it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping

from .host import Host
from .lab import Lab
from .system import LabError, step
from .told import changes

TAMPERS = (
    (
        "web1",
        "let root in",
        "echo 'PermitRootLogin yes' > /etc/ssh/sshd_config.d/00-aaa.conf; systemctl reload ssh",
    ),
    ("web1", "edit our file", "sed -i 's/^MaxAuthTries.*/MaxAuthTries 20/' {drop_in}"),
    ("web1", "let everybody in before our rules come", "iptables -I INPUT -j ACCEPT"),
    ("web1", "stop the reports", "systemctl disable -q --now rocksalt-drift.timer"),
    (
        "web1",
        "stay root after a visit",
        "echo 'bob ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/bob; chmod 440 /etc/sudoers.d/bob",
    ),
    (
        "web2",
        "let one user in by password",
        "printf 'Match User bob\\n  PasswordAuthentication yes\\n' >> /etc/ssh/sshd_config",
    ),
    ("web2", "listen on another port", "sed -i '1i Port 2222' /etc/ssh/sshd_config"),
    ("web2", "open the firewall, but only for IPv6", "ip6tables -P INPUT ACCEPT"),
    (
        "web2",
        "never ban a whole network",
        "printf '[sshd]\\nignoreip = 10.0.0.0/8\\n' > /etc/fail2ban/jail.d/zzz.local; "
        "fail2ban-client -q reload",
    ),
    ("web2", "give root a password", "usermod -p $(openssl passwd -6 toor) root"),
    (
        "web2",
        "leave a key with a system account",
        "mkdir -p /var/backups/.ssh; cp /home/ops/.ssh/authorized_keys /var/backups/.ssh/",
    ),
)
BROKEN = {
    "web1": {
        *("ACC-029", "DRIFT-001", "FW-003"),
        *("SSHD-001", "SSHD-006", "SSHD-008", "SSHD-101", "SSHD-131"),
    },
    "web2": {
        *("ACC-001", "ACC-042", "F2B-003", "F2B-009", "FW-001"),
        *("SSHD-002", "SSHD-005", "SSHD-006", "SSHD-160"),
    },
}
DROP_IN = "/etc/ssh/sshd_config.d/00-rocksalt.conf"
FORGOTTEN = (5432, 8080)
DENIED, ROOT = "Permission denied", "uid=0(root)"
MISTAKES = 8
PATIENCE = "gather_job_timeout: 60\n"  # a machine that is busy with other things, too, answers late
VAGRANT = """
useradd --create-home --shell /bin/bash vagrant
echo vagrant:vagrant | chpasswd
echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/vagrant
install -d -o vagrant -m 700 /home/vagrant/.ssh
install -o vagrant -m 600 /home/ops/.ssh/authorized_keys /home/vagrant/.ssh/
"""
PILLAR = "/srv/rocksalt-pillar/hardening.sls"
WANTED = """\
hardening:
  schema: 1
  accounts:
    administrators:
      ops: {nopasswd: true, keys: [%s]}
    remove: [authorized_keys, sudoers]
  nrpe: {controls: {NRPE-001: {"off": "nobody watches the demo"}}}
  ossec: {controls: {OSS-001: {"off": "nobody watches the demo"}}}
  logstash: {controls: {LOG-001: {"off": "nobody receives the demo's logs"}}}
  networks:
    management: [10.79.0.1/32]
"""
MORE = """\
    office: [10.79.0.66/32]
  roles:
    web-server:
      minions: [web1]
      settings:
        firewall:
          allow: {https: [public]}
  firewall:
    allow: {ssh: [management, office]}
"""


class Demo:
    """One showing. What does not come out as promised ends it with an error."""

    def __init__(self, lab: Lab, hosts: Mapping[str, Host], attacker: Host) -> None:
        self.lab, self.hosts, self.attacker = lab, hosts, attacker
        self.master, self.web1 = hosts["master"], hosts["web1"]

    def play(self) -> None:
        """The whole story."""
        self._prepare()
        self._look_at_fresh_hosts()
        self._harden()
        self._break()
        self._heal()
        self._let_in()
        self._attack()
        self._change_nothing()

    def _prepare(self) -> None:
        """What nobody has to watch."""
        with step("preparing the stage"):
            installing = self.attacker.start("apt-get install -qq nmap >/dev/null 2>&1")
            for port in FORGOTTEN:
                self._serve(port)
            self.web1.run(VAGRANT)
            self.master.write("/etc/salt/master.d/patience.conf", PATIENCE)
            self.master.run("salt --timeout=60 '*' saltutil.sync_all")
            self.master.run("salt-run saltutil.sync_all")
            installing.wait()

    def _serve(self, port: int) -> None:
        self.web1.run(f"systemd-run -q --unit=server-{port} nc -lk 0.0.0.0 {port}")

    def _look_at_fresh_hosts(self) -> None:
        act("1. The hosts are fresh: what drifts, and what does an attacker see?")
        drift = self._report("severity=critical", target="web1")
        self._promise("a fresh host drifts", {"FW-001", "SSHD-101"} <= drift["web1"])
        self._promise("everybody sees what listens", self._scan() == {22, *FORGOTTEN})
        said = self._ssh(self.attacker, "vagrant", password="vagrant")
        self._promise("an account of the image makes everybody root", ROOT in said)
        self.web1.wait_for("! pgrep -u vagrant")  # nobody's account is locked while they are there

    def _harden(self) -> None:
        act("2. The highstate hardens them. The administrator gets in, root and others do not.")
        self._set_pillar(WANTED % self.lab.public_key.strip())
        self._run(self.master, f"cat {PILLAR}")
        self._salt("state.apply", show=changes)
        left = {"web1": {"FW-011"}, "web2": set[str]()}
        self._promise("nothing is left but what takes a person", self._report() == left)
        self._promise("the attacker sees nothing", self._scan() == set())
        self._log_in()
        units = " ".join(f"server-{port}" for port in FORGOTTEN)
        self._run(self.web1, f"systemctl stop {units}")

    def _set_pillar(self, text: str) -> None:
        """What the minions are told; a report asks no master for news of its pillar."""
        self.master.write(PILLAR, text)
        self.master.run("salt '*' saltutil.refresh_pillar wait=True")

    def _break(self) -> None:
        act(f"3. Somebody breaks them, in {len(TAMPERS)} ways.")
        for name, what, command in TAMPERS:
            line = command.format(drop_in=DROP_IN)
            print(f"  {name}: {what}\n      # {line}")
            self.hosts[name].run(line)
        time.sleep(0.1)
        self._promise("every one of them is seen", self._report() == BROKEN)

    def _heal(self) -> None:
        act("4. A second highstate heals them.")
        self._salt("state.apply", show=changes)
        self._promise("no drift is left", self._report() == {"web1": set(), "web2": set()})
        self._log_in()

    def _let_in(self) -> None:
        act("5. web1 becomes a web server, and an office may log in: so says the pillar.")
        self._serve(443)
        self._set_pillar(WANTED % self.lab.public_key.strip() + MORE)
        self._run(self.master, f"tail -n {len(MORE.splitlines())} {PILLAR}")
        self._salt("state.apply hardening.firewall", show=changes)
        self._promise("that much is open, and no more", self._scan() == {22, 443})

    def _attack(self) -> None:
        act("6. The attacker sits in that office and keeps trying to log in.")
        said = self._ssh(self.attacker, "vagrant", password="vagrant")
        self._promise("the image's password is worth nothing any more", DENIED in said)
        for _ in range(MISTAKES):
            if DENIED in said:
                said = self._ssh(self.attacker, "root")
        self._promise("the attacker is banned", DENIED not in said)
        self._run(self.web1, "grep Ban /var/log/fail2ban.log")
        self._run(self.web1, "iptables -S f2b-sshd")
        self._promise("who is banned still sees the web site", self._scan() == {443})
        for _ in range(MISTAKES):
            said = self.lab.ssh(self.master, "root", self.web1, "id").stderr
        self._promise(f"{MISTAKES} such mistakes do not ban an administrator", DENIED in said)
        self._log_in()

    def _change_nothing(self) -> None:
        act("7. A last highstate changes nothing, and the ban stays.")
        text = self._salt("state.apply", show=changes)
        self._promise("nothing was changed", text == "web1, web2: changed nothing")
        self._promise("the attacker is still banned", self._scan() == {443})

    def _run(self, host: Host, command: str, shown: str = "") -> str:
        """Run a command and print it, or what a person would type for it, with its output."""
        print(f"\n  {host.name}# {shown or command}", flush=True)
        text = host.run(command, check=False, timeout=300).stdout.strip("\n")
        show_text(text)
        return text

    def _salt(self, call: str, target: str = "*", show: Callable[[str], str] | None = None) -> str:
        """Run Salt and print what a person would see of it."""
        print(f"\n  master# salt '{target}' {call}", flush=True)
        out = "--out=json --static" if show else ""
        command = f"salt --timeout=60 {out} '{target}' {call} 2>/dev/null"
        text = self.master.run(command, check=False, timeout=300).stdout.strip("\n")
        text = show(text) if show else text
        show_text(text)
        return text

    def _report(self, *options: str, target: str = "*") -> dict[str, set[str]]:
        """Print the reports; minion -> ids of what drifted or could not be looked at."""
        found: dict[str, set[str]] = {}
        for line in self._salt(" ".join(["drift.report", *options]), target).splitlines():
            if begins := re.match(r"(\w+): \d+ controls: ", line):
                ids = found[begins[1]] = set()
            elif finding := re.match(r"(?:drift|error) +([A-Z0-9]+-\d+) ", line):
                ids.add(finding[1])
        return found

    def _scan(self) -> set[int]:
        """Scan web1 as the attacker, and print what nmap found; the open ports."""
        interesting = "| grep -E '^([0-9]+/tcp|All|Not shown)'"
        command = "nmap -n -Pn -F -T4 --max-retries 1 web1"
        text = self._run(self.attacker, f"{command} {interesting}", shown=command)
        return {int(port) for port in re.findall(r"^(\d+)/tcp +open ", text, re.MULTILINE)}

    def _ssh(self, host: Host, user: str, password: str = "") -> str:
        """Log in to web1 from another host, by key unless there is a password, and print how that
        went; its last line.
        """
        by = f"   (password: {password})" if password else ""
        print(f"\n  {host.name}# ssh {user}@web1 sudo id{by}", flush=True)
        try:
            if password:
                done = self.lab.ssh_by_password(host, user, self.web1, "sudo -n id", password)
            else:
                done = self.lab.ssh(host, user, self.web1, "sudo -n id", timeout=5)
            said = (done.stdout or done.stderr).strip().splitlines()[-1]
        except LabError:  # the ban came while it logged in
            said = "(no answer)"
        show_text(said)
        return said

    def _log_in(self) -> None:
        """From the management host, with the administrator's key: who gets in?"""
        self._promise("ops gets in", ROOT in self._ssh(self.master, "ops"))
        for user in ("root", "vagrant"):
            self._promise(f"{user} does not", DENIED in self._ssh(self.master, user))

    @staticmethod
    def _promise(words: str, kept: bool) -> None:
        print(f"  {'✓' if kept else '✗'} {words}", flush=True)
        if not kept:
            raise LabError(f"the demo did not come out as promised: {words}")


def act(title: str) -> None:
    """A heading."""
    print(f"\n{title}\n{'=' * len(title)}", flush=True)


def show_text(text: str) -> None:
    """The output of a command, set off from the command."""
    for line in text.splitlines():
        print(f"    {line}", flush=True)


def show(release: str, salt: str) -> None:
    """Boot hosts, play, clean up."""
    started = time.monotonic()
    with Lab.start(release=release, salt=salt) as lab:
        hosts = lab.salt_cluster()
        Demo(lab, hosts, lab.host("attacker", "10.79.0.66")).play()
    seconds = time.monotonic() - started
    print(f"\nAll of it on real hosts in {seconds:.0f} s. `make lab` leaves some to play with, and")
    print("docs/install.md is about hosts of yours.")
