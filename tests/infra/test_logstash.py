"""Logs: that they leave the host, and that a log server and a witness keep them safe."""

from __future__ import annotations

import datetime as dt
import json
import re
import shlex
from typing import Any

import pytest

from . import units
from .asking import Look
from .files import loose, named, stat
from .pillars import Expected

FAMILY = "logstash"
FOLDER, STATE = "/etc/rocksalt/logstash", "/var/lib/rocksalt/logstash"
SHIPPER, RECEIVER = "rocksalt-ship.service", "rocksalt-logs.service"
TIMERS = ["rocksalt-logs-heads.timer", "rocksalt-logs-verify.timer"]
PROGRAMS = "/usr/local/sbin/rocksalt-ship /usr/local/sbin/rocksalt-logs"
WITNESS_HOME = "/var/lib/rocksalt-witness"
HEARD = 120  # seconds in which a shipper says something of itself


def receives(settings: dict[str, Any]) -> bool:
    return bool(settings["receiver"])


def ships(settings: dict[str, Any]) -> bool:
    return bool(settings["servers"])


def witnesses(settings: dict[str, Any]) -> bool:
    return bool(settings["witness"])


def beside_the_point(wanted: Expected) -> str:
    own = dict(wanted.baseline.families[FAMILY].settings)
    about = ships(own) or receives(own) or witnesses(own)
    return "" if about else "nobody receives the logs of this host (LOG-001)"


def look(wanted: Expected) -> dict[str, str]:
    own = wanted.baseline.families[FAMILY].settings
    store = shlex.quote(own["receiver"].get("path", "/var/log/rocksalt"))
    seen = shlex.quote(own["witness"].get("path", f"{WITNESS_HOME}/witnessed"))

    def certificate(name: str) -> dict[str, str]:
        pem = f"{FOLDER}/{name}.pem"
        return {
            f"{name}_verified": f"openssl verify -CAfile {FOLDER}/ca.pem -untrusted {pem} {pem}",
            f"{name}_names": f"openssl x509 -in {pem} -noout -subject -ext subjectAltName",
            f"{name}_ends": f"openssl x509 -in {pem} -noout -checkend {own['renew_days'] * 86400}",
            f"{name}_pair": f"openssl x509 -in {pem} -noout -pubkey;"
            f" openssl pkey -in {FOLDER}/{name}.key -pubout",
        }

    return {
        "units": units.show(SHIPPER, RECEIVER, *TIMERS),
        "config": f"cat {FOLDER}/shipper.json",
        "status": f"cat {STATE}/status.json",
        "sum": f"sha256sum {FOLDER}/shipper.json",
        "accepted": f"cat {STATE}/accepted.json",
        "stat": stat(f"{FOLDER} {FOLDER}/* {STATE} {PROGRAMS}"),
        "programs": f"wc -c {PROGRAMS}",
        "connected": "ss -Htnp state established",
        "listening": "ss -Hltn",
        "now": "date +%s",
        "journald": "systemd-analyze cat-config systemd/journald.conf",
        "journal": "ls -d /var/log/journal/*/system.journal",
        "store": stat(f"{store} {store}/*"),
        "open": f"find {store} \\( -perm /007 -o -perm /020 \\) ! -type l | head",
        "witnessed": stat(f"{seen} {seen}/*"),
        "let_in": f"cat {WITNESS_HOME}/.ssh/authorized_keys",
        **certificate("host"),
        **certificate("server"),
    }


@pytest.fixture
def shipping(seen: Look, settings: dict[str, Any]) -> dict[str, Any]:
    """What the shipper of a host that has one said of itself last."""
    if not ships(settings):
        pytest.skip("this host does not ship its logs")
    assert not seen["status"].code, seen["status"].said
    found: dict[str, Any] = json.loads(seen["status"].text)
    return found


@pytest.fixture
def receiving(settings: dict[str, Any]) -> dict[str, Any]:
    if not receives(settings):
        pytest.skip("this host is no log server")
    return settings


@pytest.fixture
def witnessing(settings: dict[str, Any]) -> dict[str, Any]:
    if not witnesses(settings):
        pytest.skip("this host witnesses no log server")
    return settings


def age(seen: Look, time: str) -> float:
    """The seconds since a time as the shipper writes it."""
    then = dt.datetime.fromisoformat(time.replace("Z", "+00:00"))
    return int(seen["now"].text) - then.timestamp()


def genuine(seen: Look, name: str, called: str) -> None:
    """A certificate is of the authority, for its own key, and for this name."""
    assert not seen[f"{name}_verified"].code, seen[f"{name}_verified"].said
    assert re.search(rf"(?:CN ?= ?|DNS:){re.escape(called)}\b", seen[f"{name}_names"].text)
    keys = re.findall(r"-----BEGIN PUBLIC KEY-----[^-]*", seen[f"{name}_pair"].text)
    assert len(keys) == 2 and keys[0] == keys[1]


def journald(seen: Look, key: str) -> str:
    """The value in force of an option of journald: the last that it reads."""
    found = re.findall(rf"^{key}=(.*)$", seen["journald"].text, re.M)
    return found[-1].strip() if found else ""


@pytest.mark.controls("LOG-001")
def test_somebody_receives_the_logs(settings: dict[str, Any]) -> None:
    assert ships(settings)


@pytest.mark.controls("LOG-002")
def test_the_shipper_runs(seen: Look, shipping: dict[str, Any]) -> None:
    assert units.down(seen["units"], [SHIPPER]) == []


@pytest.mark.controls("LOG-003", "LOG-015")
def test_its_configuration(
    seen: Look, shipping: dict[str, Any], settings: dict[str, Any], judged: set[str]
) -> None:
    found = json.loads(seen["config"].text)
    if "LOG-003" in judged:
        assert units.moved(seen["units"], [SHIPPER]) == []
        assert units.command(seen["units"], SHIPPER)[0] == "/usr/local/sbin/rocksalt-ship"
        assert [it["host"] for it in found["servers"]] == [it["host"] for it in settings["servers"]]
        files = named(seen["stat"])
        assert loose({f"{FOLDER}/shipper.json": files[f"{FOLDER}/shipper.json"]}, 0o077) == []
        program = "/usr/local/sbin/rocksalt-ship"
        assert loose({program: files[program]}, 0o022) == []
        size = next(int(it.split()[0]) for it in seen["programs"].lines if program in it)
        assert size > 10_000, "something else stands in place of the program"
    if "LOG-015" in judged:
        assert set(settings["mask"]) <= set(found["mask"])


@pytest.mark.controls("LOG-004")
def test_it_runs_with_what_is_on_the_disk(seen: Look, shipping: dict[str, Any]) -> None:
    assert shipping["config"] == seen["sum"].text.split()[0]
    assert age(seen, shipping["time"]) < HEARD


@pytest.mark.controls("LOG-005")
def test_it_is_connected(
    seen: Look, shipping: dict[str, Any], wanted: Expected, settings: dict[str, Any]
) -> None:
    ports = {it.get("port", settings["ports"].get(wanted.minion)) for it in settings["servers"]}
    lines = [it for it in seen["connected"].lines if "rocksalt-ship" in it or "python" in it]
    ends = (it.partition("users:")[0].split()[-1] for it in lines)
    assert {int(end.rsplit(":", 1)[1]) for end in ends} & ports


@pytest.mark.controls("LOG-006", "LOG-007")
def test_no_line_is_late_or_lost(
    seen: Look, shipping: dict[str, Any], settings: dict[str, Any], judged: set[str]
) -> None:
    if "LOG-006" in judged:
        oldest = shipping.get("oldest_waiting")
        assert not oldest or age(seen, oldest) < settings["oldest"]
        assert (shipping.get("waiting") or 0) < settings["limit"]
    if "LOG-007" in judged:
        excused = {} if seen["accepted"].code else json.loads(seen["accepted"].text)
        for kind in ("dropped", "lost"):
            assert int(shipping.get(kind) or 0) <= int(excused.get(kind) or 0)


@pytest.mark.controls("LOG-008")
def test_its_certificate(seen: Look, shipping: dict[str, Any], wanted: Expected) -> None:
    genuine(seen, "host", wanted.minion)


@pytest.mark.controls("LOG-009")
def test_certificates_last(seen: Look, settings: dict[str, Any]) -> None:
    if ships(settings):
        assert not seen["host_ends"].code, seen["host_ends"].said
    if receives(settings):
        assert not seen["server_ends"].code, seen["server_ends"].said


@pytest.mark.controls("LOG-010")
def test_keys_are_private(seen: Look, settings: dict[str, Any]) -> None:
    files = {path: it for path, it in named(seen["stat"]).items() if path.startswith(f"{FOLDER}/")}
    assert loose({p: it for p, it in files.items() if p.endswith(".pem")}, 0o022) == []
    keys = {p: it for p, it in files.items() if p.endswith((".key", "/signing", "/transport"))}
    assert keys or not (ships(settings) or receives(settings)), f"{FOLDER} has no key"
    known = ("root", "rocksalt-logs", "rocksalt-witness")
    assert [path for path, it in keys.items() if it.mode & 0o037 or it.owner not in known] == []


@pytest.mark.controls("LOG-012")
def test_the_journal_is_kept(seen: Look, settings: dict[str, Any]) -> None:
    assert journald(seen, "Storage") in ("persistent", "") and not seen["journal"].code
    assert journald(seen, "SystemMaxUse") == f"{settings['journal_size']}M"


@pytest.mark.controls("LOG-013")
def test_the_journal_drops_nothing(seen: Look) -> None:
    assert "0" in (journald(seen, "RateLimitIntervalSec"), journald(seen, "RateLimitBurst"))


@pytest.mark.controls("LOG-014")
def test_a_marked_line_arrived(
    seen: Look, shipping: dict[str, Any], settings: dict[str, Any]
) -> None:
    arrived = shipping["probe"]["acknowledged"]
    assert arrived and age(seen, arrived) < 3 * settings["probe"] + HEARD


@pytest.mark.controls("LOG-101", "LOG-102")
def test_the_log_server_runs(seen: Look, receiving: dict[str, Any], judged: set[str]) -> None:
    if "LOG-101" in judged:
        assert units.down(seen["units"], [RECEIVER, *TIMERS]) == []
    if "LOG-102" in judged:
        assert units.moved(seen["units"], [RECEIVER, *TIMERS]) == []


@pytest.mark.controls("LOG-103")
def test_it_listens_for_its_hosts(seen: Look, receiving: dict[str, Any]) -> None:
    lines = [line.split()[3].rsplit(":", 1) for line in seen["listening"].lines]
    ports = set(receiving["ports"].values())
    found = {(address.strip("[]"), int(port)) for address, port in lines if int(port) in ports}
    address = receiving["receiver"].get("address")
    assert {port for _, port in found} == ports
    assert not address or {it for it, _ in found} == {address}


@pytest.mark.controls("LOG-105")
def test_its_own_certificate(seen: Look, receiving: dict[str, Any], wanted: Expected) -> None:
    genuine(seen, "server", wanted.minion)


@pytest.mark.controls("LOG-108")
def test_received_logs_are_private(seen: Look, receiving: dict[str, Any]) -> None:
    assert named(seen["store"]) and seen["open"].found == []
    assert {it.owner for it in named(seen["store"]).values()} <= {"rocksalt-logs"}


@pytest.mark.controls("LOG-201")
def test_log_servers_can_only_be_witnessed(seen: Look, witnessing: dict[str, Any]) -> None:
    lines = [line for line in seen["let_in"].lines if not line.startswith("#")]
    assert [it for it in lines if not it.startswith('restrict,command="')] == []
    clients = witnessing["witness"].get("clients", {}).values()
    declared = {word for it in clients for word in it["key"].split() if word.startswith("AAAA")}
    assert {word for it in lines for word in it.split() if word.startswith("AAAA")} == declared


@pytest.mark.controls("LOG-202")
def test_only_the_witness_writes_what_it_signed(seen: Look, witnessing: dict[str, Any]) -> None:
    files = named(seen["witnessed"])
    user = witnessing["witness"].get("user", "rocksalt-witness")
    assert files and loose(files, 0o022, owner=user) == []
