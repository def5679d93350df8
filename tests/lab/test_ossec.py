"""The family ossec on a real host, with a stand-in for OSSEC: see rocksalt_lab/ossec_standin.py.

The repository, its key, apt, dpkg, TLS, systemd and the packet filter are real; the agent and its
server are not.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runs
from rocksalt_lab import Host, Lab, ossec_standin
from rocksalt_lab.image import RELEASES
from rocksalt_lab.lab import NETWORKS
from rocksalt_lab.ossec_standin import Server

MAIN, SPARE = "10.79.0.31", "10.79.0.32"
LOG = "/var/ossec/logs/ossec.log"
BACK = f"""#!/bin/sh
# Gives the agent its files back and starts it anew, until it is connected.
before=$(grep -c 4102 {LOG})
rm -rf /var/ossec/bin /var/ossec/etc /var/ossec/active-response
tar -xpPf /root/ossec-kept.tar
systemctl stop ossec-agent.target
rm -f /var/ossec/var/run/*.pid
systemctl start ossec-agent.target
for _ in $(seq 100); do
    if [ "$(grep -c 4102 {LOG})" -gt "$before" ] && [ "$(ls /var/ossec/var/run/*.pid | wc -l)" = 4 ]
    then exit 0; fi
    sleep 0.1
done
exit 1
"""
STATE = "an OSSEC server watches this host"


class Site:
    """The hosts, what the pillar says, and who answers."""

    def __init__(self, lab: Lab, master: Host, host: Host, server: Host, folder: Path) -> None:
        self.lab, self.master, self.host = lab, master, host
        self.password = secrets.token_urlsafe(24)
        self.key = ossec_standin.repository(folder / "repository", RELEASES[lab.release])
        master.copy_tree(folder / "repository", "/srv/ossec")
        serve = ["python3", "-m", "http.server", "--bind", master.ip, "--directory", "/srv/ossec"]
        master.run(["systemd-run", "--quiet", "--unit=ossec-repository", *serve, "80"])
        addresses = f"subjectAltName=IP:{MAIN},IP:{SPARE}"
        server.run(
            f"openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=ossec1 -addext {addresses}"
            " -keyout /root/server.key -out /root/server.pem"
        )
        self.certificate = server.read("/root/server.pem")
        (folder / "bin").mkdir()
        ossec_standin.program(folder / "bin" / ossec_standin.SERVER)
        self.main, self.spare = (Server(server, it, self.password) for it in (MAIN, SPARE))
        for it in (self.main, self.spare):
            it.set_up(folder / "bin", self.certificate, server.read("/root/server.key"))
            it.start()

    def pillar(self, **own: Any) -> None:
        """Has the host watched."""
        networks = {"salt": [f"{self.master.ip}/32"], "ossec": [f"{it}/32" for it in (MAIN, SPARE)]}
        watched = {
            "servers": [MAIN],
            "password": self.password,
            "enrolment_ca": self.certificate,
            "repository": f"deb [signed-by={{key}}] http://{self.master.ip} {{codename}} main",
            "repository_key": self.key,
            "frequency": 300,
            "notify_time": 10,
            "logs": {"/var/log/app.log": "syslog"},
            **own,
        }
        hardening = {
            "networks": {**NETWORKS, **networks},
            "firewall": {"output": "deny"},
            "ossec": watched,
        }
        runs.set_pillar(self.master, hardening)


@pytest.fixture(scope="module")
def site(lab: Lab, master: Host, web2: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A host that is to be watched, and its servers; afterwards it is as it was."""
    before = master.read(runs.PILLAR)
    server = lab.host("ossec1", MAIN)
    found = Site(lab, master, web2, server, tmp_path_factory.mktemp("ossec"))
    found.pillar()
    web2.salt_call("saltutil.sync_all")
    yield found
    master.write(runs.PILLAR, before)
