"""The family logstash on real hosts: two that ship, two log servers, each the other's witness."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

import outside
import runs
import tampers
from logs import (
    ADDRESSES,
    CA,
    FOLDER,
    ON_HOST,
    PORTS,
    RECEIVER,
    SHIPPER,
    STATE,
    STORE,
    Site,
    Speaker,
    becomes,
)
from rocksalt_lab import Host, Lab
from rocksalt_lab.lab import in_parallel
from traces import spellings

RATE, FILE_RATE = 1000, 200
"""Numbered lines a second, into the journal and into a file."""


@pytest.fixture(scope="module")
def site(lab: Lab, cluster: dict[str, Host]) -> Iterator[Site]:
    """Hosts that nobody receives logs of yet; afterwards those of all tests are as they were."""
    site = Site(lab, cluster)
    before = site.master.read(runs.PILLAR)
    site.prepare()
    yield site
    for asker in site.askers.values():
        asker.close()
    site.master.write(runs.PILLAR, before)
    site.master.run(f"rm -rf {CA}; rm -f /etc/salt/pki/master/minions/logs*")
    in_parallel(lambda host: host.stop(), site.servers)
    for host in (site.web1, site.web2):
        host.salt_call("logstash.clean")
        host.run(
            f"rm -rf {FOLDER} {STATE} /var/log/app /var/lib/say-*"
            " /root/*.py /root/edit /root/restart-logs"
        )
        assert not runs.apply(host, "hardening.firewall,hardening.logstash").failed
        assert not runs.differing(host, families="logstash")


@pytest.fixture(scope="module")
def hardened(site: Site) -> Site:
    """All hosts have what they need, but nobody has brought them certificates yet."""
    site.harden()
    return site


@pytest.fixture(scope="module")
def shipping(hardened: Site) -> Site:
    """Certificates are there, and each log server is the other's witness."""
    hardened.connect()
    return hardened


# What a highstate makes --------------------------------------------------------------------------


def test_test_mode_says_what_it_would_do_and_does_nothing(site: Site) -> None:
    before = runs.fingerprint(site.web1)
    drifts = {*site.differing(site.web1)} & {"LOG-012", "LOG-013"}
    run = runs.apply(site.web1, "hardening.logstash", test=True)
    assert run.controls == {"LOG-003"} | drifts
    assert runs.fingerprint(site.web1) == before
    assert site.web1.run(f"systemctl cat {SHIPPER}", check=False).returncode


def test_without_a_certificate_nothing_is_sent_and_that_is_drift(hardened: Site) -> None:
    found = hardened.differing(hardened.web1)
    assert set(found) == {"LOG-008"}
    assert "salt-run logs.enrol web1" in found["LOG-008"]
    assert set(hardened.differing(hardened.logs1)) == {"LOG-008", "LOG-105"}


def test_a_second_run_changes_nothing_and_restarts_nothing(shipping: Site) -> None:
    units = f"{SHIPPER} {RECEIVER} systemd-journald.service"
    started = f"systemctl show -P MainPID {units}"
    for host in (shipping.web1, shipping.logs1):
        assert not shipping.differing(host)
        outside.conforms(host, "logstash", "firewall")
        before = host.run(started).stdout
        assert not shipping.apply(host).changes
        assert host.run(started).stdout == before


def test_a_whole_highstate_leaves_log_servers_without_drift(shipping: Site) -> None:
    host = shipping.logs2
    run = runs.apply(shipping.salt(host))
    assert not run.failed
    assert not runs.differing(shipping.salt(host))
    assert shipping.lab.ssh(shipping.master, "ops", host, "sudo -n id").returncode == 0


# What a line looks like --------------------------------------------------------------------------


def test_lines_of_all_sources_arrive_with_fields(shipping: Site) -> None:
    host = shipping.web1
    begin = time.time()
    shipping.lab.ssh(shipping.master, "nobody-here", host, "true")
    host.run("logger -t sudo-like -p authpriv.warning 'a line of auth'")
    host.run("mkdir -p /var/log/app; echo 'a line of the application' >> /var/log/app/one.log")
    host.run("salt-call --local --log-file-level=info test.ping")
    refused = shipping.arrives(host, "Invalid user nobody-here")
    assert refused["event"]["dataset"] == "auth"
    assert refused["source"]["ip"] == shipping.master.ip
    assert refused["user"]["name"] == "nobody-here"
    assert refused["process"]["name"] == "sshd"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", refused["@timestamp"])
    assert refused["host"]["name"] == "web1"
    assert refused["labels"] == {"role": "web-server", "customer": "acme"}
    said = shipping.arrives(host, "a line of auth")
    assert (said["event"]["dataset"], said["log"]["level"]) == ("auth", "warning")
    app = shipping.arrives(host, "a line of the application")
    assert app["event"]["dataset"] == "app"
    assert app["log"]["file"]["path"] == "/var/log/app/one.log"
    salt = shipping.arrives(host, '"path":"/var/log/salt/minion"')
    assert salt["event"]["dataset"] == "salt"
    ids = [line["event"]["event"]["id"] for line in shipping.lines(host, "web1")]
    assert len(ids) > 20
    assert time.time() - begin < 60


def test_the_drift_report_arrives(shipping: Site) -> None:
    host = shipping.web1
    host.run("systemctl stop rocksalt-drift.timer; systemctl start rocksalt-drift.service")
    found = shipping.arrives(host, "DRIFT-001")
    assert (found["event"]["dataset"], found["event"]["kind"]) == ("drift", "state")
    assert (found["rule"]["id"], found["log"]["level"]) == ("DRIFT-001", "medium")
    host.run("systemctl start rocksalt-drift.timer; systemctl start rocksalt-drift.service")


def test_lines_that_are_no_text_or_more_than_one_survive(shipping: Site) -> None:
    host = shipping.web1
    host.run(r"printf 'first of three\nsecond\nthird' | systemd-cat -t lines")
    host.write("/root/odd.py", _ODD)
    host.run("python3 /root/odd.py")
    several = shipping.arrives(host, "odd: two lines")
    assert several["message"] == "odd: two lines\nsecond"
    raw = shipping.arrives(host, "odd: not UTF-8")
    assert raw["message"] == "odd: not UTF-8 \\xff\\xfe end"
    assert shipping.arrives(host, "odd: forged")
    for line in shipping.lines(host, "injected-host"):
        assert (line["from"], line["flags"]) == ("web1", [])
        assert line["event"]["host"] == {"name": "web1"}
    parts = [line["event"] for line in shipping.lines(host, "odd: long ")]
    tail = shipping.arrives(host, "end of long")
    assert (
        parts and tail["rocksalt"]["part"].split("/")[0] == tail["rocksalt"]["part"].split("/")[1]
    )


_ODD = r"""
import socket, struct
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect("/run/systemd/journal/socket")
def say(message):
    s.send(b"SYSLOG_IDENTIFIER=odd\nMESSAGE\n" + struct.pack("<Q", len(message)) + message + b"\n")
say(b"odd: two lines\nsecond")
say(b"odd: not UTF-8 \xff\xfe end")
say(b'odd: forged","host":{"name":"injected-host"},"x":"\n{"from":"logs1"}')
say(b"odd: long " + b"x" * 120000 + b" end of long")
"""


def test_secrets_do_not_leave_the_host(shipping: Site) -> None:
    host = shipping.web1
    canary = "".join(random.choices("abcdefghijkmnpqrstuvwxyz23456789", k=48))
    for line in (
        f"login with password={canary}",
        f"Authorization: Bearer {canary}",
        f"fetch https://me:{canary}@example.org/x",
        f"tool --token {canary}",
    ):
        host.run(["logger", "-t", "canary", line])
    host.run(["bash", "-c", f"echo 'key: {canary} api_key={canary}' | sed 's/key: [^ ]* //' "
              ">> /var/log/app/one.log"])  # fmt: skip
    shipping.caught_up(host)
    masked = shipping.arrives(host, "login with password=")
    assert masked["message"] == "login with password=***"
    wanted = [piece.decode("latin-1") for piece in spellings(canary.encode()).values()]
    for server in shipping.servers:
        text = server.run(f"cat {STORE}/web1/*.jsonl", check=False).stdout
        assert not [piece for piece in wanted if piece in text]


# Nothing is lost ---------------------------------------------------------------------------------


def test_no_line_is_lost_whatever_fails(shipping: Site) -> None:
    """Numbered lines at 1,000 a second and more, while one thing after the other fails."""
    host, server = shipping.web1, shipping.logs1
    host.run("mkdir -p /var/log/app")
    begin = time.monotonic()
    journal = Speaker(host, "steady", RATE)
    file = Speaker(host, "filed", FILE_RATE, "/var/log/app/filed.log")
    user = ["systemd-run", "--quiet", "--unit=say-as-user", "--uid=ops"]
    host.run([*user, "bash", "-c", "while sleep 0.1; do echo an ordinary user; done"])
    for _ in range(3):
        server.run(f"systemctl kill --signal=KILL --kill-whom=all {RECEIVER}")
        time.sleep(random.uniform(1, 3))
        server.run("pkill -KILL -f 'rocksalt-logs write'", check=False)
        time.sleep(random.uniform(1, 2))
    for _ in range(4):
        host.run(f"systemctl kill --signal=KILL {SHIPPER}")
        time.sleep(random.uniform(0.5, 2.5))
    host.run(f"systemctl restart {SHIPPER}")
    host.run("journalctl --rotate")
    host.run("mv /var/log/app/filed.log /var/log/app/filed.log.1")
    time.sleep(2)
    for address in ADDRESSES.values():
        host.run(f"iptables -I OUTPUT -d {address} -j DROP")
    time.sleep(25)
    for address in ADDRESSES.values():
        host.run(f"iptables -D OUTPUT -d {address} -j DROP")
    for it in shipping.servers:
        it.run(f"systemctl stop {RECEIVER}")
    time.sleep(30)
    for it in shipping.servers:
        it.run(f"systemctl start {RECEIVER}")
    host.run("systemctl stop say-as-user")
    counts = {"steady": journal.end(), "filed": file.end()}
    seconds = time.monotonic() - begin
    assert counts["steady"] / seconds > RATE * 0.9
    shipping.caught_up(host, 120)
    for identifier, count in counts.items():
        found = shipping.received(host, identifier)
        print(f"{identifier}: {count} lines, {found.lines - found.count} duplicates")
        assert found.numbers == [[0, count - 1]]
    assert not {key: shipping.status(host)[key] for key in ("dropped", "lost", "unknown_gaps")
                if shipping.status(host)[key]}  # fmt: skip


def test_no_line_is_lost_by_a_reboot_or_a_power_cut(shipping: Site) -> None:
    host = shipping.web2
    speaker = Speaker(host, "booted", RATE)
    time.sleep(2)
    count = speaker.end()
    shipping.forget(host)
    host.reboot()
    speaker = Speaker(host, "booted", RATE)
    time.sleep(3)
    host.run("journalctl --sync")
    host.kill()
    host.boot()
    kept = host.run("journalctl -q -t booted -o cat").stdout.split()
    last = max(int(word) for word in kept if word.isdigit())
    assert last > count
    becomes(lambda: shipping.status(host)["connected_since"], 30)
    shipping.caught_up(host)
    found = shipping.received(host, "booted")
    assert found.numbers[0][0] == 0
    assert found.numbers[-1][1] >= last
    written = {int(word) for word in kept if word.isdigit()}
    have = {n for first, end in found.numbers for n in range(first, end + 1)}
    assert not written - have


def test_lines_go_to_the_next_server_and_return_to_the_first(shipping: Site) -> None:
    host, first, second = shipping.web1, *shipping.servers
    becomes(lambda: shipping.status(host)["server"] == first.name, 90)
    first.run(f"systemctl stop {RECEIVER}")
    took = becomes(lambda: shipping.status(host)["server"] == second.name, 30)
    host.run("logger -t moved 'over to the second'")
    assert shipping.arrives(host, "over to the second")
    first.run(f"systemctl start {RECEIVER}")
    back = becomes(lambda: shipping.status(host)["server"] == first.name, 90)
    print(f"over in {took:.1f} s, back in {back:.1f} s")


def test_an_expired_certificate_stops_lines_until_a_new_one_comes(shipping: Site) -> None:
    host = shipping.web1
    host.write("/root/expired.pem", _expired(shipping))
    host.run(f"cp /root/expired.pem {FOLDER}/host.pem; systemctl restart {SHIPPER}")
    speaker = Speaker(host, "expired", RATE)
    becomes(lambda: "may not trust" in shipping.status(host)["error"], 40)
    assert not shipping.status(host)["connected_since"]
    becomes(lambda: {"LOG-005", "LOG-009"} <= set(shipping.differing(host)), 90)
    enrolled = shipping.runner("enrol", "web1")
    assert enrolled["enrolled"].keys() == {"web1"}
    becomes(lambda: shipping.status(host)["connected_since"], 60)
    count = speaker.end()
    shipping.caught_up(host, 120)
    assert shipping.received(host, "expired").numbers == [[0, count - 1]]


def _expired(site: Site) -> str:
    """The certificate of web1 with an end that is over."""
    subject = "-subj /CN=web1 -addext subjectAltName=DNS:web1 -addext extendedKeyUsage=clientAuth"
    request = f"openssl req -new -key {FOLDER}/host.key {subject} -out /root/it.csr"
    site.web1.run(request)
    site.master.write("/root/it.csr", site.web1.read("/root/it.csr"))
    site.master.run(
        "openssl x509 -req -in /root/it.csr -copy_extensions copy -days -1 -out /root/expired.pem"
        f" -CA {CA}/ca.pem -CAkey {CA}/ca.key"
    )
    return site.master.read("/root/expired.pem")


# The bound ---------------------------------------------------------------------------------------


@pytest.fixture
def unreachable(shipping: Site) -> Iterator[Site]:
    """No log server takes lines; afterwards both do, and the settings are as before."""
    becomes(lambda: shipping.behind(shipping.web1) < 100, 40)
    for server in shipping.servers:
        server.run(f"systemctl stop {RECEIVER}")
    yield shipping
    for server in shipping.servers:
        server.run(f"systemctl start {RECEIVER}")
    shipping.pillar()
    shipping.apply(shipping.web1)
    becomes(lambda: shipping.status(shipping.web1)["connected_since"], 60)
    shipping.salt(shipping.web1).salt_call("logstash.accept")


def test_a_full_queue_blocks_nobody_and_loses_nothing(unreachable: Site) -> None:
    site, host = unreachable, unreachable.web1
    site.pillar(limit=5000, at_limit="block")
    site.apply(host)
    speaker = Speaker(host, "blocked", RATE)
    becomes(lambda: site.status(host)["full_since"], 60)
    assert "LOG-006" in site.differing(host)
    for command in ("sudo -n id", "true"):
        begin = time.monotonic()
        assert not site.lab.ssh(site.master, "ops", host, command).returncode
        assert time.monotonic() - begin < 3  # a log-in itself takes a third of a second here
    begin = time.monotonic()
    host.run("setpriv --reuid=ops --regid=ops --clear-groups sudo -n true; logger hello")
    assert time.monotonic() - begin < 1
    count = speaker.end()
    assert count > 5000
    for server in site.servers:
        server.run(f"systemctl start {RECEIVER}")
    becomes(lambda: site.status(host)["connected_since"], 60)
    site.caught_up(host, 120)
    assert site.received(host, "blocked").numbers == [[0, count - 1]]
    assert site.status(host)["full_since"] is None
    assert not site.status(host)["dropped"]


def test_what_is_dropped_is_counted_exactly(unreachable: Site) -> None:
    site, host = unreachable, unreachable.web1
    site.pillar(limit=5000, at_limit="drop")
    site.apply(host)
    before = site.status(host)
    reached = json.loads(host.read(f"{STATE}/positions.json"))["reached"]
    speaker = Speaker(host, "dropped", RATE)
    becomes(lambda: site.status(host)["waiting"] > 7000, 60)
    count = speaker.end()
    for server in site.servers:
        server.run(f"systemctl start {RECEIVER}")
    becomes(lambda: site.status(host)["connected_since"], 60)
    site.caught_up(host, 120)
    found = site.received(host, "dropped")
    assert found.numbers[-1][1] == count - 1, "the newest ones have arrived"
    assert count - found.count > 1000
    dropped = site.status(host)["dropped"] - before["dropped"]
    entries = host.run(["python3", "/root/journal_ids.py", host.name, reached]).stdout.split()
    assert len(entries) == len(set(entries))
    becomes(lambda: len(set(entries) - site.ids(host)) <= dropped, 20)
    assert len(set(entries) - site.ids(host)) == dropped
    drift = site.differing(host)
    assert f"{dropped} dropped" in drift["LOG-007"]
    site.salt(host).salt_call("logstash.accept")
    assert "LOG-007" not in site.differing(host)


# Who is who ---------------------------------------------------------------------------------------


KNOCK = r"""
data=$(printf 'relp_version=0\ncommands=syslog')
line='{"host":{"name":"logs2"},"message":"another name"}'
open() { printf '1 open %d %s\n' ${#data} "$data"; sleep 1; }
syslog() { printf '2 syslog %d %s\n' ${#line} "$line"; sleep 1; }
(open; [ "$0" = knock ] || syslog) | timeout 3 openssl s_client -quiet -connect "$@" 2>&1
true
"""


def _answers(client: Host, server: Host, port: int, *options: str, then: str = "knock") -> str:
    """What a log server answers to the first words of RELP, and to a line under another name."""
    words = ["bash", "-c", KNOCK, then, f"{server.ip}:{port}", *options]
    return client.run(words, check=False).stdout


def test_a_port_takes_lines_of_its_host_alone(shipping: Site, attacker: Host) -> None:
    server, own = shipping.logs1, ["-cert", f"{FOLDER}/host.pem", "-key", f"{FOLDER}/host.key"]
    assert "200 OK" in _answers(shipping.web2, server, PORTS["web2"], *own)
    assert "200 OK" not in _answers(shipping.web2, server, PORTS["web1"], *own)
    assert "200 OK" not in _answers(shipping.web2, server, PORTS["web2"])
    self_signed = ["-cert", "/root/mine.pem", "-key", "/root/mine.key"]
    shipping.web2.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9"
        " -subj /CN=web2 -addext subjectAltName=DNS:web2 -keyout /root/mine.key"
        " -out /root/mine.pem"
    )
    assert "200 OK" not in _answers(shipping.web2, server, PORTS["web2"], *self_signed)
    assert "200 OK" not in _answers(shipping.web2, server, PORTS["web2"], *own, "-tls1_1")
    assert attacker.run(["nc", "-z", "-w", "2", server.ip, str(PORTS["web1"])], False).returncode


# What was received stays as it is ----------------------------------------------------------------

SECRET = "the intruder was here"
DAMAGES = {
    'sed -i \'5s/"message":"./&x/\' {file}': r"line 5 of .* is not as it arrived",
    "sed -i 7d {file}": r"line 7 was removed",
    "sed -i 9p {file}": r"there are two lines 9: one was inserted",
    "sed -i '{cut},$d' {file}": r"but the witness saw line \d+ at .*: the end was cut off",
    f"python3 /root/rebuild.py {STORE}/web1 '{SECRET}' 'nobody was here at all'": r"anew",
}
"""What root on a log server may do, and what is said then."""


@pytest.fixture
def kept(shipping: Site) -> Iterator[Host]:
    """A log server whose lines are all witnessed, and that takes no more for a while; what it has
    is put back.
    """
    host, server = shipping.web1, shipping.logs1
    host.run(f"systemctl restart {SHIPPER}")
    becomes(lambda: shipping.status(host)["server"] == server.name, 90)
    host.run(["logger", SECRET])
    shipping.arrives(host, SECRET)
    server.run("systemctl stop rocksalt-logs-heads.timer")
    server.run(f"systemctl stop {RECEIVER}; systemctl start rocksalt-logs-heads.service")
    server.run(f"rm -rf /root/kept; cp -a {STORE} /root/kept")
    yield server
    server.run(f"rm -rf {STORE}; cp -a /root/kept {STORE}")
    server.run(f"systemctl start {RECEIVER} rocksalt-logs-heads.timer")
    host.run(f"systemctl restart {SHIPPER}")
    becomes(lambda: shipping.status(host)["server"] == server.name, 90)


def _verified(server: Host, host: str = "web1") -> dict[str, Any]:
    only = ["--host", host] if host else []
    command = ["runuser", "-u", "rocksalt-logs", "--", "rocksalt-logs", "verify", "--json", *only]
    found: dict[str, Any] = json.loads(server.run(command, check=False).stdout)
    return found


def test_whatever_is_done_to_received_lines_is_found(shipping: Site, kept: Host) -> None:
    clean = _verified(kept)
    assert clean["ok"], clean
    assert clean["hosts"]["web1"]["unwitnessed_since"] is None
    lines = clean["hosts"]["web1"]["lines"]
    file = kept.run(f"ls {STORE}/web1/*.jsonl").stdout.split()[-1]
    for damage, words in DAMAGES.items():
        kept.run(damage.format(file=file, cut=lines - 20))
        found = _verified(kept)
        kept.run(f"rm -rf {STORE}; cp -a /root/kept {STORE}")
        assert not found["ok"], damage
        assert any(re.search(words, it) for it in found["hosts"]["web1"]["problems"]), found
    kept.run(f"rm -r {STORE}/web2")
    assert "web2: the witness saw its lines, and they are gone" in _verified(kept, "")["problems"]
    kept.run(f"rm -rf {STORE}; cp -a /root/kept {STORE}")
    assert _verified(kept, "")["ok"]


def test_salt_verifies_as_well_and_says_so_by_its_exit_code(shipping: Site) -> None:
    done = shipping.logs1.salt_call("logstash.verify")
    assert done.value["ok"] and not done.retcode
    assert done.value["hosts"].keys() >= PORTS.keys()


# Drift --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def breakable(shipping: Site) -> Site:
    """Both kinds of hosts have what tamper cases need."""
    for host, kinds in ((shipping.web1, ["host"]), (shipping.logs1, ["host", "server"])):
        for name in ("edit.py", "restart-logs.sh"):
            host.write(f"/root/{name.split('.')[0]}", (ON_HOST / name).read_text(), mode="0755")
        for kind in kinds:
            _sign_others(shipping, host, kind)
    return shipping


def _sign_others(site: Site, host: Host, kind: str) -> None:
    """Certificates for the key of a host that runs out soon, and of another authority."""
    master, suffix = site.master, "" if kind == "host" else "-server"
    usage = "clientAuth" if kind == "host" else "serverAuth"
    host.run(
        f"openssl req -new -key {FOLDER}/{kind}.key -subj /CN={host.name} -out /root/it.csr"
        f" -addext subjectAltName=DNS:{host.name},IP:{host.ip} -addext extendedKeyUsage={usage}"
    )
    master.write("/root/it.csr", host.read("/root/it.csr"))
    master.run(
        "cd /root; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
        " -subj /CN=other -days 99 -keyout other.key -out other-ca.pem;"
        "sign() { openssl x509 -req -in it.csr -copy_extensions copy -CA $1 -CAkey $2 -days $3 -out"
        f" $4; }}; sign {CA}/ca.pem {CA}/ca.key 10 soon.pem;"
        " sign other-ca.pem other.key 99 other.pem"
    )
    for name in ("soon", "other"):
        host.write(f"/root/{name}{suffix}.pem", master.read(f"/root/{name}.pem"))


def _cases(name: str) -> list[tampers.Case]:
    return [case for case in tampers.cases("logstash") if (case.host or "web1") == name]


@pytest.mark.parametrize("name", ["web1", "logs1"])
def test_every_case_is_seen_exactly(breakable: Site, name: str) -> None:
    host, cases = getattr(breakable, name), _cases(name)
    breakable.forget(host)
    found = runs.look_after_each(host, cases, "logstash")
    wrong = {case.name: found[case.name] for case in cases if set(found[case.name]) != case.drifts}
    assert not wrong
    assert found[""] == {}, "the host was not put back"


@pytest.mark.parametrize("name", ["web1", "logs1"])
def test_one_run_heals_what_a_state_can(breakable: Site, name: str) -> None:
    host = getattr(breakable, name)
    cases = [case for case in _cases(name) if not case.needs_a_person]
    alone = [case for case in cases if case.alone]
    for together in ([case for case in cases if not case.alone], *([case] for case in alone)):
        runs.shell(host, "\n".join(case.command for case in together))
        run = breakable.apply(host)
        assert run.controls >= set().union(*(case.of_family for case in together))
        host.run("/root/restart-logs")
        assert not breakable.differing(host)
    assert not breakable.apply(host).changes


def test_the_suite_for_users_sees_what_is_broken(breakable: Site) -> None:
    outside.sees(breakable.web1, "logstash", logs1=breakable.logs1)
    for host in (breakable.web1, breakable.logs1):
        becomes(lambda host=host: not outside.failed(outside.judged(host, ["logstash"])), 60)


def _fingerprint(host: Host) -> list[str]:
    """What a run could change, without what the shipper notes each second."""
    return [line for line in runs.fingerprint(host).splitlines() if STATE not in line]


def test_bad_settings_stop_the_run_before_anything_is_touched(shipping: Site) -> None:
    host = shipping.web1
    before = _fingerprint(host)
    wrong: dict[str, dict[str, Any]] = {
        "hardening:logstash:mask": {"mask": ["(no group"]},
        "hardening:logstash:datasets": {"datasets": ["journall"]},
        "hardening:logstash:journal_size": {"journal_size": 100_000_000},
        "hardening:logstash:servers": {"servers": [{"host": "no-such-name.invalid"}]},
        "hardening:logstash:certificate": {"private_key": "x", "certificate": ""},
    }
    for where, settings in wrong.items():
        shipping.pillar(**settings)
        said = shipping.salt(host).salt_call("state.apply", "hardening.logstash").value
        assert where in str(said)
    assert _fingerprint(host) == before
    shipping.pillar()


def test_a_line_under_another_name_is_kept_and_flagged(shipping: Site) -> None:
    """The last test: it stays drift for a day."""
    server, own = shipping.logs1, ["-cert", f"{FOLDER}/host.pem", "-key", f"{FOLDER}/host.key"]
    assert "2 rsp" in _answers(shipping.web2, server, PORTS["web2"], *own, then="syslog")
    (line,) = shipping.lines(shipping.web2, "another name")
    assert (line["from"], line["flags"]) == ("web2", ["host"])
    becomes(lambda: "LOG-104" in shipping.differing(server), 10)
    assert "web2" in shipping.differing(server)["LOG-104"]
