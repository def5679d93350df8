"""rocksalt.accounts.consoles: who gets a shell at the console without a password."""

from __future__ import annotations

import pytest

from rocksalt.accounts import consoles

UNIT = """\
Id={name}
ExecStart={{ path={path} ; argv[]={argv} ; ignore_errors=yes ; start_time=[n/a] ; status=0/0 }}
Environment={environment}
ActiveState={active}
UnitFileState=static
DropInPaths={drop_ins}
"""
SULOGIN = "/lib/systemd/systemd-sulogin-shell"
FORCE = "HOME=/root SYSTEMD_SULOGIN_FORCE=1"


def unit(name, argv=f"{SULOGIN} rescue", environment="HOME=/root", active="inactive", drop_ins=""):
    path = argv.split()[0]
    return UNIT.format(
        name=name, path=path, argv=argv, environment=environment, active=active, drop_ins=drop_ins
    )


def shown(host, *others, **emergency):
    units = [unit("emergency.service", **emergency), unit("rescue.service"), *others]
    host.answer("systemctl show", "\n".join(units))


@pytest.mark.parametrize("shell", [False, True])
def test_emergency_mode(host, shell):
    shown(host)
    found = consoles.seen(consoles.read(host), shell)
    assert (found.actual == consoles.expected(shell)) is not shell
    shown(host, environment=FORCE)
    found = consoles.seen(consoles.read(host), shell)
    assert found.actual["emergency.service"] == "a shell for everybody"
    assert found.actual != consoles.expected(shell)


def test_another_program_is_for_a_person(host):
    shown(host, argv="/bin/bash -i")
    found = consoles.seen(consoles.read(host), False)
    assert found.remedy == "manual"
    assert found.reason == "emergency.service runs /bin/bash -i instead of sulogin"


AUTOMATIC = {
    "/sbin/agetty -o -p -- \\u --noclear tty1 $TERM": "",
    "/sbin/agetty --autologin root --noclear tty1": "getty@tty1.service logs root in by itself",
    "/sbin/agetty -a ann tty1": "getty@tty1.service logs ann in by itself",
    "/bin/sh -c exec login -p -f root": "getty@tty1.service logs somebody in by itself",
}


@pytest.mark.parametrize(("argv", "reason"), AUTOMATIC.items())
def test_automatic_log_ins(host, argv, reason):
    shown(host, unit("getty@tty1.service", argv))
    assert consoles.by_itself(consoles.read(host)).reason == reason


def test_the_debug_shell(host):
    shown(host, unit("debug-shell.service", "/bin/bash", active="active"))
    assert "root shell open" in consoles.by_itself(consoles.read(host)).reason


def test_no_systemd(host):
    reading = consoles.read(host)
    for found in (consoles.seen(reading, False), consoles.by_itself(reading)):
        assert found.problem == "error" and "systemctl is not installed" in found.reason


def test_the_shell_is_opened_and_closed_again(host):
    shown(host)
    host.answer("systemctl daemon-reload")
    consoles.fix(host, True, ["ACC-002"])
    ours = [f"/etc/systemd/system/{name}.d/50-rocksalt.conf" for name in consoles.MODES]
    assert consoles.leftovers(host) == ours
    assert "SYSTEMD_SULOGIN_FORCE=1" in host.read(ours[0])
    consoles.fix(host, False, ["ACC-002"])
    assert consoles.leftovers(host) == []


def test_what_others_opened_is_put_aside(host):
    foreign, other = "/etc/systemd/system/rescue.service.d/a.conf", "/etc/systemd/system/b.conf"
    host.put(foreign, "[Service]\nEnvironment=SYSTEMD_SULOGIN_FORCE=1\n")
    host.put(other, "[Service]\nNice=3\n")
    shown(host, drop_ins=f"{foreign} {other}")
    host.answer("systemctl daemon-reload")
    consoles.fix(host, False, ["ACC-002"])
    assert host.read(foreign) is None and host.read(other)
    assert host.read(f"{foreign}.disabled-by-rocksalt")


def test_nothing_is_done_unasked(host):
    consoles.fix(host, True, ["ACC-001"])
    assert host.ran == [] and consoles.leftovers(host) == []


def test_clean(host):
    shown(host)
    host.answer("systemctl daemon-reload")
    consoles.fix(host, True, ["ACC-002"])
    consoles.clean(host)
    assert consoles.leftovers(host) == []
