"""The SSH server: what it answers and what it would do, not what one file of it says."""

from __future__ import annotations

import datetime as dt
import re
import shlex
from collections import defaultdict
from typing import Any

import pytest

from . import ways
from .asking import Look
from .ends import bare, by_socket, listening
from .files import loose, named, stat
from .pillars import Expected

FAMILY = "sshd"
DROP_IN = "/etc/ssh/sshd_config.d/00-rocksalt.conf"
BANNER = "/etc/ssh/rocksalt-banner"
STAMP = "%a %Y-%m-%d %H:%M:%S.%f UTC"
# Keyword as `sshd -T` has it, and its value; or {the setting that has it}.
DIRECTIVES: dict[str, dict[str, str]] = {
    "SSHD-101": {"permitrootlogin": "no"},
    "SSHD-102": {"passwordauthentication": "no"},
    "SSHD-103": {"kbdinteractiveauthentication": "no"},
    "SSHD-104": {"permitemptypasswords": "no"},
    "SSHD-105": {
        "pubkeyauthentication": "yes",
        "authenticationmethods": "{authentication_methods}",
    },
    "SSHD-106": {"hostbasedauthentication": "no", "ignorerhosts": "yes"},
    "SSHD-107": {"gssapiauthentication": "no", "kerberosauthentication": "no"},
    "SSHD-108": {"allowgroups": "{allow_groups}"},
    "SSHD-109": {
        "authorizedkeysfile": "{authorized_keys_files}",
        "authorizedkeyscommand": "{authorized_keys_command}",
        "authorizedkeyscommanduser": "{authorized_keys_command_user}",
        "trustedusercakeys": "{trusted_user_ca_keys}",
    },
    "SSHD-110": {"usepam": "yes"},
    "SSHD-111": {"strictmodes": "yes"},
    "SSHD-112": {"permituserenvironment": "no"},
    "SSHD-126": {"requiredrsasize": "{required_rsa_size}"},
    "SSHD-130": {"logingracetime": "{login_grace_time}"},
    "SSHD-131": {"maxauthtries": "{max_auth_tries}"},
    "SSHD-132": {"maxsessions": "{max_sessions}"},
    "SSHD-133": {"maxstartups": "{max_startups}"},
    "SSHD-134": {
        "clientaliveinterval": "{client_alive_interval}",
        "clientalivecountmax": "{client_alive_count_max}",
    },
    "SSHD-140": {
        "allowtcpforwarding": "{tcp_forwarding}",
        "allowstreamlocalforwarding": "{stream_local_forwarding}",
    },
    "SSHD-141": {"allowagentforwarding": "{agent_forwarding}"},
    "SSHD-142": {"x11forwarding": "{x11_forwarding}"},
    "SSHD-143": {"permittunnel": "no"},
    "SSHD-144": {"gatewayports": "no"},
    "SSHD-150": {"banner": BANNER},
    "SSHD-151": {"loglevel": "{log_level}"},
    "SSHD-160": {"port": "{ports}"},
}
# What a daemon offers: the keyword, the setting, and the words of `ssh -vv` for it.
LISTS = {
    "SSHD-120": ("ciphers", "ciphers", "ciphers stoc"),
    "SSHD-121": ("macs", "macs", "MACs stoc"),
    "SSHD-122": ("kexalgorithms", "key_exchanges", "KEX algorithms"),
    "SSHD-123": ("hostkeyalgorithms", "host_key_algorithms", "host key algorithms"),
    "SSHD-124": ("pubkeyacceptedalgorithms", "public_key_algorithms", ""),
    "SSHD-125": ("casignaturealgorithms", "ca_signature_algorithms", ""),
}
EXTENSIONS = {"ext-info-s", "kex-strict-s-v00@openssh.com"}  # no key exchanges


def look(wanted: Expected) -> dict[str, str]:
    own = wanted.baseline.families[FAMILY].settings
    address = (own["listen_addresses"] or ["127.0.0.1"])[0]
    probe = "ssh -vv -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=5"
    nobody = "-o UserKnownHostsFile=/dev/null -o GlobalKnownHostsFile=/dev/null -F /dev/null"
    return {
        "effective": "sshd -T",
        "offered": f"{probe} {nobody} -p {own['ports'][0]} {shlex.quote(address)} true",
        "main": "cat /etc/ssh/sshd_config",
        "ours": f"cat {DROP_IN}",
        "all": "cat /etc/ssh/sshd_config /etc/ssh/sshd_config.d/*.conf",
        "stat": stat(
            "/etc/ssh /etc/ssh/sshd_config /etc/ssh/sshd_config.d{,/*} /etc/ssh/ssh_host_*"
        ),
        "units": "systemctl show --timestamp=us+utc ssh.service ssh.socket -p Id,ActiveState,"
        "UnitFileState,StateChangeTimestamp,MainPID",
        "listening": "ss -Hltnp",
        "socket": "systemctl show -P Listen ssh.socket",
        "commands": "ps -C sshd -o args=",
        "keys": "for key in /etc/ssh/ssh_host_*_key; do ssh-keygen -l -f $key; done",
        "small": "awk '!/^#/ && NF && $5 < 3071' /etc/ssh/moduli | wc -l",
        "banner": f"cat {BANNER}",
        "cloud": "test ! -d /etc/cloud || cat /etc/cloud/cloud.cfg.d/zz-rocksalt-sshd.cfg",
        **ways.look(wanted),
    }


def effective(seen: Look) -> dict[str, list[str]]:
    """The words of every keyword that sshd would obey."""
    assert not seen["effective"].code, seen["effective"].said
    found: dict[str, list[str]] = defaultdict(list)
    for line in seen["effective"].lines:
        keyword, _, value = line.partition(" ")
        found[keyword] += value.split() or [""]
    return found


def value_of(template: str, settings: dict[str, Any]) -> list[str]:
    """The words that are expected, of a setting where the template names one."""
    value = settings[template.strip("{}")] if template.startswith("{") else template
    if isinstance(value, bool):
        value = "yes" if value else "no"
    return [str(it) for it in value] if isinstance(value, list) else str(value).split() or [""]


@pytest.mark.parametrize(
    ("keyword", "template"),
    [
        pytest.param(keyword, value, marks=pytest.mark.controls(control), id=keyword)
        for control, keywords in DIRECTIVES.items()
        for keyword, value in keywords.items()
    ],
)
def test_directive(seen: Look, settings: dict[str, Any], keyword: str, template: str) -> None:
    assert sorted(effective(seen)[keyword]) == sorted(value_of(template, settings))


@pytest.mark.parametrize(
    ("keyword", "setting", "words"),
    [
        pytest.param(*row, marks=pytest.mark.controls(control), id=row[0])
        for control, row in LISTS.items()
    ],
)
def test_algorithms(
    seen: Look, settings: dict[str, Any], keyword: str, setting: str, words: str
) -> None:
    (found,) = effective(seen)[keyword]
    assert [it for it in settings[setting] if it in found.split(",")] == found.split(",")
    offers = seen["offered"].said.partition("peer server KEXINIT")[2]
    if words and not offers:
        said = " ".join(seen["offered"].said.split())[-200:]
        pytest.skip(f"its files are right, but what it offers could not be seen: {said}")
    if words:
        line = re.search(rf"debug2: {words}: (\S+)", offers)
        assert line and set(line[1].split(",")) - EXTENSIONS <= set(settings[setting])


@pytest.fixture
def rows(settings: dict[str, Any], excused: dict[str, Any]) -> dict[str, list[str]]:
    """The words of every declared directive that is neither waived nor off, in lower case."""
    kept = (it for control, it in DIRECTIVES.items() if control not in excused)
    return {
        keyword: sorted(word.lower() for word in value_of(template, settings))
        for keywords in kept
        for keyword, template in keywords.items()
    }


@pytest.mark.controls("SSHD-001")
def test_the_drop_in_says_the_same(seen: Look, rows: dict[str, list[str]]) -> None:
    said: dict[str, list[str]] = defaultdict(list)
    for line in seen["ours"].lines:
        keyword, *words = line.lower().split()
        said[keyword] += words
    assert {keyword: sorted(said[keyword]) for keyword in rows} == rows


@pytest.mark.controls("SSHD-002")
def test_drop_ins_are_read_first(seen: Look) -> None:
    lines = [line.split() for line in seen["main"].lines if not line.lstrip().startswith("#")]
    first = [word.lower() for word in lines[0]]
    assert first[0] == "include" and "/etc/ssh/sshd_config.d/*.conf" in first


@pytest.mark.controls("SSHD-005")
def test_no_match_block_weakens(seen: Look, rows: dict[str, list[str]]) -> None:
    block, weak = "", []
    for line in seen["all"].lines:
        keyword, *words = line.lower().split()
        if keyword == "match":
            block = line
        elif block and keyword in rows and sorted(words) != rows[keyword]:
            weak.append(f"{block}: {line.strip()}")
    assert weak == []


@pytest.mark.controls("SSHD-006")
def test_the_daemon_has_read_its_files(seen: Look) -> None:
    if by_socket(seen):
        pytest.skip("ssh.socket starts sshd anew for who comes")
    stamp = seen["units"].blocks["ssh.service"]["StateChangeTimestamp"]
    read = dt.datetime.strptime(stamp, STAMP).replace(tzinfo=dt.timezone.utc)
    late = [
        path
        for path, file in named(seen["stat"]).items()
        if not file.folder and not path.endswith(".pub") and file.changed > read.timestamp()
    ]
    assert late == []


@pytest.mark.controls("SSHD-007")
def test_sshd_has_no_options_and_no_double(seen: Look) -> None:
    masters = [line for line in seen["commands"].lines if "[listener]" in line]
    alone = [] if by_socket(seen) else ["sshd: /usr/sbin/sshd -D"]
    assert [it.partition(" [")[0] for it in masters] == alone
    main = "" if by_socket(seen) else seen["units"].blocks["ssh.service"]["MainPID"]
    assert {pid for _, _, pid in listening(seen)} == {main}


@pytest.mark.controls("SSHD-008")
def test_only_root_changes_the_configuration(seen: Look) -> None:
    mine = {path: it for path, it in named(seen["stat"]).items() if "ssh_host" not in path}
    assert loose(mine, 0o022) == []
    assert loose({path: it for path, it in mine.items() if not it.folder}, 0o077) == []


@pytest.mark.controls("SSHD-009")
def test_private_host_keys_are_private(seen: Look) -> None:
    keys = {path: it for path, it in named(seen["stat"]).items() if path.endswith("_key")}
    assert keys and loose(keys, 0o077) == []


@pytest.mark.controls("SSHD-010")
def test_host_keys_are_declared_and_strong(seen: Look, settings: dict[str, Any]) -> None:
    found = [(int(line.split()[0]), line.split()[-1].strip("()")) for line in seen["keys"].found]
    assert {kind.upper() for kind in settings["host_key_types"]} <= {kind for _, kind in found}
    weak = [it for it in found if it[1] == "DSA" or (it[1] == "RSA" and it[0] < 3072)]
    assert weak == []


@pytest.mark.controls("SSHD-011")
def test_no_small_group_is_offered(seen: Look) -> None:
    assert seen["small"].said.strip() == "0"


@pytest.mark.controls("SSHD-012", "SSHD-013")
def test_sshd_runs_by_itself(seen: Look, judged: set[str]) -> None:
    units = seen["units"].blocks
    service, socket = units["ssh.service"], units["ssh.socket"]
    if "SSHD-012" in judged:
        assert socket["ActiveState"] != "active" and socket["UnitFileState"] != "enabled"
    if "SSHD-013" in judged:
        assert (service["ActiveState"], service["UnitFileState"]) == ("active", "enabled")


@pytest.mark.controls("SSHD-014")
def test_cloud_init_does_not_reopen_log_ins(seen: Look) -> None:
    lines = set(seen["cloud"].lines)
    assert not seen["cloud"].code, seen["cloud"].said
    assert not lines or {"disable_root: true", "ssh_pwauth: false"} <= lines


@pytest.mark.controls("SSHD-015")
def test_the_banner_is_the_declared_text(seen: Look, settings: dict[str, Any]) -> None:
    assert seen["banner"].said.strip() == settings["banner"].strip()


@pytest.mark.controls("SSHD-127")
def test_only_declared_host_keys_are_served(seen: Look, settings: dict[str, Any]) -> None:
    wanted = {f"/etc/ssh/ssh_host_{kind}_key" for kind in settings["host_key_types"]}
    assert set(effective(seen)["hostkey"]) == wanted


@pytest.mark.controls("SSHD-160", "SSHD-161")
def test_it_listens_where_it_should(seen: Look, settings: dict[str, Any], judged: set[str]) -> None:
    found = listening(seen)
    if "SSHD-160" in judged:
        assert {port for _, port, _ in found} == set(settings["ports"])
    if "SSHD-161" in judged:
        addresses = {address for address, _, _ in found}
        declared = {bare(it) for it in settings["listen_addresses"]}
        assert addresses == declared or (not declared and addresses <= {"0.0.0.0", "::", "*"})


@pytest.mark.controls("SSHD-003")
def test_an_administrator_has_a_way_in(seen: Look, wanted: Expected) -> None:
    problems = ways.problems(seen, wanted, effective(seen))
    assert any(not found for found in problems.values()), problems
