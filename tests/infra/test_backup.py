"""The backup of a Salt master: on the master, at its vault, and where it is tried out."""

from __future__ import annotations

import datetime as dt
import json
import shlex
from typing import Any

import pytest

from . import units
from .asking import Look
from .files import loose, named, stat
from .pillars import Expected

FAMILY = "backup"
FOLDER, PROGRAM = "/etc/rocksalt/backup", "/usr/local/sbin/rocksalt-backup"
STATUS = "/var/lib/rocksalt/backup-status.json"
UNIT = "rocksalt-backup-"
JOBS = ("snapshot", "verify", "drill")
HOME, USER = "/var/lib/rocksalt-vault", "rocksalt-vault"
IDENTITY = "^AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}$"  # as age-keygen writes it
LONGEST, TIMED_OUT = 60, 124
# Small files of these folders' own disks; a network's are not the master's, and take hours.
SEARCH = (
    f"timeout {LONGEST} find -H /root /home /etc /srv -xdev -name .git -prune -o -type f"
    f" -size -2048 -exec grep -lIsE '{IDENTITY}' {{}} + 2>/dev/null"
)
HOUR, GRACE = 3600, 3600
GOOD = (0, 4)  # all went well, or with warnings: docs/backup.md


def jobs(settings: dict[str, Any]) -> list[str]:
    """What this host does regularly."""
    found = ["snapshot"] if settings["master"] else []
    found += ["verify"] if settings["master"] or settings["receiver"] or settings["drill"] else []
    return found + (["drill"] if "identity" in settings["drill"] else [])


def look(wanted: Expected) -> dict[str, str]:
    own = wanted.baseline.families[FAMILY].settings
    store = shlex.quote(own["receiver"].get("path", "/nonexistent"))
    identity = shlex.quote(own["drill"].get("identity", "/nonexistent"))
    spool = shlex.quote(own["spool"])
    services = [f"{UNIT}{job}.{kind}" for job in JOBS for kind in ("service", "timer")]
    return {
        "master": "test -e /etc/salt/pki/master/master.pem || systemctl -q is-active salt-master",
        "units": units.show(*services),
        "config": f"cat {FOLDER}/config.json",
        "status": f"cat {STATUS}",
        "now": "date +%s",
        "stat": stat(f"{FOLDER} {FOLDER}/* {PROGRAM} {spool} {identity}"),
        "program": f"wc -c < {PROGRAM}",
        "identities": SEARCH if own["master"] else ":",
        "let_in": f"cat {HOME}/.ssh/authorized_keys",
        "store": stat(f"{store} {store}/*"),
        "first": f"stat -c %Y {store}/*/* | sort -n | head -1",
        "newest": f'for it in {store}/*/; do echo "$it" $(stat -c %Y "$it"* 2>/dev/null'
        " | sort -n | tail -1); done",
    }


@pytest.fixture
def master(settings: dict[str, Any]) -> dict[str, Any]:
    if not settings["master"]:
        pytest.skip("no Salt master is backed up from this host")
    return settings


@pytest.fixture
def vault(settings: dict[str, Any]) -> dict[str, Any]:
    if not settings["receiver"]:
        pytest.skip("this host is no vault")
    return settings


@pytest.fixture
def any_role(settings: dict[str, Any]) -> dict[str, Any]:
    if not jobs(settings):
        pytest.skip("this host has no part in a backup")
    return settings


@pytest.fixture
def drilling(settings: dict[str, Any]) -> dict[str, Any]:
    if "drill" not in jobs(settings):
        pytest.skip("no drills are made here")
    return settings


@pytest.fixture
def said(seen: Look) -> dict[str, Any]:
    """What the last runs said."""
    assert not seen["status"].code, seen["status"].said
    found: dict[str, Any] = json.loads(seen["status"].text)
    return found


def age(seen: Look, run: dict[str, Any]) -> float:
    """The seconds since a run; one from the future is as bad as an old one."""
    then = dt.datetime.fromisoformat(run["time"].replace("Z", "+00:00")).timestamp()
    seconds = int(seen["now"].text) - then
    return seconds if seconds > -GRACE else float("inf")


@pytest.mark.controls("BKP-001")
def test_a_master_is_backed_up(seen: Look, settings: dict[str, Any]) -> None:
    if seen["master"].code and not settings["master"]:
        pytest.skip("there is no Salt master here")
    assert (not seen["master"].code) == settings["master"]


@pytest.mark.controls("BKP-002")
def test_program_and_configuration(seen: Look, any_role: dict[str, Any]) -> None:
    found = json.loads(seen["config"].text)
    for key in ("recipients", "escrow", "full_every", "interval", "location", "admin_domain"):
        assert found[key] == any_role[key], key
    assert set(found["vaults"]) == set(any_role["vaults"])
    files = named(seen["stat"])
    assert loose({PROGRAM: files[PROGRAM]}, 0o022) == []
    assert int(seen["program"].text) > 10_000, "something else stands in place of the program"
    private = [it for it in files if it.startswith(f"{FOLDER}/") and it.endswith(".json")]
    assert loose({path: files[path] for path in private}, 0o027) == []


@pytest.mark.controls("BKP-003")
def test_its_own_keys(seen: Look, any_role: dict[str, Any]) -> None:
    files = named(seen["stat"])
    keys = {path: it for path, it in files.items() if path.endswith(("/signing", "/transport"))}
    assert keys and [path for path, it in keys.items() if it.mode & 0o077] == []
    user = any_role["receiver"].get("user", USER) if any_role["receiver"] else "root"
    assert {it.owner for it in keys.values()} <= {"root", user}


@pytest.mark.controls("BKP-004")
def test_units_are_ours(seen: Look, any_role: dict[str, Any]) -> None:
    names = [f"{UNIT}{job}.service" for job in jobs(any_role)]
    assert units.moved(seen["units"], names) == []
    for job, name in zip(jobs(any_role), names, strict=True):
        words = units.command(seen["units"], name)
        assert words[-1] in (job, f"backup.{job}")
        assert words[0] == PROGRAM or words[0].endswith("/salt-run")
    others = {f"{UNIT}{job}.service" for job in JOBS} - {*names}
    assert [it for it in others if seen["units"].blocks[it]["FragmentPath"]] == []


@pytest.mark.controls("BKP-005")
def test_timers_run(seen: Look, any_role: dict[str, Any]) -> None:
    if any_role["run_by"] == "salt" and any_role["master"]:
        pytest.skip("the master's own scheduler starts them")
    assert units.down(seen["units"], [f"{UNIT}{job}.timer" for job in jobs(any_role)]) == []


@pytest.mark.controls("BKP-006")
def test_the_spool_is_private(seen: Look, master: dict[str, Any]) -> None:
    assert loose({master["spool"]: named(seen["stat"])[master["spool"]]}, 0o077) == []


@pytest.mark.controls("BKP-010")
def test_the_last_snapshot(seen: Look, master: dict[str, Any], said: dict[str, Any]) -> None:
    last = said["snapshot"]
    assert last["code"] in GOOD, last.get("reason")
    assert age(seen, last) < 2 * master["interval"] * 60 + master["jitter"] + GRACE


@pytest.mark.controls("BKP-011")
def test_the_last_check(seen: Look, any_role: dict[str, Any], said: dict[str, Any]) -> None:
    limit = 2 * any_role["verify_every"] * HOUR + any_role["jitter"] + GRACE
    if any_role["receiver"] and "verify" not in said:
        # A vault whose first snapshot arrived lately has not been checked yet.
        assert int(seen["now"].text) - int(seen["first"].text or 0) < limit
        return
    last = said["verify"]
    assert last["code"] in GOOD, last.get("reason")
    assert age(seen, last) < limit


@pytest.mark.controls("BKP-012")
def test_the_last_drill(seen: Look, drilling: dict[str, Any], said: dict[str, Any]) -> None:
    last = said["drill"]
    assert last["code"] in GOOD, last.get("reason")
    assert age(seen, last) < 2 * drilling["drill_every"] * HOUR + drilling["jitter"] + GRACE


@pytest.mark.controls("BKP-013", "BKP-014")
def test_vaults_have_the_newest_snapshot(
    master: dict[str, Any], said: dict[str, Any], judged: set[str]
) -> None:
    vaults = said["snapshot"]["vaults"]
    assert set(vaults) == set(master["vaults"])
    if "BKP-013" in judged:
        assert [name for name, it in vaults.items() if it.get("error")] == []
    if "BKP-014" in judged:
        far = [
            name
            for name, it in master["vaults"].items()
            if it["location"] != master["location"] and it["admin_domain"] != master["admin_domain"]
        ]
        assert [
            name for name in far if not vaults[name].get("faults") and not vaults[name].get("error")
        ]


@pytest.mark.controls("BKP-016")
def test_no_identity_lies_on_the_master(seen: Look, master: dict[str, Any]) -> None:
    assert seen["identities"].code != TIMED_OUT, f"the search took longer than {LONGEST} s"
    assert seen["identities"].lines == []


@pytest.mark.controls("BKP-030")
def test_only_declared_clients_reach_the_vault(seen: Look, vault: dict[str, Any]) -> None:
    lines = [line for line in seen["let_in"].lines if not line.startswith("#")]
    assert [it for it in lines if "restrict" not in it or 'command="' not in it] == []
    clients = vault["receiver"].get("clients", {}).values()
    declared = {word for it in clients for word in it["key"].split() if word.startswith("AAAA")}
    assert {word for it in lines for word in it.split() if word.startswith("AAAA")} == declared


@pytest.mark.controls("BKP-031")
def test_the_store_is_the_receivers(seen: Look, vault: dict[str, Any]) -> None:
    files = named(seen["store"])
    assert files and loose(files, 0o027, owner=vault["receiver"].get("user", USER)) == []


@pytest.mark.controls("BKP-034")
def test_every_client_sent_something(seen: Look, vault: dict[str, Any]) -> None:
    rows = (line.rpartition("/")[::2] for line in seen["newest"].lines)
    newest = {path.rsplit("/", 1)[1]: int(time.strip() or 0) for path, time in rows}
    clients = vault["receiver"].get("clients", {}).values()
    late = []
    for name in {it["instance"] for it in clients if not it.get("read")}:
        limit = vault["full_every"] * HOUR + 2 * vault["interval"] * 60 + vault["jitter"] + GRACE
        if int(seen["now"].text) - newest.get(name, 0) > limit:
            late.append(name)
    assert late == []


@pytest.mark.controls("BKP-040")
def test_the_key_for_drills_is_roots(seen: Look, drilling: dict[str, Any]) -> None:
    path = drilling["drill"]["identity"]
    assert loose({path: named(seen["stat"])[path]}, 0o077) == []
    assert seen["master"].code, "a Salt master is here"
