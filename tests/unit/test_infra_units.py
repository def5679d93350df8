"""tests/infra: which drop-ins of units are somebody's doing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from infra import test_firewall as firewall
from infra import test_nrpe as nrpe
from infra import units
from infra.asking import Answer

LXC = "/run/systemd/system/service.d/zzz-lxc-service.conf"
OURS = "rocksalt-drift.service"


def shown(drop_ins: str, name: str = OURS, **more: str) -> Answer:
    keys = {"Id": name, "FragmentPath": f"{units.FOLDER}/{name}", "DropInPaths": drop_ins, **more}
    return Answer("".join(f"{key}={value}\n" for key, value in keys.items()) + "\n", 0)


def test_a_container_brings_drop_ins_for_every_service() -> None:
    assert units.moved(shown(""), [OURS]) == []
    assert units.moved(shown(LXC), [OURS]) == []
    assert units.moved(shown("/etc/systemd/system/timer.d/a.conf"), [OURS]) == []


@pytest.mark.parametrize(
    "path",
    [
        f"/etc/systemd/system/{OURS}.d/x.conf",
        "/etc/systemd/system/rocksalt-.service.d/x.conf",
        f"/run/systemd/system.control/{OURS}.d/x.conf",
    ],
)
def test_a_drop_in_for_the_unit_is_somebodys(path: str) -> None:
    (found,) = units.moved(shown(f"{LXC} {path}"), [OURS])
    assert path in found and LXC not in found


def test_the_packet_filter_and_nrpe_in_a_container() -> None:
    state = {"ActiveState": "active", "UnitFileState": "enabled", "Before": "network-pre.target"}
    start = {"ExecStart": f"{{ path={firewall.LOADER} ; argv[]={firewall.LOADER} ; }}"}
    for path, fails in ((LXC, False), (f"{units.FOLDER}/{firewall.UNIT}.d/x.conf", True)):
        seen = {
            "units": Answer(
                shown(path, firewall.UNIT, **state, **start).text
                + shown(path, firewall.GUARD, **state).text,
                0,
            ),
            "failed": Answer("", 2),
            "loader": Answer("iptables-restore < rules", 0),
        }
        for test in (firewall.test_they_are_loaded_at_boot, firewall.test_flushed_rules_come_back):
            assert raises(test, seen) == fails
    ours = f"{units.FOLDER}/{nrpe.UNIT}.d/rocksalt.conf"
    for paths, fails in ((f"{LXC} {ours}", False), (LXC, True), (f"{ours} {ours}x", True)):
        seen = {"others": Answer("", 0), "unit": shown(paths, nrpe.UNIT), "config": Answer("", 0)}
        assert raises(nrpe.test_it_has_no_other_configuration, seen) == fails


def raises(test: Callable[[dict[str, Answer]], None], seen: dict[str, Answer]) -> bool:
    """Whether a test fails."""
    try:
        test(seen)
    except AssertionError:
        return True
    return False
