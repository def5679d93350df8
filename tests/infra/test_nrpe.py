"""NRPE: who gets an answer from it, and what it can do."""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
import shlex
from typing import Any

import pytest

from . import nets, units
from .asking import Look
from .files import loose, named, stat
from .pillars import Expected

FAMILY = "nrpe"
UNIT, CONFIG = "nagios-nrpe-server.service", "/etc/nagios/nrpe.cfg"
FOLDER, PLUGINS = "/etc/rocksalt/nrpe", "/usr/lib/nagios/plugins"
OURS = ("check_salt_drift", "check_luks", "check_ossec")
STAMP = "%a %Y-%m-%d %H:%M:%S.%f UTC"
SANDBOX = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "read-only",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "RestrictSUIDSGID": "yes",
    "RestrictNamespaces": "yes",
    "CapabilityBoundingSet": "",
}
PEER, SPOKEN = "BEGIN CERTIFICATE", r"Cipher is (?!\(NONE\))"
REFUSED = r"SSL alert number (40|42|116)\b"  # of who shows no certificate


def monitors(wanted: Expected) -> set[nets.Network]:
    """The networks that may ask."""
    return nets.of(wanted, wanted.baseline.families[FAMILY].settings["monitors"])


def beside_the_point(wanted: Expected) -> str:
    return "" if monitors(wanted) else "nobody watches this host (NRPE-001)"


def look(wanted: Expected) -> dict[str, str]:
    own = wanted.baseline.families[FAMILY].settings
    plugins = {it["plugin"] for it in own["commands"].values()}
    paths = shlex.join(it if it.startswith("/") else f"{PLUGINS}/{it}" for it in plugins)
    keys = ",".join(("ActiveState,UnitFileState,DropInPaths,User,AmbientCapabilities", *SANDBOX))
    knock = (
        f"a=$(sed -n 's/^server_address=//p' {CONFIG}); case $a in *:*) a=\"[$a]\"; esac;"
        f' timeout 10 openssl s_client -connect "$a:{own["port"]}"'
    )
    return {
        "unit": f"systemctl show --timestamp=us+utc {UNIT} -p {keys},ExecMainStartTimestamp",
        "config": f"cat {CONFIG}",
        "stat": stat(f"{CONFIG} {FOLDER} {FOLDER}/*"),
        "others": "grep -rsvE --include='*.cfg' '^[[:space:]]*(#|$)'"
        " /etc/nagios/nrpe.d /etc/nagios/nrpe_local.cfg",
        "listening": "ss -Hltnp | grep '\"nrpe\"'",
        "without": f"{knock} -tls1_2",
        "old": f"{knock} -tls1_1 -cipher ALL:@SECLEVEL=0",
        "verified": f"openssl verify -CAfile {FOLDER}/ca.pem -untrusted {FOLDER}/server.pem"
        f" {FOLDER}/server.pem",
        "names": f"openssl x509 -in {FOLDER}/server.pem -noout -subject -ext subjectAltName",
        "pair": f"openssl x509 -in {FOLDER}/server.pem -noout -pubkey;"
        f" openssl pkey -in {FOLDER}/server.key -pubout",
        "ends": f"for it in server ca; do openssl x509 -in {FOLDER}/$it.pem -noout -checkend"
        f" {own['renew_days'] * 86400} || exit 1; done",
        "plugins": f"stat -L -c '%a %U %G %.Z %n|%F' {paths}",
        "ours": stat(" ".join(f"{PLUGINS}/{it}" for it in OURS)),
        "groups": "id -Gn nagios",
        "user": "ps -C nrpe -o user=",
    }


def options(seen: Look) -> dict[str, str]:
    assert not seen["config"].code, seen["config"].said
    return {k.strip(): v.strip() for k, _, v in (it.partition("=") for it in seen["config"].lines)}


@pytest.mark.controls("NRPE-001")
def test_somebody_watches(wanted: Expected) -> None:
    assert monitors(wanted)


@pytest.mark.controls("NRPE-002")
def test_it_runs(seen: Look) -> None:
    unit = seen["unit"].pairs
    assert (unit["ActiveState"], unit["UnitFileState"]) == ("active", "enabled")


@pytest.mark.controls("NRPE-003")
def test_its_configuration(seen: Look, settings: dict[str, Any]) -> None:
    found = options(seen)
    commands = {k[8:-1] for k in found if k.startswith("command[")}
    assert commands == set(settings["commands"])
    assert (found["server_port"], found["command_timeout"]) == (
        str(settings["port"]),
        str(settings["timeout"]),
    )
    assert found["ssl_version"] == f"TLSv{settings['tls_minimum']}+"
    assert loose({CONFIG: named(seen["stat"])[CONFIG]}, 0o022) == []


@pytest.mark.controls("NRPE-004")
def test_it_was_started_on_what_is_there(seen: Look) -> None:
    stamp = seen["unit"].pairs["ExecMainStartTimestamp"]
    begin = dt.datetime.strptime(stamp, STAMP).replace(tzinfo=dt.timezone.utc).timestamp()
    used = (CONFIG, *(f"{FOLDER}/{name}" for name in ("server.pem", "server.key", "ca.pem")))
    files = named(seen["stat"])
    assert [path for path in used if files[path].changed > begin] == []


@pytest.mark.controls("NRPE-005")
def test_it_has_no_other_configuration(seen: Look) -> None:
    assert seen["others"].lines == []
    ours = f"/etc/systemd/system/{UNIT}.d/rocksalt.conf"
    assert units.drop_ins(seen["unit"].pairs) == [ours]
    assert not {"include", "include_file", "include_dir"} & options(seen).keys()


@pytest.mark.controls("NRPE-006")
def test_it_listens_on_one_internal_address(seen: Look, settings: dict[str, Any]) -> None:
    (line,) = seen["listening"].lines
    address, port = line.split()[3].rsplit(":", 1)
    found = ipaddress.ip_address(address.strip("[]"))
    assert int(port) == settings["port"] and not found.is_unspecified
    assert str(found) == settings["address"] if settings["address"] else found.is_private


@pytest.mark.controls("NRPE-007")
def test_it_speaks_tls_with_those_it_knows(seen: Look, settings: dict[str, Any]) -> None:
    if settings["tls_minimum"] == "1.2":
        assert PEER in seen["without"].said and re.search(REFUSED, seen["without"].said)
    else:
        assert not re.search(SPOKEN, seen["without"].said)
    assert PEER not in seen["old"].said and not re.search(SPOKEN, seen["old"].said)


@pytest.mark.controls("NRPE-008")
def test_it_hears_monitors_alone(seen: Look, wanted: Expected) -> None:
    found = options(seen)
    heard = {ipaddress.ip_network(it.strip()) for it in found["allowed_hosts"].split(",")}
    own = {ipaddress.ip_network(found["server_address"])}
    loopback = {it for it in heard if it.is_loopback}
    assert heard - loopback - own == monitors(wanted) - own


@pytest.mark.controls("NRPE-009")
def test_it_takes_nothing_from_the_network(seen: Look) -> None:
    found = options(seen)
    assert found.get("dont_blame_nrpe", "0") == "0"
    assert found.get("allow_bash_command_substitution", "0") == "0"


@pytest.mark.controls("NRPE-010")
def test_its_key_is_private(seen: Look) -> None:
    files = {path: it for path, it in named(seen["stat"]).items() if path.startswith(FOLDER)}
    assert f"{FOLDER}/server.key" in files and loose(files, 0o022) == []
    assert loose({p: it for p, it in files.items() if p.endswith(".key") or it.folder}, 0o007) == []
    assert {it.group for path, it in files.items() if path.endswith(".key")} <= {"root", "nagios"}


@pytest.mark.controls("NRPE-011")
def test_its_certificate_is_genuine(seen: Look, wanted: Expected) -> None:
    assert not seen["verified"].code, seen["verified"].said
    assert re.search(rf"(?:CN ?= ?|DNS:){re.escape(wanted.minion)}\b", seen["names"].text)
    keys = re.findall(r"-----BEGIN PUBLIC KEY-----[^-]*", seen["pair"].text)
    assert len(keys) == 2 and keys[0] == keys[1]


@pytest.mark.controls("NRPE-012")
def test_its_certificate_lasts(seen: Look) -> None:
    assert not seen["ends"].code, seen["ends"].said


@pytest.mark.controls("NRPE-014", "NRPE-015")
def test_plugins_are_there_and_roots(seen: Look, judged: set[str]) -> None:
    if "NRPE-014" in judged:
        assert len(named(seen["ours"])) == len(OURS)
        assert loose(named(seen["ours"]), 0o022) == []
    if "NRPE-015" in judged:
        assert not seen["plugins"].code, seen["plugins"].said
        files = named(seen["plugins"])
        assert loose(files, 0o022) == []
        assert [path for path, it in files.items() if not it.mode & 0o001] == []


@pytest.mark.parametrize(
    "key", [pytest.param(key, marks=pytest.mark.controls("NRPE-016")) for key in SANDBOX]
)
def test_sandbox(seen: Look, key: str) -> None:
    assert seen["unit"].pairs[key] == SANDBOX[key]


@pytest.mark.controls("NRPE-017")
def test_it_has_an_account_of_its_own(seen: Look) -> None:
    unit = seen["unit"].pairs
    assert unit["User"] == "nagios" and unit["AmbientCapabilities"] == ""
    assert seen["groups"].text.split() == ["nagios"]
    assert {line.strip() for line in seen["user"].lines} == {"nagios"}
