"""rocksalt.nrpe.certificates and authority: who signs what, and what is believed."""

from __future__ import annotations

import datetime as dt
import subprocess

import nrpe_hosts
import pytest
from cryptography import x509
from nrpe_hosts import NOW

from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.nrpe import authority, certificates


@pytest.fixture
def own(host):
    authority.make(host, "monitoring", 3650, NOW)
    return authority.Authority(host)


def request(name="web1", address="10.0.0.7", key=None):
    return certificates.request(key or certificates.new_key(), name, address)


def test_an_authority_is_made_once(host, own):
    assert authority.make(host, "other", 10, NOW) is False
    assert authority.Authority(host).fingerprint == own.fingerprint
    assert host.attributes(f"{authority.FOLDER}/ca.key").mode == "0600"
    assert host.attributes(authority.FOLDER).mode == "0700"
    assert list(certificates.authority_problems(own.certificate, "it")) == []
    limits = own.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (limits.critical, limits.value.ca, limits.value.path_length) == (True, True, 0)
    assert certificates.days_left(own.certificate, NOW) == 3650


@pytest.mark.parametrize("name", ["ca.key", "ca.pem"])
def test_half_an_authority_is_not_made_anew(host, own, name):
    host.path(f"{authority.FOLDER}/{name}").unlink()
    with pytest.raises(Refused, match="alone: put the other back from a backup"):
        authority.make(host, "monitoring", 10, NOW)
    with pytest.raises(Refused, match="there is no authority in /etc/rocksalt/monitoring-ca yet"):
        authority.Authority(host)


def test_a_key_of_another_authority(host, own):
    host.put(f"{authority.FOLDER}/ca.key", certificates.key_pem(certificates.new_key()))
    with pytest.raises(Refused, match=r"ca\.key is not the key of"):
        authority.Authority(host)


def test_a_server(own):
    key = certificates.new_key()
    made = own.server(request(key=key), "web1", 90, NOW)
    assert certificates.names(made) == ["web1", "10.0.0.7"]
    assert certificates.usages(made) == ["server"]
    assert certificates.days_left(made, NOW) == 90
    assert certificates.fits(made, key)
    assert certificates.server_problems([made], own.certificate, "it", NOW) == []
    assert list(certificates.authority_problems(made, "it")) == ["it: is no certificate of an "
    "authority (CA:TRUE)", "it: may not sign certificates by its key usage"]  # fmt: skip
    (entry,) = own.issued()
    assert (entry.role, entry.name, entry.address) == ("server", "web1", "10.0.0.7")
    assert entry.sha256 == certificates.fingerprint(made)
    assert entry.serial == certificates.serial(made)


def test_a_client(own):
    made = own.client(certificates.new_key().public_key(), "icinga1", 30, NOW)
    assert certificates.usages(made) == ["client"]
    found = certificates.server_problems([made], own.certificate, "it", NOW)
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


def test_a_damaged_list(host, own):
    host.put(f"{authority.FOLDER}/issued.jsonl", "{}\n")
    with pytest.raises(Refused, match=r"issued\.jsonl is damaged"):
        own.issued()


def test_a_name_that_is_too_long(own):
    with pytest.raises(Refused, match="is too long for a certificate"):
        own.client(certificates.new_key().public_key(), "x" * 65, 5, NOW)


def test_those_between(host):
    """A chain is believed in its order and only with all its members."""
    root, root_key = nrpe_hosts.signed(name="root", is_ca=True)
    middle, middle_key = issued_by(root, root_key, "middle", is_ca=True)
    leaf, _ = issued_by(middle, middle_key, "web1")
    assert certificates.server_problems([leaf, middle], root, "it", NOW) == []
    for chain in ([leaf], [middle, leaf], [leaf, root]):
        assert certificates.server_problems(chain, root, "it", NOW)
    false, false_key = issued_by(root, root_key, "web2")
    forged, _ = issued_by(false, false_key, "web1")
    assert certificates.server_problems([forged, false], root, "it", NOW) == [
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
