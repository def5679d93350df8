"""A host without a master: everything from a clone and its own configuration folder."""

from __future__ import annotations

import json

import runs
from rocksalt_lab import Host


def test_a_clone_is_enough(web2: Host) -> None:
    clone = "/srv/rocksalt"
    web2.copy_repo(clone)
    web2.run("systemctl stop salt-minion")
    try:
        for attempt in ("first", "second"):
            run = web2.run(f"cd {clone} && salt-call -c config --out=json state.apply", timeout=300)
            states = json.loads(run.stdout)["local"].values()
            assert all(state["result"] for state in states), attempt
        assert not any(state["changes"] for state in states)
        web2.run("rm /var/lib/rocksalt/last.json; systemctl start rocksalt-drift.service")
        recorded = json.loads(web2.read("/var/lib/rocksalt/last.json"))
        assert recorded["settings"] == "live", "the timer reads the clone"
        assert recorded["summary"]["ok"] == recorded["summary"]["controls"]
    finally:
        web2.run(f"systemctl start salt-minion; rm -r {clone}")
    runs.harden(web2)
