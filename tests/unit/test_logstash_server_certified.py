"""rocksalt.logstash.certified and installing: whose certificates are, and how they come."""

from __future__ import annotations

import datetime as dt
import json
import os

import logstash_servers as servers
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from logstash_hosts import NOW, stamp
from logstash_servers import ADDRESS, NAME, USER

from rocksalt import logstash, permissions
from rocksalt.backup.errors import BackupError
from rocksalt.errors import Refused
from rocksalt.logstash import certified, installing, roles, server
from rocksalt.nrpe import tls
from rocksalt.pki import authority, certificates, held
from rocksalt.transaction import Transaction

IDS = {"LOG-008", "LOG-009", "LOG-010"}
ASK = "bring one from the master: salt-run logs.enrol {}"
SHIPS = {"logstash": {**servers.PILLAR["logstash"], "receiver": {}}}
"""The pillar of a host that only ships."""


@pytest.fixture
def shipper(shipped, host):
    """A host that ships, with true certificates."""
    own = servers.signed("web1")
    host.put(logstash.AUTHORITY, servers.ca().text)
    host.put(logstash.CERTIFICATE, own[0])
    host.put(logstash.KEY, own[1], 0o600)
    host.path(logstash.FOLDER).chmod(0o755)
    return lambda **more: servers.comparison(shipped, host, SHIPS, "web1", **more)


@pytest.fixture
def log_server(shipped, host, monkeypatch):
    monkeypatch.setattr(tls, "answers_in", lambda *_: True)
    servers.good(shipped, host)
    return lambda **more: servers.comparison(shipped, host, **more)


def both(name: str = "logs1", *names: str) -> tuple[str, str]:
    """A certificate for a server and a client, as another authority may sign one."""
    above, key = servers.ca("site"), certificates.new_key()
    usages = x509.ExtendedKeyUsage([*certificates.USAGES.values()])
    made = (
        x509.CertificateBuilder()
        .subject_name(certificates.subject(name))
        .issuer_name(above.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - dt.timedelta(hours=1))
        .not_valid_after(NOW + dt.timedelta(days=100))
        .add_extension(x509.BasicConstraints(False, None), critical=True)
        .add_extension(usages, critical=True)
        .add_extension(certificates.alternative(name, *names), critical=False)
        .sign(above._key, hashes.SHA256())
    )
    return certificates.pem(made), certificates.key_pem(key)


# What is seen -------------------------------------------------------------------------------------


def test_a_good_log_server(log_server):
    assert servers.differing(log_server(), IDS) == {}


def test_a_good_shipper(shipper):
    assert servers.differing(shipper(), IDS) == {}


def put(path, text):
    return lambda host: host.path(path).write_text(text) and None


@pytest.mark.parametrize(
    ("change", "drifts"),
    [
        (
            lambda host: host.path(logstash.KEY).unlink(),
            {"LOG-008": f"{logstash.KEY} does not exist; {ASK.format('web1')}"},
        ),
        (
            put(logstash.KEY, certificates.key_pem(certificates.new_key())),
            {"LOG-008": f"{logstash.KEY} is not the key of {logstash.CERTIFICATE}; "},
        ),
        (
            lambda host: put_pair(host, servers.signed("web2")),
            {"LOG-008": f"{logstash.CERTIFICATE} is for web2, and log servers wait for web1; "},
        ),
        (
            lambda host: put_pair(host, servers.signed("web1", ADDRESS, by="other")),
            {"LOG-008": f"{logstash.CERTIFICATE}: is for server, not for a client; "},
        ),
        (
            put(logstash.AUTHORITY, servers.ca("x").text),
            {"LOG-008": "web1 was not signed by x; it needs the certificates between it"},
        ),
        (
            lambda host: put_pair(host, servers.signed("web1", days=29)),
            {
                "LOG-009": f"the certificate of the shipper ends on "
                f"{NOW + dt.timedelta(days=29):%Y-%m-%d}; renew it from the master: "
                "salt-run logs.enrol web1"
            },
        ),
        (lambda host: put_pair(host, servers.signed("web1", days=30)), {}),
        (
            lambda host: says(host, 29),
            {
                "LOG-009": f"the certificate of the log server that takes the lines ends on "
                f"{NOW + dt.timedelta(days=29):%Y-%m-%d}"
            },
        ),
        (
            lambda host: host.path(logstash.KEY).chmod(0o644),
            {"LOG-010": f"{logstash.KEY} is root:root 0644, expected root:root 0600"},
        ),
        (
            lambda host: host.path(logstash.FOLDER).chmod(0o777),
            {"LOG-010": f"{logstash.FOLDER} is root:root 0777, expected root:root 0755"},
        ),
        (
            lambda host: host.put(logstash.NEXT_KEY, mode=0o640),
            {"LOG-010": f"{logstash.NEXT_KEY} is root:root 0640, expected root:root 0600"},
        ),
    ],
)
def test_drift(shipper, host, change, drifts):
    change(host)
    found = servers.differing(shipper(), IDS)
    assert found.keys() == drifts.keys()
    for identifier, words in drifts.items():
        assert words in found[identifier]


def put_pair(host, pair):
    host.put(logstash.CERTIFICATE, pair[0])
    host.put(logstash.KEY, pair[1], 0o600)


def says(host, days):
    """What the shipper says of the log server's certificate."""
    host.put(logstash.STATUS, json.dumps({"server_expires": stamp(-days * 86400 - 60)}))


def test_the_end_of_a_log_server(log_server, host):
    pair = servers.signed("logs1", NAME, ADDRESS, days=5)
    host.put(logstash.SERVER_CERTIFICATE, pair[0])
    host.put(logstash.SERVER_KEY, pair[1], 0o640)
    end = f"{NOW + dt.timedelta(days=5):%Y-%m-%d}"
    assert servers.differing(log_server(), IDS) == {
        "LOG-009": f"the certificate of the log server on this host ends on {end}; renew it from "
        "the master: salt-run logs.enrol logs1"
    }


def test_the_key_of_a_log_server(log_server, host):
    host.path(logstash.SERVER_KEY).chmod(0o644)
    host.owners[logstash.SIGNING_KEY] = "root"
    assert servers.differing(log_server(), IDS) == {
        "LOG-010": f"{logstash.SERVER_KEY} is root:{USER} 0644, expected root:{USER} 0640; "
        f"{logstash.SIGNING_KEY} is root:{USER} 0600, expected {USER}:{USER} 0600"
    }
    certified.put(host, log_server(), Transaction(host), {"LOG-010"})
    assert servers.differing(log_server(), IDS) == {}


def test_a_list_of_who_may_read_the_key(shipper, host, monkeypatch):
    there = {str(host.path(logstash.KEY)): ["system.posix_acl_access", "user.x"]}
    monkeypatch.setattr(
        permissions.os, "listxattr", lambda path, follow_symlinks: there.get(str(path), [])
    )
    monkeypatch.setattr(
        permissions.os, "removexattr", lambda path, name: there[os.readlink(path)].remove(name)
    )
    assert servers.differing(shipper(), IDS) == {
        "LOG-010": f"{logstash.KEY} is root:root 0600 and more by an ACL, expected root:root 0600"
    }
    certified.put(host, shipper(), Transaction(host), {"LOG-010"})
    assert there == {str(host.path(logstash.KEY)): ["user.x"]}


# By the pillar ------------------------------------------------------------------------------------


def test_a_pillar_that_brings_them(shipper, host):
    certificate, key = both("web1")
    own = {"ca": servers.ca("site").text, "certificate": certificate, "private_key": key}
    found = servers.differing(shipper(logstash=own), IDS)
    assert f"{logstash.CERTIFICATE} is not what the pillar gives" in found["LOG-008"]
    assert shipper(logstash=own).seen()["LOG-008"].remedy == ""
    change = Transaction(host)
    before = host.read(logstash.KEY)
    certified.put(host, shipper(logstash=own), change, {"LOG-008"})
    assert servers.differing(shipper(logstash=own), IDS) == {}
    assert host.access(logstash.KEY) == "root:root 0600"
    change.undo()
    assert host.read(logstash.KEY) == before


def test_a_pillar_that_brings_a_certificate_for_the_key_of_the_host(shipper, host):
    asked = installing.request(shipper())["host"]
    signed = servers.ca().member(asked, "web1", 90, NOW)
    own = {"ca": servers.ca().text, "certificate": certificates.pem(signed)}
    new = host.read(logstash.NEXT_KEY)
    certified.put(host, shipper(logstash=own), Transaction(host), {"LOG-008"})
    assert (host.read(logstash.KEY), host.read(logstash.NEXT_KEY)) == (new, None)
    assert servers.differing(shipper(logstash=own), IDS) == {}
    other = {**own, "certificate": servers.signed("web1")[0]}
    with pytest.raises(Refused) as caught:
        certified.put(host, shipper(logstash=other), Transaction(host), {"LOG-008"})
    assert str(caught.value) == (
        "hardening:logstash:certificate: the certificate is for a key that this host does not "
        "have: ask it for a request (logstash.request), or give hardening:logstash:private_key"
    )


def test_one_certificate_for_both(log_server, host):
    certificate, key = both("logs1", NAME)
    own = {"ca": servers.ca("site").text, "certificate": certificate, "private_key": key}
    it = log_server(logstash=own)
    assert it.seen()["LOG-105"].remedy == ""
    certified.put(host, it, Transaction(host), {"LOG-008", "LOG-105"})
    assert host.read(logstash.SERVER_CERTIFICATE) == host.read(logstash.CERTIFICATE)
    assert host.read(logstash.SERVER_KEY) == host.read(logstash.KEY)
    assert host.access(logstash.SERVER_KEY) == f"root:{USER} 0640"
    assert servers.differing(log_server(logstash=own), {*IDS, "LOG-105"}) == {}


def test_a_certificate_of_the_pillar_that_is_for_clients(log_server, host):
    certificate, key = servers.signed("logs1")
    own = {"ca": servers.ca().text, "certificate": certificate, "private_key": key}
    host.path(logstash.SERVER_CERTIFICATE).unlink()
    assert servers.differing(log_server(logstash=own), {"LOG-105"}) == {
        "LOG-105": f"{logstash.SERVER_CERTIFICATE} does not exist; hardening:logstash:certificate: "
        "give one that is for a server as well, by that name"
    }


# From the master ----------------------------------------------------------------------------------


def brought(it, host, by="logs", days=90):
    """Asks, has it signed, and takes it."""
    asked = installing.request(it)
    above = servers.ca(by)
    signed = {"host": above.member(asked["host"], it.setup.minion, days, NOW)}
    if asked["server"]:
        allowed = roles.asked_for(it.setup)
        signed["server"] = above.service(asked["server"], it.setup.minion, allowed, days, NOW)
    texts = {name: certificates.pem(made) for name, made in signed.items()}
    return texts, above.text


def test_the_status_of_a_shipper(shipper, host):
    found = installing.status(shipper())
    assert (found["needed"], found["given"], found["renew"]) == (True, False, False)
    assert (found["names"], found["days_left"]) == (["web1"], 365)
    assert found["authority"] == servers.ca().fingerprint
    assert installing.status(shipper(logstash={"renew_days": 180}))["renew"] is False
    put_pair(host, servers.signed("web1", days=20))
    assert installing.status(shipper())["renew"] is True
    host.path(logstash.KEY).unlink()
    assert installing.status(shipper()) == {"needed": True, "given": False, "renew": True}
    assert installing.status(shipper(logstash={"ca": "x"}))["given"] is True


def test_the_status_of_a_log_server(log_server, host):
    found = installing.status(log_server())
    assert (found["renew"], found["server"]["names"]) == (False, ["logs1", NAME, ADDRESS])
    other = log_server(logstash={"servers": [{"host": ADDRESS, "name": "other.example.org"}]})
    assert installing.status(other)["renew"] is True, "hosts call it another name now"


def test_a_host_that_ships_nothing(shipped, host):
    it = servers.comparison(shipped, host, {"logstash": {}}, "db1")
    assert installing.status(it) == {"needed": False, "given": False, "renew": True}
    with pytest.raises(Refused, match="hardening:logstash:servers: is empty, so this host needs"):
        installing.request(it)


def test_a_new_certificate_of_a_shipper(shipper, host):
    old = host.read(logstash.KEY)
    texts, above = brought(shipper(), host)
    assert host.read(logstash.KEY) == old, "it is in use until the certificate comes"
    assert host.attributes(logstash.NEXT_KEY).mode == "0600"
    new = host.read(logstash.NEXT_KEY)
    said = installing.install(host, shipper(), texts, above)
    assert said == "installed; the shipper has it at its next connection"
    assert (host.read(logstash.KEY), host.read(logstash.NEXT_KEY)) == (new, None)
    assert host.read(logstash.CERTIFICATE) == texts["host"]
    assert host.ran == [], "nothing starts anew"
    assert servers.differing(shipper(), IDS) == {}


def test_a_log_server_whose_own_certificate_was_refused(log_server, host):
    texts, above = brought(log_server(), host)
    before = host.read(logstash.SERVER_CERTIFICATE)
    host.ran.clear()
    said = installing.install(host, log_server(), {"host": texts["host"]}, above)
    assert said == "installed; the shipper has it at its next connection"
    assert host.read(logstash.CERTIFICATE) == texts["host"]
    assert (host.read(logstash.SERVER_CERTIFICATE), host.ran) == (before, [])


def test_the_first_certificate_of_a_host(shipped, host):
    it = servers.comparison(shipped, host, SHIPS, "web1")
    umask = os.umask(0o077)
    try:
        installing.install(host, it, *brought(it, host))
    finally:
        os.umask(umask)
    assert host.attributes("/etc/rocksalt").mode == "0755"
    assert servers.differing(it, IDS) == {}


def test_new_certificates_of_a_log_server(log_server, host):
    texts, above = brought(log_server(), host)
    host.ran.clear()
    said = installing.install(host, log_server(), texts, above)
    assert said == "installed, and the log server runs with it"
    assert ("systemctl", "restart", logstash.RECEIVER_UNIT) in host.ran
    assert host.access(logstash.SERVER_KEY) == f"root:{USER} 0640"
    loaded = held.read(host, certified.SERVER)
    assert certificates.names(loaded.chain[0]) == ["logs1", NAME, ADDRESS]
    assert host.read(logstash.NEXT_SERVER_KEY) is None
    assert servers.differing(log_server(), {*IDS, "LOG-105"}) == {}


def test_a_log_server_that_is_not_set_up_yet(shipped, host):
    it = servers.comparison(shipped, host)
    said = installing.install(host, it, *brought(it, host))
    assert said == "installed; the log server starts with it when the baseline sets it up"
    assert host.access(logstash.SERVER_KEY) == "root:root 0600"


@pytest.mark.parametrize("error", [BackupError, ValueError, KeyError])
def test_whatever_fails_is_taken_back(log_server, host, monkeypatch, error):
    def fail(*_):
        raise error("no way")

    before = {path: host.read(path) for path in (logstash.SERVER_CERTIFICATE, logstash.KEY)}
    texts, above = brought(log_server(), host)
    monkeypatch.setattr(installing.server, "restart", fail)
    with pytest.raises(Refused, match=r"no way'?; the old certificates are back$"):
        installing.install(host, log_server(), texts, above)
    assert {path: host.read(path) for path in before} == before


def test_a_log_server_that_does_not_come_up(log_server, host, monkeypatch):
    before = {path: host.read(path) for path in (logstash.SERVER_CERTIFICATE, logstash.KEY)}
    texts, above = brought(log_server(), host)
    monkeypatch.setattr(tls, "answers_in", lambda *_: False)
    host.ran.clear()
    with pytest.raises(Refused) as caught:
        installing.install(host, log_server(), texts, above)
    assert str(caught.value) == (
        f"{logstash.RECEIVER_UNIT} does not listen on {ADDRESS} port 2601: it does not say why; "
        "the old certificates are back"
    )
    assert {path: host.read(path) for path in before} == before
    assert host.access(logstash.SERVER_KEY) == f"root:{USER} 0640"
    assert host.ran[-1] == ("systemctl", "restart", logstash.RECEIVER_UNIT)
    assert host.read(logstash.NEXT_SERVER_KEY), "it can be tried again"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda texts, above: ({"server": texts["server"]}, above),
         "there is no certificate 'host' among those that were brought"),
        (lambda texts, above: (texts, servers.ca("x").text),
         "the certificate of the shipper: logs1 was not signed by x"),
        (lambda texts, above: ({"host": texts["server"], "server": texts["host"]}, above),
         "the certificate of the shipper: is for server, not for a client"),
        (lambda texts, above: ({**texts, "host": servers.signed("logs1")[0]}, above),
         "the certificate is for a key that this host does not have"),
        (lambda texts, above: ({**texts, "host": servers.signed("web1")[0]}, above),
         "the certificate of the shipper is not for logs1"),
    ],
)  # fmt: skip
def test_what_is_brought_and_wrong(log_server, host, wrong, words):
    texts, above = brought(log_server(), host)
    before = host.read(logstash.SERVER_CERTIFICATE)
    host.ran.clear()
    with pytest.raises(Refused) as caught:
        installing.install(host, log_server(), *wrong(texts, above))
    assert words in str(caught.value)
    assert (host.read(logstash.SERVER_CERTIFICATE), host.ran) == (before, [])


def test_certificates_that_are_the_business_of_the_pillar(shipper, host):
    given = shipper(logstash={"certificate": "x", "private_key": "y"})
    with pytest.raises(Refused, match="gives private_key, so certificates are the pillar's"):
        installing.request(given)
    with pytest.raises(Refused, match="gives certificate, private_key, so certificates are"):
        installing.install(host, given, {}, "")


def test_the_lock_of_the_folder(shipper, host, monkeypatch):
    """Two that bring certificates at once wait for each other."""
    locked = []
    lock = authority.lock
    monkeypatch.setattr(
        authority, "lock", lambda host, folder: locked.append(folder) or lock(host, folder)
    )
    installing.install(host, shipper(), *brought(shipper(), host))
    assert logstash.FOLDER in locked


def test_the_units_of_a_log_server_say_that_it_is_set_up(shipped, host):
    assert server.is_set_up(host) is False
    servers.good(shipped, host)
    assert server.is_set_up(host) is True
