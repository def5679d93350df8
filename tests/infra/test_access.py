"""Salt's master and salt-api: who may do what there, and who can reach or change them."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
from testinfra.host import Host

from . import master as master_options
from . import rights, units
from .asking import Look, ask
from .files import named, stat
from .master import OURS
from .pillars import Expected

FAMILY = "access"
USERS, DOOR = "/etc/salt/rocksalt-users", "/usr/local/lib/rocksalt-api"
MASTER, API, BOOK = "salt-master.service", "salt-api.service", "rocksalt-logbook.service"
TRUSTING = ("open_mode", "auto_accept", "file_recv", "permissive_pki_access")
SPOKEN = r"Cipher is (?!\(NONE\))"


def declared(wanted: Expected) -> bool:
    return wanted.minion in wanted.baseline.families[FAMILY].settings["masters"]


def look(wanted: Expected) -> dict[str, str]:
    own = wanted.baseline.families[FAMILY].settings
    address = own["address"] or "127.0.0.1"
    here = f"[{address}]:{own['port']}" if ":" in address else f"{address}:{own['port']}"
    knock = f"timeout 10 openssl s_client -connect {shlex.quote(here)}"
    certificate, key = shlex.quote(own["tls_certificate"]), shlex.quote(own["tls_key"])
    return {
        "runs": f"systemctl -q is-active {MASTER}",
        "units": units.show(MASTER, API, BOOK),
        "people": f"for it in $(systemctl show -P MainPID {MASTER} {API}); do"
        " test $it = 0 || ps -o user= --pid $it --ppid $it; done",
        "config": master_options.command(),
        "stat": stat(f"{OURS} {USERS} /etc/salt/master /etc/salt/master.d{{,/*}} {key}"
                     " /etc/salt/pki/master/master.pem"),
        "users": f"sed -n 's/^\\([^:#]*\\):.*/\\1/p' {USERS}",
        "door": f"find {DOOR} \\( -perm /022 -o ! -user root \\) ! -type l",
        "there": f"ls {DOOR}",
        "netapi": "find /var/cache/salt/master/extmods/netapi -type f",
        "autosign": "find /etc/salt/pki/master/minions_autosign -type f; ls /etc/salt/autosign*",
        "listening": "ss -Hltn",
        "tls": f"{knock} -tls1_2",
        "old": f"{knock} -tls1_1 -cipher ALL:@SECLEVEL=0",
        "ends": f"openssl x509 -in {certificate} -noout -checkend"
        f" {own['renew_days'] * 86400}",
        "issued": f"openssl x509 -in {certificate} -noout -subject -issuer",
        "group": f"getent group {own['user']}",
    }  # fmt: skip


@pytest.fixture
def master(wanted: Expected, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a host with a master that is declared."""
    if not declared(wanted):
        pytest.skip("this host is no declared Salt master (hardening:access:masters)")
    return settings


@pytest.fixture
def api(master: dict[str, Any]) -> dict[str, Any]:
    """The settings of one that serves salt-api."""
    if not master["address"]:
        pytest.skip("hardening:access:address is empty, which is no salt-api")
    return master


@pytest.fixture
def options(seen: Look) -> dict[str, Any]:
    """The master's configuration, as far as it is judged."""
    return master_options.options(seen["config"])


@pytest.mark.controls("ACL-001")
def test_the_master_is_declared(seen: Look, wanted: Expected) -> None:
    if seen["runs"].code and not declared(wanted):
        pytest.skip("there is no Salt master here")
    assert (not seen["runs"].code) == declared(wanted)


@pytest.mark.controls("ACL-002")
def test_it_does_not_run_as_root(
    seen: Look, master: dict[str, Any], options: dict[str, Any]
) -> None:
    assert {line.strip() for line in seen["people"].lines} == {master["user"]}
    assert options["user"] == master["user"] != "root"


@pytest.mark.controls("ACL-003")
def test_our_configuration_is_private(seen: Look, master: dict[str, Any]) -> None:
    found = named(seen["stat"])[OURS]
    assert (found.owner, found.group, found.mode) == ("root", master["user"], 0o640)


@pytest.mark.controls("ACL-004")
def test_nobody_else_has_rights(seen: Look, master: dict[str, Any]) -> None:
    assert rights.undeclared(master_options.files(seen["config"]), master) == []


@pytest.mark.controls("ACL-005", "ACL-009")
def test_they_run_with_what_is_on_the_disk(
    seen: Look, master: dict[str, Any], judged: set[str]
) -> None:
    files = {p: it for p, it in named(seen["stat"]).items() if "/master" in p and "/pki" not in p}
    newest = max(it.changed for it in files.values() if not it.folder)
    if "ACL-005" in judged:
        assert units.started(seen["units"], MASTER) > newest
    if "ACL-009" in judged and master["address"]:
        assert units.down(seen["units"], [API]) == []
        assert units.started(seen["units"], API) > newest


@pytest.mark.controls("ACL-006")
def test_only_needed_clients_are_served(master: dict[str, Any], options: dict[str, Any]) -> None:
    served = set(options.get("netapi_enable_clients") or ())
    assert served <= {"local", "local_async", "runner", "runner_async"}


@pytest.mark.controls("ACL-007")
def test_no_other_door(seen: Look, master: dict[str, Any], options: dict[str, Any]) -> None:
    assert not {"rest_cherrypy", "rest_tornado", "rest_wsgi"} & options.keys()
    assert seen["netapi"].code or seen["netapi"].lines == []


@pytest.mark.controls("ACL-008")
def test_only_root_changes_the_door(seen: Look, api: dict[str, Any]) -> None:
    assert seen["there"].lines and seen["door"].found == []


@pytest.mark.controls("ACL-010")
def test_it_listens_on_one_address(seen: Look, api: dict[str, Any]) -> None:
    lines = [line.split()[3].rsplit(":", 1) for line in seen["listening"].lines]
    found = {address.strip("[]") for address, port in lines if int(port) == api["port"]}
    assert found == {api["address"]} or (api["any_address"] and found)


@pytest.mark.controls("ACL-011")
def test_it_speaks_modern_tls(seen: Look, api: dict[str, Any]) -> None:
    assert "BEGIN CERTIFICATE" in seen["tls"].text
    assert not re.search(SPOKEN, seen["old"].said)


@pytest.mark.controls("ACL-012")
def test_its_certificate(seen: Look, api: dict[str, Any]) -> None:
    assert not seen["ends"].code, seen["ends"].said
    subject, issuer = (line.partition("=")[2].strip() for line in seen["issued"].lines)
    assert subject != issuer


@pytest.mark.controls("ACL-013")
def test_its_key_is_private(seen: Look, api: dict[str, Any]) -> None:
    found = named(seen["stat"])[api["tls_key"]]
    assert found.owner in ("root", api["user"]) and not found.mode & 0o037
    members = [it for it in seen["group"].text.strip().split(":")[-1].split(",") if it]
    assert members == []


@pytest.mark.controls("ACL-014")
def test_passwords_are_of_declared_people(seen: Look, api: dict[str, Any]) -> None:
    if api["backend"] != "file":
        pytest.skip("passwords are checked elsewhere")
    assert set(seen["users"].lines) <= set(api["users"])
    found = named(seen["stat"])[USERS]
    assert (found.owner, found.group) == ("root", api["user"]) and not found.mode & 0o037


@pytest.mark.controls("ACL-015")
def test_nobody_is_trusted_unasked(
    seen: Look, master: dict[str, Any], options: dict[str, Any]
) -> None:
    assert [key for key in TRUSTING if options.get(key)] == []
    assert not options.get("peer") and not options.get("peer_run")
    assert seen["autosign"].lines == []


@pytest.mark.controls("ACL-016", "ACL-017")
def test_signatures_and_tokens(
    master: dict[str, Any], options: dict[str, Any], judged: set[str]
) -> None:
    if "ACL-016" in judged:
        assert options["publish_signing_algorithm"] == master["signing_algorithm"]
    if "ACL-017" in judged:
        assert options["token_expire"] == master["token_hours"] * 3600


@pytest.fixture
def roots(host: Host, master: dict[str, Any], options: dict[str, Any]) -> Look:
    """What lies where states and pillar come from, as far as it is not the master's alone."""
    return ask(host, reading_roots(options, master["user"]))


def reading_roots(options: dict[str, Any], user: str) -> dict[str, str]:
    """What is asked about these folders. A master that reads from git may have none."""
    states = folders(options, "file_roots") or "/srv/salt"
    pillar = folders(options, "pillar_roots") or "/srv/pillar"
    each = 'for it in %s; do if test -e "$it"; then find -L "$it" %s 2>&1; fi; done'
    own = f"! -user root ! -user {user}"
    return {
        "changeable": each % (f"{states} {pillar}", f"\\( -perm /002 -o {own} \\)")
        + " | grep -v '^find: File system loop detected' | head",
        "readable": each % (pillar, "-maxdepth 0 -perm /007"),
    }


def folders(options: dict[str, Any], key: str) -> str:
    """Words of a shell for folders; a wildcard, also of environments, is one there as well."""
    given = (options.get(key) or {}).values()
    paths = sorted({path.replace("__env__", "*") for found in given for path in found})
    return " ".join("".join(c if c in "*?[]" else shlex.quote(c) for c in it) for it in paths)


@pytest.mark.controls("ACL-018")
def test_keys_and_pillar_are_private(seen: Look, master: dict[str, Any], roots: Look) -> None:
    files = named(seen["stat"])
    assert not files["/etc/salt/pki/master/master.pem"].mode & 0o077
    assert not files[OURS].mode & 0o007
    assert roots["readable"].lines == []


@pytest.mark.controls("ACL-019")
def test_nobody_else_changes_states(master: dict[str, Any], roots: Look) -> None:
    assert roots["changeable"].lines == []


@pytest.mark.controls("ACL-024")
def test_a_logbook_is_written(seen: Look, master: dict[str, Any]) -> None:
    if not master["logbook"]:
        pytest.skip("hardening:access:logbook is false")
    assert units.down(seen["units"], [BOOK]) == []
