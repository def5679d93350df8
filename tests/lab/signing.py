"""The two steps by which a master comes to take signed answers alone, with a minion that lags."""

from __future__ import annotations

import json

import runs
from masters import CONFIG, Site
from rocksalt_lab import Host

OURS = "/etc/salt/minion.d/zz-rocksalt-access.conf"
STATE = "hardening.access"


def two_steps(site: Site) -> None:
    """First the master's own minion signs and web1 does not, which is refused; then both do."""
    site.signing = {"minions_sign": True}
    site.pillar()
    _signs(site.master, _run(site.master))
    site.master.wait_for("salt --timeout=5 master test.ping", timeout=60)
    said = site.runner("access.signing")
    assert said["signs"] == ["master"], said
    assert said["lagging"] == {"web1": "does not sign its answers"}

    site.signing["require_signed"] = True
    site.pillar()
    before, pids = site.master.read(CONFIG), site.pids()
    (why,) = runs.apply(site.salt, STATE).failed.values()
    assert "the master would drop what these answer: web1 does not sign its answers" in why
    assert (site.master.read(CONFIG), site.pids()) == (before, pids)
    assert {"ACL-003", "ACL-028"} <= site.differing().keys()

    _signs(site.web1, by_job(site, "web1"))
    site.web1_answers()
    said = site.runner("access.signing")
    assert (said["signs"], said["lagging"]) == (["master", "web1"], {})
    site.apply()
    assert site.master.read(CONFIG) != before
    site.web1_answers()


def back(site: Site) -> None:
    """Nobody has to sign any more, and nobody does: what the master's configuration goes after."""
    why = str(runs.apply(site.salt, f"{STATE}.clean").failed)
    assert "master; web1 sign what they answer, which is lost" in why
    site.signing = {"minions_sign": True}
    site.pillar()
    site.apply()
    site.signing = {}
    site.pillar()
    site.web1_answers()
    for host, run in ((site.web1, by_job(site, "web1")), (site.master, _run(site.master))):
        assert not run.failed and "ACL-026" in run.controls
        _starts_anew(host)
        assert host.run(f"test -e {OURS}", check=False).returncode
    site.web1_answers()
    site.master.wait_for("salt --timeout=5 master test.ping", timeout=60)
    assert site.runner("access.signing")["signs"] == []


def _run(host: Host) -> runs.Run:
    """The family's states by a process that ends, for the minion starts anew after it."""
    return runs.apply(host, STATE)


def by_job(site: Site, minion: str) -> runs.Run:
    """The family's states in a job of the running minion, whose answer comes before it starts
    anew.
    """
    site.master.run(f"salt --timeout=60 {minion} saltutil.refresh_pillar wait=True")
    words = ["salt", "--static", "--out=json", "--timeout=120", minion, "state.apply", STATE]
    states = json.loads(site.master.run(words, timeout=200).stdout)[minion]
    return runs.Run({state["__id__"]: state for state in states.values()})


def _signs(host: Host, run: runs.Run) -> None:
    """The run had the minion sign from its end on."""
    assert not run.failed and "ACL-026" in run.controls, run.states
    warned = [state.get("warnings") for state in run.states.values()]
    assert "it will be after this run" in str(warned)
    _starts_anew(host)
    assert not {"ACL-026", "ACL-027"} & runs.differing(host, families="access").keys()


def _starts_anew(host: Host) -> None:
    host.wait_for("! systemctl is-active -q rocksalt-minion-restart", timeout=90)
    host.wait_for("systemctl is-active -q salt-minion", timeout=60)
