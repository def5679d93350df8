"""tests/infra: what of fail2ban is not as its package ships it."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from infra import test_fail2ban as fail2ban
from infra.asking import Answer

AT = "/etc/fail2ban"
SHIPPED = [
    *("/etc/default/fail2ban", "/usr/share/doc/fail2ban/README.Debian", AT),
    *(f"{AT}/jail.conf", f"{AT}/fail2ban.conf", f"{AT}/paths-debian.conf"),
    *(f"{AT}/filter.d/sshd.conf", f"{AT}/action.d/iptables.conf", f"{AT}/filter.d/sshd.py"),
    f"{AT}/jail.d/defaults-debian.conf",
]


def judge(
    changed: Sequence[str] = (), local: Sequence[str] = (), shipped: Sequence[str] = SHIPPED
) -> None:
    lines = {"shipped": shipped, "changed": changed, "local": local}
    seen = {key: Answer("".join(f"{it}\n" for it in value), 0) for key, value in lines.items()}
    fail2ban.test_filters_and_actions_are_as_shipped(seen)


def test_settings_and_files_of_a_site_are_no_edits() -> None:
    judge(local=[f"{AT}/{it}.local" for it in ("jail", "fail2ban", "filter.d/shop", "jail.d/zz")])
    judge(
        ["??5?????? c /etc/default/fail2ban", "missing     /usr/share/doc/fail2ban/README.Debian"]
    )
    judge([f"??5?????? c {AT}/jail.d/defaults-debian.conf"])


@pytest.mark.parametrize("name", ["filter.d/sshd", "action.d/iptables", "jail", "paths-debian"])
def test_an_edit_is_seen(name: str) -> None:
    for line in (f"??5?????? c {AT}/{name}.conf", f"missing   c {AT}/{name}.conf"):
        with pytest.raises(AssertionError, match=name):
            judge([line])


@pytest.mark.parametrize("name", ["filter.d/sshd", "action.d/iptables", "paths-overrides"])
def test_what_is_laid_over_is_seen(name: str) -> None:
    with pytest.raises(AssertionError, match=name):
        judge(local=[f"{AT}/{name}.local"])


def test_a_package_that_is_not_there_is_not_judged_as_good() -> None:
    with pytest.raises(AssertionError):
        judge(shipped=[])


@pytest.mark.parametrize(("ssh", "ports"), [({}, [22]), ({"tcp": [2222]}, [2222]), (None, [22])])
def test_the_jail_of_sshd_closes_the_ports_of_administrators(ssh: Any, ports: list[int]) -> None:
    own = {"jails": {"sshd": {}}, "max_retry": 5, "find_time": 600, "ban_time": 3600}
    services = {} if ssh is None else {"ssh": ssh}
    settings = {"fail2ban": own, "firewall": {"services": services}, "sshd": {"ports": [22]}}
    families = {name: SimpleNamespace(settings=it) for name, it in settings.items()}
    wanted: Any = SimpleNamespace(baseline=SimpleNamespace(families=families))
    assert fail2ban.jails(wanted)["sshd"]["ports"] == ports
