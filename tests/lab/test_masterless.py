"""A host without a master: everything from a clone and its own configuration folder."""

from __future__ import annotations

import json

import runs
from rocksalt_lab import Host, Lab
from rocksalt_lab.lab import KEY

CLONE = "/srv/rocksalt"
LOG_IN = (
    "while sleep 1; do ssh -i {} -o BatchMode=yes -o StrictHostKeyChecking=no"
    " -o UserKnownHostsFile=/dev/null ops@{} true; done"
)


def test_a_clone_is_enough(lab: Lab, master: Host, web2: Host) -> None:
    """An administrator who logs in anew meanwhile confirms the firewall."""
    web2.salt_call("saltutil.sync_all")
    web2.salt_call("firewall.clean")
    web2.copy_repo(CLONE)
    web2.write(f"{CLONE}/pillar/hardening.sls", json.dumps({"hardening": lab.pillar}))
    web2.run("systemctl stop salt-minion")
    master.run(["systemd-run", "--unit=login", "sh", "-c", LOG_IN.format(KEY, web2.ip)])
    try:
        for attempt in ("first", "second"):
            run = web2.run(f"cd {CLONE} && salt-call -c config --out=json state.apply", timeout=300)
            states = json.loads(run.stdout)["local"].values()
            assert all(state["result"] for state in states), attempt
        assert not any(state["changes"] for state in states)
        web2.run("rm /var/lib/rocksalt/last.json; systemctl start rocksalt-drift.service")
        recorded = json.loads(web2.read("/var/lib/rocksalt/last.json"))
        assert recorded["settings"] == "live", "the timer reads the clone"
        counts = recorded["summary"]
        assert counts["ok"] + counts["skipped"] == counts["controls"]
    finally:
        master.run("systemctl stop login")
        web2.run(f"systemctl start salt-minion; rm -r {CLONE}")
    runs.harden(web2)
