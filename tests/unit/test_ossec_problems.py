"""rocksalt.ossec.problems: settings that contradict themselves stop a run before it begins."""

from __future__ import annotations

import datetime as dt

import ossec_agent
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from rocksalt.errors import Refused
from rocksalt.ossec import enrolment, repository
from rocksalt.ossec.problems import problems

ARMOUR = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n-----END PGP PUBLIC KEY BLOCK-----\n"


@pytest.fixture
def agent(host):
    host = ossec_agent.made(host)
    for folder in ("/etc", "/srv/www"):
        host.path(folder).mkdir(parents=True)
    host.put("/srv/file")
    return host


@pytest.fixture
def told(agent, shipped):
    """The problems of settings of the family, and of other parts of a pillar."""

    def call(ossec=None, minion: str = "web1", **pillar):
        it = ossec_agent.look(agent, shipped, {"ossec": ossec or {}, **pillar}, minion)
        return problems(it.declared, agent)

    return call


def certificate(days: int) -> tuple[str, str]:
    """One that has so many days left, and its key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "web1")])
    end = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=days)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(end - dt.timedelta(days=400))
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return made.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def test_the_defaults_and_the_usual_settings_are_fine(told):
    assert told() == []
    assert told({"servers": [], "password": ""}) == []


@pytest.mark.parametrize(
    ("ossec", "words"),
    [
        ({"servers": ["127.0.0.1"]}, "127.0.0.1 is no address of another host"),
        ({"servers": ["fe80::1%eth0"]}, "names an interface"),
        ({"password": "secret-canary\n"}, "ends with a line end, which would be sent as well"),
        ({"password": "se\ncret-canary"}, "has a character that cannot be printed"),
        ({"password": "ab"}, "has 2 bytes; OSSEC takes 3 to 32"),
        ({"password": "c" * 33}, "has 33 bytes"),
        ({"enrolment_ca": "nonsense"}, "enrolment_ca: is no certificate in PEM"),
        ({"enrolment_key": "secret-canary"}, "enrolment_certificate: is empty, though"),
        ({"directories": {"srv": {}}}, "srv: is no path that OSSEC can read"),
        ({"directories": {"/srv/a,b": {}}}, "is no path that OSSEC can read"),
        ({"directories": {"/srv/a&b": {}}}, "is no path that OSSEC can read"),
        ({"directories": {"/srv/ww": {}}}, "no such folder on this host; did you mean 'www'?"),
        ({"directories": {"/etc/": {}}}, "directories:/etc/: is the same folder as /etc"),
        ({"directories": {"/srv/file": {"realtime": True}}}, "is a file; realtime watches folders"),
        (
            {"directories": {"/srv/www": {"realtime": True, "report_changes": True}}},
            "has realtime and report_changes, which together lose alerts",
        ),
        ({"directories": {"/etc": {"report_changes": True}}}, "together lose alerts"),
        (
            {"directories": {"/etc": {"report_changes": True, "realtime": False}}},
            "report_changes would send what is in /etc/ssh/ssh_host_; add that to",
        ),
        ({"directories": {"/srv/www": {"restrict": "a<b"}}}, "restrict: has one of & < >"),
        ({"ignore": ["etc"]}, "'etc' is no path that OSSEC can read"),
        ({"ignore": ["/ETC"]}, "'/ETC' hides all of /etc, which is to be watched"),
        ({"nodiff": ["/etc/a>b"]}, "is no path that OSSEC can read"),
        ({"logs": {"var/log/x": "syslog"}}, "is no path of a log"),
        ({"logs": {"ls > x": "command"}}, "has one of & < >"),
        ({"never_ban": ["offce"]}, "'offce' is not in hardening:networks; did you mean 'office'?"),
        ({"never_ban": ["public"]}, "public is everybody"),
        ({"never_ban": ["0.0.0.0/0"]}, "0.0.0.0/0 is most of the world"),
        ({"repository": "deb https://x y main"}, "repository: does not name its key"),
        (
            {"repository": "deb [signed-by={key} trusted=yes] https://x y main"},
            "takes packages without looking at their signature",
        ),
        (
            {"repository": "deb [signed-by={key} allow-downgrade-to-insecure=1] https://x y z"},
            "takes packages without looking at their signature",
        ),
        ({"repository": "https://x"}, "is no line of sources.list"),
        ({"repository_key": "mQINB"}, "is no armoured public key"),
        ({"repository_key": ARMOUR, "repository": ""}, "repository: is empty, though"),
    ],
)
def test_what_contradicts_itself(told, ossec, words):
    found = told(ossec, networks={"office": ["198.18.5.0/24"]})
    assert any(words in fault for fault in found), found
    assert all(fault.startswith("hardening:ossec:") for fault in found)
    assert "canary" not in str(found)


def test_an_id_that_ossec_cannot_take(told):
    [fault] = told(minion="web 1")
    assert fault.startswith("hardening:ossec:agent_name: OSSEC cannot take the minion's id 'web 1'")
    assert told({"agent_name": "web1"}, minion="web 1") == []


def test_certificates_that_do_not_fit(told):
    valid, key = certificate(9)
    expired, its_key = certificate(-9)
    pair = {"enrolment_certificate": valid, "enrolment_key": key}
    assert told({**pair, "enrolment_ca": valid}) == []
    assert told({"enrolment_certificate": expired, "enrolment_key": its_key}) == []
    assert told({**pair, "enrolment_key": its_key}) == [
        "hardening:ossec:enrolment_key: is not the key of hardening:ossec:enrolment_certificate"
    ]
    assert told({**pair, "enrolment_key": "x"}) == [
        "hardening:ossec:enrolment_key: is no private key in PEM without a passphrase"
    ]


@pytest.mark.parametrize("key", ["enrolment_ca", "enrolment_certificate"])
def test_an_expired_certificate_is_missed_by_who_has_to_enrol_alone(agent, shipped, told, key):
    """It stops no family of a host that enrolled long ago."""
    expired, private = certificate(-9)
    given = {key: expired} | ({} if key == "enrolment_ca" else {"enrolment_key": private})
    assert told(given) == []
    it = ossec_agent.look(agent, shipped, {"ossec": given}).declared
    words = f"the certificate hardening:ossec:{key} expired on"
    assert words in enrolment.by_hand(it, None, enrolment.Note())
    with pytest.raises(Refused, match=words):
        enrolment.enrol(agent, it, "root:ossec 0640")
    valid = {**given, key: certificate(9)[0]}
    it = ossec_agent.look(agent, shipped, {"ossec": valid}).declared
    assert enrolment.by_hand(it, None, enrolment.Note()) == ""


def test_the_packet_filter_has_to_let_the_agent_out(told):
    denied = {"firewall": {"output": "deny"}}
    assert told(**denied) == []
    found = told({"servers": ["198.18.7.7"], "port": 1515}, **denied)
    assert found == [
        "hardening:firewall:egress: does not let this host out to 198.18.7.7, udp port 1515; "
        "name the server in hardening:networks:ossec",
        "hardening:firewall:egress: does not let this host out to 198.18.7.7, tcp port 1515; "
        "name the server in hardening:networks:ossec",
    ]
    assert told({"servers": ["198.18.7.7"]}, firewall={"output": "deny", "enabled": False}) == []


def test_the_packet_filter_has_to_leave_bans_alone(told):
    [fault] = told(firewall={"foreign": ["fail2ban"]})
    assert fault.startswith("hardening:firewall:foreign: does not name ossec")
    assert told({"active_response": False}, firewall={"foreign": ["fail2ban"]}) == []


# The repository ----------------------------------------------------------------------------------


def files(agent, shipped, **ossec):
    it = ossec_agent.look(agent, shipped, {"ossec": {"package": "ossec-hids-agent", **ossec}})
    return repository.package(it.declared), repository.files(it.declared)


def test_a_repository_is_set_up_with_its_key_alone(agent, shipped):
    assert files(agent, shipped) == ("ossec-hids-agent", {})
    package, found = files(agent, shipped, repository_key=ARMOUR)
    assert package == "ossec-hids-agent"
    assert found[repository.KEY] == ARMOUR
    assert found[repository.SOURCES].splitlines()[1] == (
        f"deb [signed-by={repository.KEY}] "
        "https://updates.atomicorp.com/channels/atomic/debian bookworm main"
    )


def test_a_site_installs_its_own_build(agent, shipped):
    assert files(agent, shipped, package="none", repository_key=ARMOUR) == ("", {})
    assert files(agent, shipped, servers=[], repository_key=ARMOUR) == ("", {})


def test_a_package_of_unknown_origin_is_drift(agent, shipped):
    it = ossec_agent.look(agent, shipped, {"ossec": {"package": "ossec-hids-agent"}})
    seen = it.seen()["OSS-016"]
    assert "hardening:ossec:repository_key is empty" in seen.reason
    it = ossec_agent.look(agent, shipped, {"ossec": {"package": "ours", "repository": ""}})
    seen = it.seen()["OSS-016"]
    assert seen.actual != it.expected()["OSS-016"] and seen.remedy == "manual"
    assert "hardening:ossec:repository is empty: ours comes from where apt" in seen.reason
    it = ossec_agent.look(agent, shipped)  # a build of one's own
    assert it.seen()["OSS-016"].actual == it.expected()["OSS-016"]


@pytest.mark.parametrize(
    ("folder", "nodiff", "sent"),
    [
        ("/etc/salt/pki/minion", None, "/etc/salt/pki"),
        ("/etc/salt/pki", None, "/etc/salt/pki"),
        ("/etc/ssl/private", [], "/etc/ssl/private"),
        ("/var/ossec/etc", None, "/var/ossec/etc/client.keys"),
        ("/home/ann", None, "/home/ann/.ssh/id_"),
        ("/etc/salt/pki/minion", ["/etc/salt/pki"], ""),
        ("/etc/ssl/private", ["/etc/ssl/private"], ""),
        ("/srv/www", [], ""),
    ],
)
def test_no_key_is_sent(agent, told, folder, nodiff, sent):
    agent.path("/home/ann/.ssh").mkdir(parents=True)
    agent.path(folder).mkdir(parents=True, exist_ok=True)
    ossec = {"directories": {folder: {"report_changes": True}}}
    found = told({**ossec, **({} if nodiff is None else {"nodiff": nodiff})})
    assert [fault.partition("what is in ")[2].partition(";")[0] for fault in found] == (
        [sent] if sent else []
    )
