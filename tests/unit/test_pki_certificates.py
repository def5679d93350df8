"""rocksalt.pki.certificates and authority: who signs what, and what is believed."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import subprocess

import nrpe_hosts
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from nrpe_hosts import NOW

from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.pki import authority, certificates

FOLDER = authority.folder_of("monitoring")
PAST = dt.timedelta(minutes=-5)


@pytest.fixture
def own(host):
    authority.make(host, "monitoring", 3650, NOW, FOLDER)
    return authority.Authority(host, "monitoring")


def request(name="web1", address="10.0.0.7", key=None):
    return certificates.request(key or certificates.new_key(), name, address)


def test_an_authority_is_made_once(host, own):
    assert authority.make(host, "other", 10, NOW, FOLDER) is False
    assert authority.Authority(host, "monitoring").fingerprint == own.fingerprint
    assert host.attributes(f"{FOLDER}/ca.key").mode == "0600"
    assert host.attributes(FOLDER).mode == "0700"
    assert list(certificates.authority_problems(own.certificate, "it")) == []
    limits = own.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (limits.critical, limits.value.ca, limits.value.path_length) == (True, True, 0)
    assert certificates.days_left(own.certificate, NOW) == 3650


@pytest.mark.parametrize("name", ["ca.key", "ca.pem"])
def test_half_an_authority_is_not_made_anew(host, own, name):
    own.server(request(), "web1", 90, NOW)
    host.path(f"{FOLDER}/{name}").unlink()
    with pytest.raises(Refused, match="alone: put the other back from a backup"):
        authority.make(host, "monitoring", 10, NOW, FOLDER)
    with pytest.raises(Refused, match="there is no authority in /etc/rocksalt/monitoring-ca yet"):
        authority.Authority(host, "monitoring")


def test_a_key_of_another_authority(host, own):
    host.put(f"{FOLDER}/ca.key", certificates.key_pem(certificates.new_key()))
    with pytest.raises(Refused, match=r"ca\.key is not the key of"):
        authority.Authority(host, "monitoring")


def test_a_server(own):
    key = certificates.new_key()
    made = own.server(request(key=key), "web1", 90, NOW)
    assert certificates.names(made) == ["web1", "10.0.0.7"]
    assert certificates.usages(made) == ["server"]
    assert certificates.days_left(made, NOW) == 90
    assert certificates.fits(made, key)
    assert certificates.problems([made], own.certificate, "it", NOW) == []
    assert list(certificates.authority_problems(made, "it")) == ["it: is no certificate of an "
    "authority (CA:TRUE)", "it: may not sign certificates by its key usage"]  # fmt: skip
    (entry,) = own.issued()
    assert (entry.role, entry.name, entry.address) == ("server", "web1", "10.0.0.7")
    assert entry.sha256 == certificates.fingerprint(made)
    assert entry.serial == certificates.serial(made)


def test_a_client(own):
    made = own.client(certificates.new_key().public_key(), "icinga1", 30, NOW)
    assert certificates.usages(made) == ["client"]
    found = certificates.problems([made], own.certificate, "it", NOW)
    assert found == ["it: is for client, not for a server"]


def test_openssl_agrees(own, tmp_path):
    """The oracle: what we made verifies for its purpose, and for no other."""
    server = own.server(request(), "web1", 90, NOW)
    client = own.client(certificates.new_key().public_key(), "icinga1", 30, NOW)
    (tmp_path / "ca.pem").write_text(own.text)
    for made, good, bad in ((server, "sslserver", "sslclient"), (client, "sslclient", "sslserver")):
        (tmp_path / "it.pem").write_text(certificates.pem(made))
        for purpose, status in ((good, 0), (bad, 2)):
            command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile"]
            ran = subprocess.run(
                [*command, tmp_path / "ca.pem", tmp_path / "it.pem"], capture_output=True
            )
            assert ran.returncode == status, ran.stderr


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (request("web2"), "the request of web1 is for 'web2', not for the minion"),
        (request(address="127.0.0.1"), "127.0.0.1, which is no address of a host"),
        (request(address="0.0.0.0"), "0.0.0.0, which is no address of a host"),
        (request(address=""), "the request of web1 is for web1; it needs one address"),
        ("nothing", "the request of web1: is no certificate request in PEM"),
    ],
)
def test_requests_that_are_refused(own, asked, words):
    with pytest.raises(Refused) as caught:
        own.server(asked, "web1", 90, NOW)
    assert words in str(caught.value)
    assert own.issued() == []


def test_a_request_for_more_names(own):
    key = certificates.new_key()
    names = x509.SubjectAlternativeName(
        [x509.DNSName("web1"), x509.DNSName("web2"), *certificates.alternative("a", "10.0.0.7")]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(certificates.subject("web1"))
    asked = builder.add_extension(names, critical=False).sign(key, certificates.hashes.SHA256())
    with pytest.raises(Refused, match="it needs one address"):
        own.server(certificates.pem(asked), "web1", 90, NOW)


def test_an_address_belongs_to_one_minion(own):
    own.server(request("web2"), "web2", 90, NOW)
    with pytest.raises(Refused, match=r"for which web2 has a certificate until .*forget web2"):
        own.server(request(), "web1", 90, NOW)
    own.server(request("web2"), "web2", 90, NOW)
    later = NOW + dt.timedelta(days=91)
    assert own.server(request(), "web1", 90, later)
    assert len(own.forget("web2", NOW)) == 2
    assert own.forget("web2", NOW) == []
    assert [it.name for it in own.issued()] == ["web2", "web2", "web1"]


@pytest.mark.parametrize("days", [0, -1, 3651, 99999])
def test_days(own, days):
    with pytest.raises(Refused, match=f"days: {days} is less than 1 or ends after the authority"):
        own.client(certificates.new_key().public_key(), "x", days, NOW)


def test_as_long_as_the_authority(own):
    assert own.days(NOW) == 365
    assert own.days(NOW + dt.timedelta(days=3640)) == 10


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_weak_keys_are_not_signed(own, kind):
    key = nrpe_hosts.weak_key(kind)
    asked = certificates.request(key, "web1", "10.0.0.7")
    for sign in (
        lambda: own.server(asked, "web1", 90, NOW),
        lambda: own.client(key.public_key(), "icinga1", 90, NOW),
    ):
        with pytest.raises(Refused, match="are the least"):
            sign()
    assert own.issued() == []


def test_a_minion_that_is_called_by_its_address(own):
    asked = certificates.request(certificates.new_key(), "10.0.0.7", "10.0.0.7")
    assert certificates.addresses(own.server(asked, "10.0.0.7", 90, NOW)) == ["10.0.0.7"]
    asked = certificates.request(certificates.new_key(), "10.0.0.8", "10.0.0.9")
    assert own.server(asked, "10.0.0.8", 90, NOW)


def test_two_that_ask_at_once(host, own, monkeypatch):
    """Nobody signs between the look at the list and the entry in it."""
    held = []
    look = own.issued

    def issued():
        folder = os.open(host.path(own.folder), os.O_RDONLY)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held.append("free")
        os.close(folder)
        return look()

    monkeypatch.setattr(own, "issued", issued)
    own.server(request(), "web1", 90, NOW)
    assert held == []


def test_a_making_that_was_broken_off(host, monkeypatch):
    """The key has signed nothing yet, so there is nothing to put back from a backup."""
    host.put(f"{FOLDER}/ca.key", "half")
    assert authority.make(host, "monitoring", 10, NOW, FOLDER)
    assert authority.Authority(host, "monitoring").issued() == []


def test_a_name_of_other_letters():
    with pytest.raises(Refused, match="'wéb1' has letters that a certificate cannot have"):
        certificates.alternative("wéb1")


def test_the_end_of_a_chain(host):
    """NRPE's OpenSSL believes no chain that ends in the middle."""
    root, root_key = nrpe_hosts.signed(name="root", is_ca=True)
    middle, middle_key = issued_by(root, root_key, "middle", is_ca=True)
    assert list(certificates.root_problems(root, "it")) == []
    (said,) = certificates.root_problems(middle, "it")
    assert said.startswith("it: was signed by another authority")
    old, _ = issued_by(root, root_key, "middle", is_ca=True, key=middle_key, end=PAST)
    leaf, _ = issued_by(middle, middle_key, "web1")
    (said,) = certificates.problems([leaf, old], root, "it", NOW)
    assert said.startswith("it: middle: expired on")
    assert certificates.problems([leaf, old], root, "it") == []


def test_a_damaged_list(host, own):
    host.put(f"{FOLDER}/issued.jsonl", "{}\n")
    with pytest.raises(Refused, match=r"issued\.jsonl is damaged"):
        own.issued()


def test_a_name_that_is_too_long(own):
    with pytest.raises(Refused, match="is too long for a certificate"):
        own.client(certificates.new_key().public_key(), "x" * 40 + "." + "y" * 40, 5, NOW)


def test_those_between(host):
    """A chain is believed in its order and only with all its members."""
    root, root_key = nrpe_hosts.signed(name="root", is_ca=True)
    middle, middle_key = issued_by(root, root_key, "middle", is_ca=True)
    leaf, _ = issued_by(middle, middle_key, "web1")
    assert certificates.problems([leaf, middle], root, "it", NOW) == []
    for chain in ([leaf], [middle, leaf], [leaf, root]):
        assert certificates.problems(chain, root, "it", NOW)
    false, false_key = issued_by(root, root_key, "web2")
    forged, _ = issued_by(false, false_key, "web1")
    assert certificates.problems([forged, false], root, "it", NOW) == [
        "it: web2: is no certificate of an authority (CA:TRUE)"
    ]


def issued_by(above, above_key, name, **how):
    class Issuer:
        certificate, _key = above, above_key

    return nrpe_hosts.signed(name=name, issuer=Issuer(), **how)


def test_the_lock_makes_the_folder(tmp_path):
    host = Host(str(tmp_path))
    with authority.lock(host, "/a/b"):
        assert host.attributes("/a/b").mode == "0700"


def test_a_service_of_several_names(own):
    asked = certificates.request(certificates.new_key(), "logs1", "logs.example.com", "10.0.0.9")
    made = own.service(asked, "logs1", ["logs.example.com", "10.0.0.9"], 90, NOW)
    assert certificates.names(made) == ["logs1", "logs.example.com", "10.0.0.9"]
    assert certificates.usages(made) == ["server"]
    (entry,) = own.issued()
    assert (entry.name, entry.address) == ("logs1", "logs.example.com, 10.0.0.9")
    spelled = ["LOGS.example.com.", "::ffff:10.0.0.9"]
    assert own.service(asked, "logs1", spelled, 90, NOW), "it renews its own"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("logs2", "10.0.0.9"), "is for 10.0.0.9, for which logs1 has a certificate until"),
        (("logs2", "logs.example.com"), "for logs.example.com, for which logs1 has a certificate"),
        (("logs2", "logs1"), "is for logs1, for which logs1 has a certificate until"),
        (("logs2", "web1"), "is for web1, for which web1 has a certificate until"),
        (("web1",), "is for 'web1', not for the minion"),
        (("logs2", "LOGS.Example.COM"), "is for LOGS.Example.COM, for which logs1 has a cert"),
        (("logs2", "Logs1"), "is for Logs1, for which logs1 has a certificate until"),
        (("logs2", "WEB1"), "is for WEB1, for which web1 has a certificate until"),
        (("logs2", "::ffff:10.0.0.9"), "is for ::ffff:a00:9, for which logs1 has"),
        *((("logs2", bad), "which is no address of a host") for bad in (
            "127.0.0.1", "0.0.0.0", "255.255.255.255", "169.254.1.1", "fe80::1", "::ffff:127.0.0.1",
            "224.0.0.1")),
        *((("logs2", bad), f"is for {bad!r}; a name has letters, digits, _ and - between")
          for bad in ("a, logs3", "a b", "logs.", "a..b", "a\0b", "x" * 64, "a/b")),
        (("logs2", "*.example.com"), "for *.example.com; ask for names without a star"),
        (("logs2", *(f"x{n}" for n in range(20))), "is for 21 names; 20 are the most"),
    ],
)  # fmt: skip
def test_services_that_are_refused(own, names, words):
    """No minion gets the names of another, whatever role that has."""
    first = certificates.request(certificates.new_key(), "logs1", "logs.example.com", "10.0.0.9")
    own.service(first, "logs1", ["logs.example.com", "10.0.0.9"], 90, NOW)
    own.member(certificates.request(certificates.new_key(), "web1"), "web1", 90, NOW)
    before = own.issued()
    with pytest.raises(Refused) as caught:
        asked = certificates.request(certificates.new_key(), *names)
        own.service(asked, "logs2", names, 90, NOW)
    assert words in str(caught.value)
    assert own.issued() == before


def test_a_name_that_the_pillar_does_not_have(own):
    asked = certificates.request(certificates.new_key(), "logs1", "logs.example.com", "10.0.0.9")
    with pytest.raises(Refused) as caught:
        own.service(asked, "logs1", ["logs.example.org", "10.0.0.9"], 90, NOW)
    assert str(caught.value) == (
        "the request of logs1 is for logs.example.com; its pillar, as the master renders it, has "
        "logs1, logs.example.org, 10.0.0.9"
    )
    assert own.issued() == []


def test_ids_that_tls_does_not_tell_apart(own):
    own.server(request("web1"), "web1", 90, NOW)
    with pytest.raises(Refused, match="is for WEB1, for which web1 has a certificate until"):
        own.server(request("WEB1", "10.0.0.8"), "WEB1", 90, NOW)
    with pytest.raises(Refused, match="is for Web1, for which web1 has a certificate until"):
        own.member(certificates.request(certificates.new_key(), "Web1"), "Web1", 90, NOW)


def test_a_member(own):
    key = certificates.new_key()
    made = own.member(certificates.request(key, "web1"), "web1", 90, NOW)
    assert (certificates.common_name(made), certificates.names(made)) == ("web1", ["web1"])
    assert certificates.usages(made) == ["client"]
    assert certificates.fits(made, key)
    assert certificates.problems([made], own.certificate, "it", NOW, "client") == []


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("web2",), "the request of web1 is for 'web2', not for the minion"),
        (("web1", "web2"), "the request of web1 is for web1, web2; it needs web1 alone"),
        (("web1", "10.0.0.7"), "the request of web1 is for web1, 10.0.0.7; it needs web1 alone"),
    ],
)
def test_members_that_are_refused(own, names, words):
    with pytest.raises(Refused, match=words):
        own.member(certificates.request(certificates.new_key(), *names), "web1", 90, NOW)
    assert own.issued() == []


def test_the_authorities_of_runners_are_apart(host, own):
    with pytest.raises(Refused, match=r"in /etc/rocksalt/logs-ca yet: salt-run logs\.authority"):
        authority.Authority(host, "logs")


@pytest.mark.parametrize(
    "name", ["web1,evil", "*", "web1 x", "web1\n", "*.example.org", "web1/evil"]
)
def test_a_name_that_programs_read_differently_gets_nothing(own, name):
    """rsyslog takes a name for over at a comma."""
    key = certificates.new_key()
    with pytest.raises(Refused, match="a name has letters, digits, _ and - between its dots"):
        own.client(key.public_key(), name, 5, NOW)
    with pytest.raises(Refused, match="a name has letters, digits, _ and - between its dots"):
        own.outsider(key.public_key(), name, 5, NOW)
    assert own.issued() == []


def test_what_is_no_minion_gets_no_minions_name(own):
    own.server(request("logs1"), "logs1", 90, NOW)
    key = certificates.new_key().public_key()
    with pytest.raises(Refused, match="for which logs1 has a certificate until"):
        own.outsider(key, "logs1", 90, NOW)
    for _ in range(2):
        own.outsider(key, "printer", 90, NOW)
    with pytest.raises(Refused, match="for which printer has a certificate until"):
        own.server(request("printer", "10.0.0.8"), "printer", 90, NOW)


@pytest.mark.parametrize("oid", ["2.5.29.17", "2.5.29.37"])
def test_a_request_that_is_malformed_inside(oid):
    broken = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), b"\x30\x03garbage")
    made = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(certificates.subject("web1"))
        .add_extension(broken, critical=False)
        .sign(certificates.new_key(), hashes.SHA256())
    )
    with pytest.raises(Refused, match="is no certificate request in PEM"):
        certificates.load_request(certificates.pem(made), "it")
