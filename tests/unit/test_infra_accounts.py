"""tests/infra: accounts, sudo and consoles, by what tools of a host print."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from infra import test_accounts as accounts
from infra import test_accounts_sudo as sudo
from infra.asking import Answer

OWN: dict[str, Any] = {
    "administrators": {"ann": {}},
    "administrators_group": "sudo",
    "users": {},
    "sudo_grants": {},
    "crontab_users": ["root"],
}
AGETTY = "{ path=/sbin/agetty ; argv[]=/sbin/agetty %s ; ignore_errors=yes }"


def rules(who: dict[str, str], **options: bool) -> dict[str, Answer]:
    command = {"Options": [options]} if options else {}
    spec = {"User_List": [who], "Cmnd_Specs": [command]}
    return {"rules": Answer(json.dumps({"User_Specs": [spec]}), 0)}


def test_of_sudo_only_what_is_not_waived_is_judged() -> None:
    vendor = rules({"username": "vendor"})
    unasked = rules({"usergroup": "sudo"}, authenticate=False)
    sudo.test_nobody_else_becomes_root(vendor, OWN, {"ACC-027"})
    sudo.test_nobody_else_becomes_root(unasked, OWN, {"ACC-029"})
    for seen, control in ((vendor, "ACC-029"), (unasked, "ACC-027")):
        with pytest.raises(AssertionError):
            sudo.test_nobody_else_becomes_root(seen, OWN, {control})


def test_a_host_without_cron_has_no_crontabs() -> None:
    command = accounts.look(site())["crontabs"]
    assert command.startswith("! test -d /var/spool/cron/crontabs || ls ")
    accounts.test_no_stranger_has_a_crontab({"crontabs": Answer("", 0)}, OWN)
    accounts.test_no_stranger_has_a_crontab({"crontabs": Answer("root\nann\n", 0)}, OWN)
    for answer in (Answer("eve\n", 0), Answer("", 2)):
        with pytest.raises(AssertionError):
            accounts.test_no_stranger_has_a_crontab({"crontabs": answer}, OWN)


def site() -> Any:
    families = {"accounts": SimpleNamespace(settings=OWN)}
    return SimpleNamespace(digests={}, baseline=SimpleNamespace(families=families))


def consoles(debug: str = "inactive", **lines: str) -> dict[str, Answer]:
    units = {"getty@tty1.service": "-o '-p -- \\u' --noclear - $TERM", **lines}
    text = "\n".join(f"Id={name}\nExecStart={AGETTY % it}\n" for name, it in units.items())
    shell = f"Id=debug-shell.service\nActiveState={debug}\nUnitFileState=disabled\n"
    return {"units": Answer(f"{text}\n{shell}", 0)}


def test_a_console_that_asks() -> None:
    accounts.test_no_console_logs_in_by_itself(consoles())
    masked = f"{consoles()['units'].text}\nId=serial-getty@ttyS0.service\nActiveState=inactive\n"
    accounts.test_no_console_logs_in_by_itself({"units": Answer(masked, 0)})


@pytest.mark.parametrize(
    "seen",
    [
        consoles(**{"getty@tty2.service": "--autologin root - linux"}),
        consoles(**{"serial-getty@hvc0.service": "-a root - linux"}),
        consoles(**{"container-getty@1.service": "x ; argv[]=/bin/login -f root"}),
        consoles("active"),
    ],
)
def test_a_console_that_does_not(seen: Any) -> None:
    with pytest.raises(AssertionError):
        accounts.test_no_console_logs_in_by_itself(seen)


def test_all_consoles_are_asked_about() -> None:
    asked = accounts.look(site())["units"]
    for unit in ("'getty@*'", "'serial-getty@*'", "'container-getty@*'", "debug-shell.service"):
        assert unit in asked


def link(path: str) -> str:
    return f"777 root root 1.0 {path}|symbolic link"


@pytest.mark.parametrize("name", ["linked.disabled-by-rocksalt", "linked~"])
def test_sudo_passes_over_names_with_a_dot(name: str) -> None:
    files = {
        "includes": Answer("@includedir /etc/sudoers.d\n", 0),
        "conf": Answer("", 1),
        "stat": Answer(link(f"{sudo.FOLDER}/{name}"), 0),
    }
    sudo.test_sudo_reads_no_other_files(files)
    with pytest.raises(AssertionError):
        files["stat"] = Answer(link(f"{sudo.FOLDER}/linked"), 0)
        sudo.test_sudo_reads_no_other_files(files)


def test_an_alias_that_nobody_uses_is_no_fault() -> None:
    told = 'Warning: /etc/sudoers:64:12: unused User_Alias "OPERATORS"\n/etc/sudoers: parsed OK\n'
    seen = {"checked": Answer(told, 0), "stat": Answer("", 0)}
    sudo.test_sudo_accepts_its_files(seen)
    with pytest.raises(AssertionError):
        sudo.test_sudo_accepts_its_files({**seen, "checked": Answer(told + "bad owner\n", 0)})
