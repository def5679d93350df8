"""What `make demo` tells of a state run."""

from __future__ import annotations

import json

from rocksalt_lab.told import changes


def run(*names: str, failed: str = "") -> dict[str, object]:
    """A state run that changed these, as Salt returns it."""
    state = {"changes": {name: {} for name in names}, "result": not failed, "comment": failed}
    return {"state": state}


def test_few_changes_are_named():
    text = json.dumps({"web1": run("SSHD-101", "fail2ban"), "web2": run()})
    assert changes(text) == "web1: changed: SSHD-101 fail2ban\nweb2: changed nothing"


def test_many_changes_are_counted_by_family():
    many = [f"ACC-{n:03}" for n in range(15)] + [f"FW-{n:03}" for n in range(6)] + ["fail2ban"]
    text = json.dumps({"web1": run(*many), "web2": run(*many)})
    assert changes(text) == "web1, web2: changed: 21 controls (15 ACC, 6 FW); fail2ban"


def test_a_failure_is_told():
    text = json.dumps({"web1": run("SSHD-101", failed="no way in")})
    assert changes(text) == "web1: changed: SSHD-101; FAILED: no way in"
