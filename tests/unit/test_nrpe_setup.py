"""rocksalt.nrpe.setup, monitors, commands, thresholds and config: settings into texts."""

from __future__ import annotations

import datetime as dt
import shlex
import subprocess

import nrpe_hosts
import pytest
from nrpe_hosts import NOW

from rocksalt import nrpe, settings
from rocksalt.errors import InvalidSettings
from rocksalt.nrpe import commands, config, monitors, setup, thresholds
from rocksalt.pki import certificates


@pytest.fixture
def problems(shipped):
    def call(own=None, **pillar) -> list[str]:
        return setup.problems(nrpe_hosts.baseline(shipped, nrpe=own or {}, **pillar), "web1")

    return call


@pytest.fixture
def unheard(shipped, problems):
    """What keeps monitoring hosts out; it stops no run."""

    def call(own=None, **pillar) -> list[str]:
        assert problems(own, **pillar) == []
        return setup.Setup(nrpe_hosts.baseline(shipped, nrpe=own or {}, **pillar), "web1").unheard

    return call


def pem(**how) -> tuple[str, str]:
    found, key = nrpe_hosts.signed(**how)
    return certificates.pem(found), certificates.key_pem(key)


def given(**other) -> dict[str, str]:
    certificate, key = nrpe_hosts.server()
    return {"ca": nrpe_hosts.ca().text, "certificate": certificate, "private_key": key, **other}


def by_ca(**how) -> dict[str, str]:
    certificate, key = pem(issuer=nrpe_hosts.ca(), **how)
    return given(certificate=certificate, private_key=key)


def test_the_defaults_are_right(problems, shipped):
    assert problems() == []
    assert problems(given()) == []
    assert setup.problems(settings.resolve(shipped, {}, {}, "web1"), "web1") == []


ADDRESSES = {
    "no address": (
        {"address": "10.0.0"},
        "hardening:nrpe:address: '10.0.0' is no address such as 10.0.0.7",
    ),
    "every address": ({"address": "0.0.0.0"}, "0.0.0.0 is every address of this host"),
    "every address of IPv6": ({"address": "::"}, ":: is every address of this host"),
    "another version": (
        {"address": "2001:db8::7"},
        "2001:db8::7 is of another version of IP than all hardening:nrpe:monitors",
    ),
}
MONITORS = {
    "a name that is none": (
        {"monitors": ["monitorng"]},
        "hardening:nrpe:monitors: 'monitorng' is neither in hardening:networks nor a network such "
        "as 10.0.0.5/32; did you mean 'monitoring'?",
    ),
    "host bits": ({"monitors": ["10.0.0.5/8"]}, "'10.0.0.5/8' is neither in hardening:networks"),
    "everybody": ({"monitors": ["public"]}, "'public' is 0.0.0.0/0, nearly everybody"),
    "half of everybody": ({"monitors": ["128.0.0.0/1"]}, "nearly everybody"),
    "half of IPv6": ({"monitors": ["2000::/3"]}, "nearly everybody"),
}
COMMANDS = {
    "crossing thresholds": (
        {"commands": {"check_load": {"plugin": "check_load", "warning": "8,6,20"}}},
        "hardening:nrpe:commands:check_load: warning '20' is worse than critical '8'",
    ),
    "crossing thresholds of ours": (
        {"commands": {"check_luks": {"plugin": "check_luks", "warning": "critical"}}},
        "hardening:nrpe:commands:check_luks: warning 'critical' is worse than critical 'high'",
    ),
    "no severity": (
        {"commands": {"check_luks": {"plugin": "check_luks", "critical": "5"}}},
        "'5' is no severity; write one of low, medium, high, critical",
    ),
    "a name with a bracket": (
        {"commands": {"a]=b": {"plugin": "check_x"}}},
        "'a]=b' is no name of a command",
    ),
    "a name of NRPE's own": (
        {"commands": {"_NRPE_CHECK": {"plugin": "check_x"}}},
        "'_NRPE_CHECK' is no name",
    ),
    "a line end": (
        {"commands": {"x": {"plugin": "check_x", "arguments": ["a\nb"]}}},
        "hardening:nrpe:commands:x: has a line end",
    ),
    "too long": (
        {"commands": {"x": {"plugin": "check_x", "arguments": ["a" * 2000]}}},
        "hardening:nrpe:commands:x: is longer than 2000 bytes",
    ),
    "a path that goes back": (
        {"commands": {"x": {"plugin": "/usr/lib/../../tmp/x"}}},
        "hardening:nrpe:commands:x:plugin: '/usr/lib/../../tmp/x' needs a path without",
    ),
}
CERTIFICATES = {
    "no certificate": (
        given(certificate="no"),
        "hardening:nrpe:certificate: is no certificate in PEM, which begins with",
    ),
    "no authority": (given(ca="no"), "hardening:nrpe:ca: is no certificate in PEM"),
    "two authorities": (
        given(ca=nrpe_hosts.ca().text * 2),
        "hardening:nrpe:ca: has 2 certificates; each would be believed, so name one",
    ),
    "no key": (given(private_key="no"), "hardening:nrpe:private_key: is no private key in PEM"),
    "another key": (
        given(private_key=pem()[1]),
        "hardening:nrpe:private_key: is not the key of hardening:nrpe:certificate",
    ),
    "a key alone": (
        {"private_key": pem()[1]},
        "hardening:nrpe:certificate: is missing, for there is hardening:nrpe:private_key",
    ),
    "no authority beside it": (
        given(ca=""),
        "hardening:nrpe:ca: is missing, for there is hardening:nrpe:certificate",
    ),
    "for a client": (by_ca(usage=True), "certificate: is for client, not for a server"),
    "a weak key": (
        by_ca(key=nrpe_hosts.weak_key("rsa")),
        "certificate: has an RSA key of 1024 bits; 2048 are the least",
    ),
    "a weak curve": (
        by_ca(key=nrpe_hosts.weak_key("ec")),
        "certificate: has an EC key of 192 bits; 256 are the least",
    ),
    "another authority": (
        given(ca=nrpe_hosts.ca("other").text),
        "hardening:nrpe:certificate: web1 was not signed by other",
    ),
    "an authority that is none": (
        given(ca=nrpe_hosts.server()[0]),
        "hardening:nrpe:ca: is no certificate of an authority (CA:TRUE)",
    ),
}
WRONG = {**ADDRESSES, **MONITORS, **COMMANDS, **CERTIFICATES}


@pytest.mark.parametrize("name", WRONG)
def test_contradictions(problems, name):
    own, words = WRONG[name]
    found = problems(own)
    assert any(words in problem for problem in found), found
    assert not any("PRIVATE KEY" in problem for problem in found)


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"address": "web1.example"}, "hardening:nrpe:address: 'web1.example' does not match"),
        ({"port": 80}, "hardening:nrpe:port: 80 is less than 1024"),
        ({"tls_minimum": "1.1"}, "hardening:nrpe:tls_minimum: '1.1' is not known"),
        (
            {"commands": {"x": {"plugin": "check_x -w 5"}}},
            "hardening:nrpe:commands:x:plugin: 'check_x -w 5' does not match",
        ),
        ({"commands": {"x": {}}}, "hardening:nrpe:commands:x:plugin: is missing"),
        ({"private_key": 5}, "hardening:nrpe:private_key: *** is not a string"),
    ],
)
def test_what_the_schema_refuses(shipped, own, words):
    with pytest.raises(InvalidSettings) as caught:
        nrpe_hosts.baseline(shipped, nrpe=own)
    assert words in str(caught.value)


# The packet filter --------------------------------------------------------------------------------


def test_the_packet_filter_lets_nobody_in(unheard):
    (found,) = unheard(firewall={"allow": {"nrpe": []}})
    assert found == (
        "hardening:firewall:allow: does not let 10.79.0.9/32 in at tcp/5666, though "
        "hardening:nrpe:monitors names them; write nrpe: [monitoring] there"
    )


def test_the_packet_filter_knows_another_port(unheard):
    first, second = unheard({"port": 5667})
    assert first.startswith("hardening:firewall:services:nrpe:tcp: lacks 5667, on which")
    assert "in at tcp/5667" in second
    assert unheard({"port": 5667}, firewall={"services": {"nrpe": {"tcp": [5667]}}}) == []


@pytest.mark.parametrize(
    "firewall",
    [
        {"enabled": False, "allow": {"nrpe": []}},
        {"allow": {"nrpe": ["wide"]}},
        {"allow": {"nrpe": [], "mine": ["monitoring"]}, "services": {"mine": {"tcp": [5666]}}},
        {
            "allow": {"nrpe": []},
            "raw_rules": {"ipv4": {"input": ["-s 10.79.0.9 -p tcp --dport 5666 -j ACCEPT"]}},
        },
    ],
)
def test_the_packet_filter_lets_them_in_some_other_way(unheard, firewall):
    networks = {"wide": ["10.79.0.0/24"]}
    assert unheard(firewall=firewall, networks=networks) == []


def test_a_network_that_was_meant_for_something_else(shipped, problems):
    """A site that knows nothing of this family is not stopped by its default."""
    wide = {"networks": {"monitoring": ["0.0.0.0/0"]}}
    assert problems(**wide) == []
    found = setup.Setup(nrpe_hosts.baseline(shipped, **wide), "web1")
    assert found.monitors == [] and "nearly everybody" in found.too_wide[0]
    (said,) = problems({"monitors": ["monitoring"]}, **wide)
    assert "nearly everybody" in said


TIMES = {
    "expired": (by_ca(end=dt.timedelta(minutes=-5)), "hardening:nrpe:certificate: expired on "),
    "not yet": (by_ca(begin=dt.timedelta(days=2)), "certificate: is not valid before "),
    "an expired authority": (
        {"ca": pem(name="old", is_ca=True, end=dt.timedelta(minutes=-5))[0]},
        "hardening:nrpe:ca: expired on ",
    ),
}


@pytest.mark.parametrize("name", TIMES)
def test_what_the_time_makes_wrong_stops_nobody_else(shipped, host, problems, name):
    own, words = TIMES[name]
    assert problems(own) == []
    found = setup.Setup(nrpe_hosts.baseline(shipped, nrpe=own), "web1")
    (said,) = setup.outdated(found, NOW, host)
    assert words in said
    for path, text in found.given.items():
        host.put(path, text)
    assert list(setup.outdated(found, NOW, host)) == [], "what ran out in use is drift"


def test_networks_of_both_versions(shipped):
    networks = {"monitoring": ["10.79.0.9/32", "2001:db8::/64"]}
    baseline = nrpe_hosts.baseline(shipped, networks=networks)
    found = monitors.networks(baseline, ["monitoring", "192.0.2.0/24", "monitoring", "logs"])
    assert list(map(str, found)) == ["10.79.0.9/32", "2001:db8::/64", "192.0.2.0/24"]
    assert setup.Setup(baseline, "web1").allowed("10.79.0.2") == [
        *("10.79.0.9", "2001:db8::/64", "10.79.0.2")
    ]
    (shut,) = monitors.kept_out(baseline, found[2:], 5666)
    assert str(shut) == "192.0.2.0/24"
    (shut,) = monitors.kept_out(
        nrpe_hosts.baseline(shipped, networks={"monitoring": ["10.79.0.9/32"]}), found[1:2], 5666
    )
    assert shut.version == 6


# Commands -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ({"plugin": "check_x"}, ["/usr/lib/nagios/plugins/check_x"]),
        ({"plugin": "/opt/x/check_y", "warning": "5"}, ["/opt/x/check_y", "-w", "5"]),
        (
            {"plugin": "check_x", "critical": "1 2", "arguments": ["it's", "$HOME", "`id`", "a;b"]},
            *([["/usr/lib/nagios/plugins/check_x", "-c", "1 2", "it's", "$HOME", "`id`", "a;b"]]),
        ),
        (
            {"plugin": "check_luks"},
            ["/usr/lib/nagios/plugins/check_luks", "--max-age", "700"],
        ),
        (
            {"plugin": "check_luks", "arguments": ["--max-age=5"]},
            ["/usr/lib/nagios/plugins/check_luks", "--max-age=5"],
        ),
        (
            {"plugin": "/opt/site/check_luks", "warning": "5", "critical": "9"},
            ["/opt/site/check_luks", "-w", "5", "-c", "9"],
        ),
    ],
)
def test_a_shell_gets_the_words_that_were_meant(described, words):
    line = commands.line(described, 700)
    assert shlex.split(line.replace("$$", "$")) == words
    assert "$" not in line.replace("$$", "")
    shell = line.replace("$$", "$").replace(words[0], "printf '%s\\n'", 1)
    ran = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == (words[1:] or [""])


def test_a_plugin_of_a_site_with_one_of_our_names(problems):
    own = {"plugin": "/opt/site/check_luks", "warning": "5", "critical": "9"}
    assert problems({"commands": {"x": own}}) == []


def test_how_old_a_report_may_become(shipped):
    baseline = nrpe_hosts.baseline(shipped, drift={"interval": 10, "jitter": 60})
    assert setup.Setup(baseline, "web1").report_age == 1560


# Thresholds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plugin", "warning", "critical", "crosses"),
    [
        ("check_disk", "10%", "5%", False),
        ("check_disk", "5%", "10%", True),
        ("check_disk", "500", "10%", False),
        ("check_swap", "20", "40", True),
        ("check_procs", "5", "10", False),
        ("check_procs", "10", "5", True),
        ("check_load", "8,6,4", "16,12,8", False),
        ("check_load", "8,6,4", "16,5,8", True),
        ("check_ping", "100.0,20%", "500.0,60%", False),
        ("check_ping", "100.0,60%", "500.0,20%", True),
        ("check_procs", "2:10", "1:20", False),
        ("check_procs", "1:20", "2:10", True),
        ("check_anything", "10:", "5:", False),
        ("check_anything", "5:", "10:", True),
        ("check_anything", "~:5", "~:9", False),
        ("check_anything", "~:9", "~:5", True),
        ("check_anything", "@1:5", "@2:4", False),
        ("check_anything", "@2:4", "@1:5", True),
        ("check_anything", "@2:4", "1:5", False),
        ("check_anything", "9", "5", False),
        ("check_anything", "a", "b", False),
        ("check_salt_drift", "low", "high", False),
        ("check_salt_drift", "high", "high", False),
        ("check_ossec", "critical", "low", True),
    ],
)
def test_thresholds_that_cross(plugin, warning, critical, crosses):
    assert bool(thresholds.crossing(plugin, warning, critical)) is crosses


# Texts --------------------------------------------------------------------------------------------


def text() -> str:
    own = {"port": 5666, "timeout": 60, "tls_minimum": "1.3"}
    return config.render(own, "10.0.0.7", ["10.0.0.1", "::1"], {"b": "/b", "a": "/a -w '='"})


def test_rendered_and_read_again():
    found = config.parse(text())
    assert len(found) == len(dict(found)), "no option stands twice"
    assert config.effective(text())["command[a]"] == "/a -w '='"
    assert config.effective(text())["ssl_version"] == "TLSv1.3+"
    assert text().startswith(config.HEADER)
    assert max(len(line) for line in text().splitlines()) < 2000


def test_as_nrpe_reads_lines():
    odd = " \n#a=b\n  c = d \ne=\n=f\ng\nh=i=j\nh=k\n"
    assert config.parse(odd) == [("c ", " d"), ("h", "i=j"), ("h", "k")]
    assert config.effective(odd)["h"] == "k"


def test_a_trial_hears_this_host_alone():
    found = config.effective(config.trial(text(), "127.0.0.1", 40000))
    wanted = {
        **config.effective(text()),
        "server_address": "127.0.0.1",
        "server_port": "40000",
        "allowed_hosts": "127.0.0.1",
    }
    assert found == wanted


def test_the_drop_in():
    lines = config.drop_in().splitlines()
    assert "ExecStart=" in lines, "the distribution's command takes options from a file"
    assert f"ExecStart={nrpe.PROGRAM} -c {nrpe.CONFIG} -f" in lines
    assert "Restart=on-failure" in lines
    assert "After=network-online.target" in lines
    assert {f"{key}={value}" for key, value in config.SANDBOX.items()} <= {*lines}
