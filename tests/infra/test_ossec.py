"""The OSSEC agent: whom it reports to, what it watches, and whom its responses may ban."""

from __future__ import annotations

import ipaddress
import re
import shlex
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from . import nets, units
from .asking import Look
from .files import loose, named, stat
from .pillars import Expected
from .rules import table

FAMILY = "ossec"
HOME = "/var/ossec"
DAEMONS = [f"ossec-{it}.service" for it in ("agentd", "execd", "logcollector", "syscheckd")]
TARGET, TIMER = "ossec-agent.target", "rocksalt-ossec-status.timer"
SCRIPTS = ("firewall-drop.sh", "host-deny.sh")
PROGRAM, ALLOWED = "/usr/local/sbin/rocksalt-ossec", "/etc/rocksalt/ossec.json"
PRIVATE = (f"{HOME}/etc/client.keys", f"{HOME}/etc/ossec.conf")
WEAKENS = ("ignore", "disabled", "nodiff", "skip_nfs", "command", "active-response")


def beside_the_point(wanted: Expected) -> str:
    servers = wanted.baseline.families[FAMILY].settings["servers"]
    return "" if servers else "no OSSEC server watches this host (OSS-001)"


def look(wanted: Expected) -> dict[str, str]:
    settings = wanted.baseline.families[FAMILY].settings
    package = shlex.quote(settings["package"])
    folders = " ".join(map(shlex.quote, settings["directories"]))
    return {
        "there": f'for it in {folders}; do ! test -e "$it" || echo "$it"; done',
        "units": units.show(*DAEMONS, TARGET, TIMER),
        "waits": f"test -e {HOME}/queue/ossec/.wait",
        "talks": "ss -Hnup | grep ossec-agentd",
        "conf": f"cat {HOME}/etc/ossec.conf",
        "agent": f"awk '{{print $1, $2}}' {HOME}/etc/client.keys",
        "shared": f"cat {HOME}/etc/shared/agent.conf",
        "options": f"cat {HOME}/etc/local_internal_options.conf {HOME}/etc/internal_options.conf",
        "changed": f"dpkg -V {package} | grep -E '/var/ossec/(bin|etc/shared)/'",
        "responses": f"ls {HOME}/active-response/bin",
        "owned": f"dpkg -L {package} | grep active-response/bin/",
        "diverted": f"dpkg-divert --list '{HOME}/active-response/bin/*'",
        "scripts": " ".join(["cat", *(f"{HOME}/active-response/bin/{it}" for it in SCRIPTS)]),
        "allowed": f"cat {ALLOWED}",
        "program": f"wc -c < {PROGRAM}",
        "stat": stat(f"{' '.join(PRIVATE)} {HOME}/etc {HOME}/queue/rids {PROGRAM} {ALLOWED}"),
        "deny": "grep -vE '^[[:space:]]*(#|$)' /etc/hosts.deny",
        "live": "iptables-save; ip6tables-save",
        "routes": "ip route show type unreachable; ip route show type blackhole;"
        " ip -6 route show type unreachable",
        "sources": "grep -rhE '^[^#]' /etc/apt/sources.list /etc/apt/sources.list.d |"
        " sed -E 's#(://)[^/[:space:]]*@#\\1#g'",  # passwords stay on the host
    }


def conf(seen: Look) -> ET.Element:
    """The agent's configuration; the file may have several roots, as OSSEC reads it."""
    assert not seen["conf"].code, seen["conf"].said
    return ET.fromstring(f"<all>{seen['conf'].text}</all>")


def texts(root: ET.Element, path: str) -> list[str]:
    return [(it.text or "").strip() for it in root.iterfind(path)]


@pytest.mark.controls("OSS-001")
def test_somebody_watches(settings: dict[str, Any]) -> None:
    assert settings["servers"]


@pytest.mark.controls("OSS-002")
def test_its_daemons_run(seen: Look) -> None:
    blocks = seen["units"].blocks
    assert [it for it in DAEMONS if blocks[it]["ActiveState"] != "active"] == []
    assert units.down(seen["units"], [TARGET]) == []


@pytest.mark.controls("OSS-003")
def test_it_is_connected(seen: Look, settings: dict[str, Any]) -> None:
    assert seen["waits"].code == 1, "it waits for a server"
    ends = (line.partition("users:")[0].split()[-1] for line in seen["talks"].lines)
    peers = {end.rsplit(":", 1)[0].strip("[]") for end in ends}
    assert peers and peers <= set(settings["servers"])


@pytest.mark.controls("OSS-004")
def test_its_configuration(seen: Look, settings: dict[str, Any]) -> None:
    root = conf(seen)
    assert texts(root, ".//client/server-ip") == settings["servers"]
    assert texts(root, ".//client/port") in ([str(settings["port"])], [])
    assert texts(root, ".//syscheck/frequency") == [str(settings["frequency"])]
    begun = units.started(seen["units"], DAEMONS[0])
    files = named(seen["stat"])
    assert [path for path in PRIVATE if files[path].changed > begun] == []


@pytest.mark.controls("OSS-005")
def test_it_is_enrolled_under_its_name(
    seen: Look, wanted: Expected, settings: dict[str, Any]
) -> None:
    (line,) = seen["agent"].lines
    assert line.split()[1] == (settings["agent_name"] or wanted.minion)


@pytest.mark.controls("OSS-008")
def test_declared_folders_are_watched(seen: Look, settings: dict[str, Any]) -> None:
    root = conf(seen)
    folders = {it for text in texts(root, ".//syscheck/directories") for it in text.split(",")}
    assert set(seen["there"].lines) <= folders <= set(settings["directories"])
    ignored = texts(root, ".//syscheck/ignore")
    assert "" not in ignored and set(ignored) <= set(settings["ignore"])


@pytest.mark.controls("OSS-009")
def test_the_server_switches_nothing_off(seen: Look) -> None:
    if not seen["shared"].code:
        root = ET.fromstring(f"<all>{seen['shared'].text}</all>")
        assert [it.tag for it in root.iter() if it.tag in WEAKENS] == []


@pytest.mark.controls("OSS-010")
def test_its_programs_are_the_packages(seen: Look, settings: dict[str, Any]) -> None:
    if settings["package"] == "none":
        pytest.skip("the agent comes from no package")
    assert seen["changed"].found == []
    owned = {line.rsplit("/", 1)[1] for line in seen["owned"].lines}
    assert set(seen["responses"].found) <= owned


@pytest.mark.controls("OSS-011")
def test_its_files_are_private(seen: Look) -> None:
    files = {path: it for path, it in named(seen["stat"]).items() if path.startswith(HOME)}
    assert set(PRIVATE) <= set(files)
    assert [path for path, it in files.items() if it.mode & 0o007] == []
    assert loose({path: files[path] for path in PRIVATE}, 0o027 & 0o022) == []


@pytest.mark.controls("OSS-012")
def test_responses_ask_before_they_ban(
    seen: Look, wanted: Expected, settings: dict[str, Any]
) -> None:
    if settings["package"] != "none":
        for name in SCRIPTS:
            assert f"{HOME}/active-response/bin/{name} " in seen["diverted"].text
    assert seen["scripts"].text.count("rocksalt-ossec") >= len(SCRIPTS)
    missing = {
        str(it)
        for it in nets.of(wanted, settings["never_ban"])
        if str(it) not in seen["allowed"].text
    }
    assert missing == set()
    files = named(seen["stat"])
    assert loose({path: files[path] for path in (PROGRAM, ALLOWED)}, 0o022) == []
    assert int(seen["program"].text) > 1000, "something else stands in place of the program"


@pytest.mark.controls("OSS-013")
def test_nobody_who_must_get_in_is_banned(
    seen: Look, wanted: Expected, settings: dict[str, Any]
) -> None:
    spared = nets.of(wanted, [*settings["never_ban"], *settings["servers"]])
    dropped = [
        it.option("-s")
        for it in table(seen["live"].lines).rules
        if it.target in ("DROP", "REJECT") and not it.chain.startswith("rocksalt-")
    ]
    words = re.split(r"[\s:,]+", f"{seen['deny'].text} {seen['routes'].text}")
    banned = []
    for word in filter(None, [*dropped, *words]):
        try:
            network = ipaddress.ip_network(word)
        except ValueError:
            continue
        banned += [word for it in spared if it.version == network.version and it.overlaps(network)]
    assert banned == []


@pytest.mark.controls("OSS-014")
def test_how_it_does_is_noted(seen: Look) -> None:
    assert units.down(seen["units"], [TIMER]) == []


@pytest.mark.controls("OSS-015")
def test_the_server_runs_no_commands(seen: Look) -> None:
    """Of several values OSSEC takes the first, and that of the local file before the other."""
    found = re.findall(r"^logcollector\.remote_commands=(.*)", seen["options"].text, re.M)
    assert [it.strip() for it in found[:1]] == ["0"]


@pytest.mark.controls("OSS-016")
def test_its_repository_is_pinned_to_a_key(seen: Look, settings: dict[str, Any]) -> None:
    place = re.search(r"https?://[^\s/]+", settings["repository"])
    if not (place and settings["repository_key"]):
        pytest.skip("no repository of OSSEC is set up")
    address = re.sub("(?<=://)[^/]*@", "", place[0])
    lines = [line for line in seen["sources"].lines if address in line]
    assert lines and [it for it in lines if "signed-by=" not in it or "trusted=" in it] == []
