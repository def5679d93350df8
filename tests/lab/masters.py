"""A master that runs as docs/access.md has it, a host with an app, somebody who works, and somebody
who would like to.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import runs
import tampers
from rocksalt_lab import Host, Lab
from rocksalt_lab.host import Finished
from rocksalt_lab.lab import NETWORKS
from rocksalt_lab.system import ensure_tools

DOCS = (Path(__file__).parents[2] / "docs/access.md").read_text()
ON_HOST = tampers.FOLDER.parent / "on_host"
TOOLS = {"curl": "curl", "jq": "jq"}
FAMILIES = "hardening.firewall,hardening.access,hardening.drift"
FOLDER, PORT = "/etc/rocksalt/access", 8000
CONFIG, USERS = "/etc/salt/master.d/zz-rocksalt-access.conf", "/etc/salt/rocksalt-users"
DOOR, LOG = "/usr/local/lib/rocksalt-api", "/var/log/salt/rocksalt-api.jsonl"
BOOK, BOOK_STATE = "/var/log/rocksalt-logbook", "/var/lib/rocksalt-logbook"
WITNESS = "rocksalt-witness"
PILLARS = "/srv/rocksalt-pillar"
DEPLOYED = "/srv/shop"
GRANTS: dict[str, dict[str, Any]] = {
    "alice": {"role": "deployer", "targets": ["web*"], "apps": ["shop"]},
    "bob": {"role": "auditor", "targets": ["*"], "everywhere": True},
}
APPS = {
    name: {"states": [f"{name}.deployed"], "version": r"v\d+\.\d+\.\d+", "minions": ["web*"]}
    for name in ("shop", "blog")
}
TOP = "base: {'*': [hardening], master: [master], web1: [web1]}\n"
SHOP = """
the shop is deployed:
  file.managed:
    - name: {{ "%s" }}
    - contents: {{ pillar["deploy"]["version"] }}
"""
AS_SALT = """
systemctl stop salt-master
useradd --system --home-dir /opt/salt --shell /usr/sbin/nologin salt
chown -R salt:salt /etc/salt/pki/master /var/cache/salt/master /var/log/salt /run/salt/master
echo 'user: salt' > /etc/salt/master
echo 'gather_job_timeout: 1' > /etc/salt/master.d/patience.conf
chgrp salt /etc/salt/master /etc/salt/master.d/* %(pillars)s
chmod 640 /etc/salt/master /etc/salt/master.d/*
chmod 750 %(pillars)s
systemctl start salt-master
"""
"""What Salt's packages do: the master is an ordinary user's. A ping of a minion that is not
there yet is soon over.
"""


def block(after: str) -> str:
    """The first indented block of the docs after these words, without its indentation."""
    found = re.search(r"\n((?: {4,}\S.*\n|\n(?= {4,}\S))+)", DOCS[DOCS.index(after) :])
    assert found
    lines = found[1].splitlines()
    indented = min(len(line) - len(line.lstrip()) for line in lines if line)
    return "\n".join(line[indented:] for line in lines) + "\n"


class Site:
    """The hosts, the people, and what the pillar says."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.master, self.web1 = lab.salt_cluster(["web1"]).values()
        self.desk, self.attacker = lab.boot({"desk": "10.79.0.30", "attacker": "10.79.0.66"})
        self.passwords: dict[str, str] = {}
        self.hashes: dict[str, str] = {}
        self.clients: dict[str, dict[str, str]] = {}
        self.witness: dict[str, str] = {}
        self.signing: dict[str, bool] = {}
        self.salt: runs.Asker

    @property
    def users(self) -> dict[str, dict[str, Any]]:
        """Everybody with their grants."""
        return {name: {"grants": [grant]} for name, grant in GRANTS.items()}

    # -- setting up -----------------------------------------------------------------------------

    def prepare(self) -> None:
        """What is to be there before the first run; nobody has rights yet."""
        ensure_tools(tools=TOOLS)
        self.lab.salt_minion(self.master, self.master)
        self.master.run(AS_SALT % {"pillars": PILLARS}, timeout=200)
        for app in APPS:
            text = SHOP % DEPLOYED.replace("shop", app)
            self.master.write(f"/srv/rocksalt/salt/{app}/deployed.sls", text)
        self.master.write(f"{PILLARS}/top.sls", TOP)
        self.pillar(hashes={})
        self.master.run("salt-run saltutil.sync_all; salt --timeout=60 '*' saltutil.sync_all")
        self.salt = runs.Asker(self.master)
        for person in GRANTS:
            made = self.salt.salt_call("access.password").value
            self.passwords[person], self.hashes[person] = made["password"], made["hash"]
        self.pillar()
        self.certify()

    def certify(self) -> None:
        """A certificate for salt-api by the docs' own commands; the authority stays at the desk."""
        self.master.run(block("that runners run as, too:"))
        text = block("on a host that is not the master:")
        text = text.replace("salt1.example.org", self.master.name).replace(
            "10.0.0.5", self.master.ip
        )
        self.desk.run(f"cd /root; {text}")
        chain = self.desk.read("/root/api.pem")
        self.master.write(f"{FOLDER}/api.pem", chain)
        self.master.write(f"{FOLDER}/api.key", self.desk.read("/root/api.key"), mode="0600")
        self.ca = self.lab.state / "ca.pem"
        self.ca.write_text(self.desk.read("/root/ca.pem"))

    def have_witness(self) -> None:
        """web1 witnesses the logbook, as docs/logbook.md has it."""
        printed = self.master.run("rocksalt-logbook keys").stdout
        keys = dict(line.split(": ") for line in printed.splitlines())
        signer, transport = (keys[f"{BOOK_STATE}/{name}"] for name in ("signing", "transport"))
        self.clients = {"master-logbook": {"key": transport, "signer": signer}}
        self.pillar(anew=False)
        with contextlib.closing(runs.Asker(self.web1)) as web1:
            assert not runs.apply(web1, "hardening.logstash").failed
            theirs = web1.salt_call("logstash.keys").value
        self.witness = {"host": self.web1.ip, "host_key": theirs["host"], "key": theirs["witness"]}
        self.pillar()

    def pillar(self, anew: bool = True, **own: Any) -> None:
        """Everybody has their grants, with other settings of the master where they are named."""
        networks = {
            "people": [f"{self.desk.ip}/32"],
            "fleet": [f"{it.ip}/32" for it in (self.master, self.web1)],
        }
        runs.set_pillar(
            self.master,
            {"networks": {**NETWORKS, **networks}, "access": {"apps": APPS, **self.signing}},
        )
        allow = {"ssh": ["management"], "salt-master": ["fleet"], "salt-api": ["people"]}
        access = {
            "masters": ["master"],
            "address": self.master.ip,
            "users": self.users,
            "hashes": self.hashes,
            "automatic": ["reactor rocksalt/firewall/armed"],
            "minions": ["master", "web1"],
            "logbook_witness": self.witness,
            **own,
        }
        logins: dict[str, Any] = {
            "sshd": {"allow_groups": ["sudo", WITNESS]},
            "accounts": {"users": {WITNESS: {}}},
        }
        witness = {**logins, "logstash": {"witness": {"clients": self.clients}}}
        trees = {
            "master": {"firewall": {"allow": allow}, "access": access},
            "web1": witness if self.clients else {},
        }
        for name, tree in trees.items():
            self.master.write(f"{PILLARS}/{name}.sls", json.dumps({"hardening": tree}))
        if anew and hasattr(self, "salt"):
            self.salt.anew()

    # -- asking ---------------------------------------------------------------------------------

    def apply(self, sls: str = "hardening.access", **kwargs: Any) -> runs.Run:
        """A run on the master's host, which did not fail."""
        run = runs.apply(self.salt, sls, **kwargs)
        assert not run.failed
        return run

    def differing(self, families: str = "access") -> dict[str, str]:
        """What drifts on the master's host."""
        return runs.differing(self.salt, families=families)

    def network(self, host: Host, words: Sequence[str], **kwargs: Any) -> Finished:
        """A program of this machine in the network of a host."""
        netns = f"--net={self.lab.state / host.name / 'netns'}"
        command = ["nsenter", netns, "--", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, **kwargs)

    def curl(self, path: str, body: Any = None, *options: str, host: Host | None = None) -> Any:
        """Status and JSON of an answer; ``(0, exit code of curl)`` where there was none."""
        given = ["-d", body if isinstance(body, str) else json.dumps(body)] if body else []
        words = ["curl", "-s", "-m", "60", "--cacert", str(self.ca), "-w", "\n%{http_code}"]
        words += ["-H", "Content-Type: application/json", *given, *options]
        done = self.network(host or self.desk, [*words, f"https://{self.master.ip}:{PORT}{path}"])
        if done.returncode:
            return 0, done.returncode
        text, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(text)

    def log_in(self, person: str, password: str = "") -> str:
        """The token of somebody."""
        words = {"username": person, "password": password or self.passwords[person]}
        status, said = self.curl("/login", words)
        assert status == 200, said
        token: str = said["return"][0]["token"]
        return token

    def call(self, token: str, *, path: str = "/", **low: Any) -> tuple[int, Any]:
        """Status and what one call returned."""
        asked = {"client": "local", "tgt": "web1", **low}
        status, said = self.curl(path, [asked], "-H", f"X-Auth-Token: {token}")
        return status, said["return"] if status else said

    def pids(self) -> dict[str, str]:
        """The processes of both services."""
        units = ("salt-master", "salt-api")
        shown = self.master.run(f"systemctl show -P MainPID {' '.join(units)}").stdout.split()
        return dict(zip(units, shown, strict=True))

    def runner(self, function: str, *arguments: str) -> Any:
        """What a runner of the master returned."""
        done = self.master.run(["salt-run", "--out=json", function, *arguments], check=False)
        return json.loads(done.stdout)

    def returned(self, jid: str, minion: str) -> dict[str, Any]:
        """What a minion returned for a job, as soon as it has come to the master."""
        deadline = time.monotonic() + 60
        words = ["salt-run", "--out=json", "jobs.lookup_jid", jid]
        while True:
            said = self.master.run(words, check=False).stdout  # empty while the master restarts
            with contextlib.suppress(ValueError, KeyError):
                states: dict[str, Any] = json.loads(said)[minion]
                return states
            assert time.monotonic() < deadline, f"nothing came back for {jid}"
            time.sleep(0.5)

    def web1_answers(self) -> None:
        """Waits until the minion has found its master again."""
        peer = f"sport = :4505 and dst {self.web1.ip}"
        self.master.wait_for(f"ss -Htn state established '{peer}' | grep -q .", timeout=60)
        self.master.wait_for("salt --timeout=5 web1 test.ping", timeout=60)

    def becomes_reachable(self) -> None:
        """Waits until salt-api answers at the desk."""
        deadline = time.monotonic() + 30
        while self.curl("/")[0] != 200:
            assert time.monotonic() < deadline, "salt-api does not answer"
            time.sleep(0.2)
