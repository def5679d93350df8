"""What counts as an encrypted disk for a vault; what lies on what is tried in test_blocks."""

from __future__ import annotations

from pathlib import Path

import pytest
from block_devices import Machine, machine

from rocksalt.backup.vaults import disks


@pytest.fixture
def host(tmp_path: Path) -> Machine:
    return machine(tmp_path)


@pytest.mark.parametrize(
    ("device", "kind", "expected"),
    [
        ("252:0", "ext4", True),
        ("8:1", "ext4", False),
        ("0:61", "nfs4", False),
        ("0:61", "tmpfs", False),
        ("8:77", "ext4", False),
    ],
)
def test_a_path_is_if_its_disk_is_for_certain(
    host: Machine, device: str, kind: str, expected: bool
) -> None:
    host.mount("/srv", device, kind)
    assert disks.encrypted("/srv/vault", str(host.root)) is expected


def test_a_host_without_sys_is_not(tmp_path: Path) -> None:
    assert disks.encrypted("/srv", str(tmp_path)) is False


def test_the_running_host_is_asked() -> None:
    assert disks.encrypted("/proc/self") is False
    assert disks.encrypted(Path("/proc/is-not-there/at-all")) is False
