"""What the settings of disk encryption amount to, and which of them do not go together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rocksalt.backup.crypto import age
from rocksalt.errors import Refused
from rocksalt.luks import config

ACME, ACME_LATER, GLOBEX = (age.generate()[1] for _ in range(3))
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 42 + "E ann"
DATA = "/dev/disk/by-id/virtio-data"
Settings = dict[str, Any]


def volume(**changes: Any) -> Settings:
    name = changes.get("device", DATA).rpartition("/")[2]
    return {"customer": "acme", "device": DATA, "confirm": name, "mount": "/srv/acme", **changes}


@pytest.fixture
def settings() -> Settings:
    return {
        "customers": {"acme": {"recipients": [ACME], "ssh_keys": [SSH_KEY]}},
        "volumes": {"acme-data": volume()},
        "user": "rocksalt-volumes",
    }


def found(settings: Settings, resolved: Callable[[str], str] = str) -> str:
    (problem,) = config.problems(settings, resolved)
    return problem


def test_settings_that_go_together_have_no_problem(settings: Settings) -> None:
    assert config.problems(settings) == []


def test_a_volume_has_what_was_left_out(settings: Settings) -> None:
    (volume,) = config.volumes(settings).values()

    assert volume.customer.recipients == (ACME,)
    assert (volume.filesystem, volume.owner, volume.group, volume.mode) == (
        *("ext4", "root", "root", "0750"),
    )
    assert volume.mapping == "/dev/mapper/acme-data"
    assert volume.mount_options == ["nodev", "nosuid"]


def test_what_a_volume_says_wins(settings: Settings) -> None:
    settings["volumes"]["acme-data"] |= {
        "filesystem": "xfs",
        "options": ["noexec", "nodev"],
        "key_command": ["clevis", "decrypt"],
        "discard": True,
    }
    (volume,) = config.volumes(settings).values()

    assert (volume.filesystem, volume.discard) == ("xfs", True)
    assert volume.mount_options == ["noexec", "nodev", "nosuid"]
    assert volume.key_command == ("clevis", "decrypt")


def test_two_volumes_name_one_device(settings: Settings) -> None:
    settings["volumes"]["more"] = volume(mount="/srv/more")
    assert found(settings) == (
        "hardening:luks:volumes:more:device: /dev/disk/by-id/virtio-data is the same as that of the"
        " volume acme-data; each volume needs its own"
    )


def test_two_names_lead_to_one_device(settings: Settings) -> None:
    other = "/dev/disk/by-id/wwn-0x5000"
    settings["volumes"]["more"] = volume(device=other, mount="/srv/more")
    assert config.problems(settings, str) == []
    assert "volumes:more:device" in found(
        settings, {DATA: "/dev/vdb", other: "/dev/vdb"}.__getitem__
    )


def test_two_volumes_are_mounted_at_one_place(settings: Settings) -> None:
    settings["volumes"]["more"] = volume(device=f"{DATA}2")
    assert "hardening:luks:volumes:more:mount: /srv/acme is the same" in found(settings)


@pytest.mark.parametrize(
    "mount",
    [
        *("/", "/etc", "/etc/cron.d", "/usr/bin", "/root/.ssh", "/lib/systemd", "/proc/x", "/home"),
        *("/var/lib/rocksalt", "/var/lib/rocksalt/luks", "/var/lib/dpkg", "/run/x", "/boot/x"),
        *("/tmp/x", "/var/spool/cron/crontabs", "/opt/saltstack/salt", "/srv/salt"),
    ],
)
def test_a_volume_is_mounted_over_no_folder_of_the_system(settings: Settings, mount: str) -> None:
    settings["volumes"]["acme-data"]["mount"] = mount
    assert f"acme-data:mount: {mount!r} is not a folder of its own" in found(settings)


@pytest.mark.parametrize(
    "mount", ["/srv/salted", "/home/acme", "/etcetera", "/var/lib/postgresql", "/data"]
)
def test_a_volume_is_mounted_elsewhere(settings: Settings, mount: str) -> None:
    settings["volumes"]["acme-data"]["mount"] = mount
    assert config.problems(settings) == []


def test_a_volume_lies_in_no_other(settings: Settings) -> None:
    inner = volume(device=f"{DATA}2", mount="/srv/acme/inner")
    settings["volumes"]["more"] = {**inner, "confirm": "virtio-data2"}
    assert "volumes:more:mount: /srv/acme/inner lies in the volume acme-data" in found(settings)
    settings["volumes"]["more"]["mount"] = "/srv/acme-more"
    assert config.problems(settings) == []


@pytest.mark.parametrize(
    "option", ["suid", "dev", "defaults", "user", "bind", "remount", "loop=/x", "logdev=/dev/sdb"]
)
def test_options_that_undo_ours(settings: Settings, option: str) -> None:
    settings["volumes"]["acme-data"]["options"] = ["noexec", option]
    assert f"volumes:acme-data:options: {option} undoes" in found(settings)


@pytest.mark.parametrize("before", ['command="/bin/sh" ', "restrict,pty ", "no-pty "])
def test_a_key_has_no_options(settings: Settings, before: str) -> None:
    """They would stand beside ours, and might win."""
    settings["customers"]["acme"]["ssh_keys"] = [before + SSH_KEY]
    assert "customers:acme:ssh_keys: " in found(settings)
    assert "has options in front of the key" in found(settings)


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("acme-data", {"customer": "acne"}, "volumes:acme-data:customer: 'acne' is none of"),
        ("acme-data", {"confirm": "virtio-date"}, "confirm: is 'virtio-date', and the device is"),
        ("acme-data", {"confirm": DATA}, "both have to name the same device"),
        ("acme-data", {"mount": "/srv"}, "mount: '/srv' is not a folder of its own"),
        ("acme-data", {"mount": "/srv/x/../../etc"}, "mount: '/srv/x/../../etc' is not a folder"),
        ("Data", {}, "volumes:Data: the name needs lower-case letters"),
        ("d" * 33, {}, "at most 32"),
        ("../x", {}, "the name needs"),
    ],
)
def test_a_volume_is_not_as_it_has_to_be(
    settings: Settings, name: str, change: Settings, problem: str
) -> None:
    settings["volumes"] = {name: volume(**change)}
    assert problem in found(settings)


def test_a_recipient_is_mistyped(settings: Settings) -> None:
    wrong = ACME[:-1] + ("q" if ACME[-1] != "q" else "p")
    settings["customers"]["acme"]["recipients"] = [wrong]
    assert f"customers:acme:recipients: {wrong!r}" in found(settings)


def test_two_customers_have_one_key(settings: Settings) -> None:
    settings["customers"]["globex"] = {"recipients": [GLOBEX, ACME]}
    assert f"customers:globex:recipients: {ACME} is also in" in found(settings)


def test_two_customers_hand_keys_over_by_one_ssh_key(settings: Settings) -> None:
    settings["customers"]["globex"] = {
        "recipients": [GLOBEX],
        "ssh_keys": [SSH_KEY.replace("ann", "bob")],
    }
    assert "customers:globex:ssh_keys" in found(settings)


def test_a_customers_name_is_no_name(settings: Settings) -> None:
    settings["customers"]["Globex Ltd"] = {"recipients": [GLOBEX]}
    assert "customers:Globex Ltd: the name needs" in found(settings)


def test_a_private_key_is_told_without_repeating_it(settings: Settings) -> None:
    identity = age.generate()[0]
    settings["customers"]["acme"]["recipients"] = [identity]
    assert "holds a private key" in found(settings)
    assert identity not in found(settings)


def test_the_program_reads_what_was_written(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(settings))
    path.chmod(0o600)
    assert config.load(str(path)) == settings


@pytest.mark.parametrize(
    ("text", "mode", "sentence"),
    [
        ("{", 0o600, "cannot be read"),
        ("[]", 0o600, "not what state.apply hardening.luks writes"),
        ("{}", 0o600, "not what state.apply hardening.luks writes"),
        ("{}", 0o666, "can be written by others than root"),
    ],
)
def test_the_program_refuses_another_configuration(
    tmp_path: Path, text: str, mode: int, sentence: str
) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(Refused, match=sentence):
        config.load(str(path))


def test_the_program_says_what_writes_its_configuration(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="does not exist"):
        config.load(str(tmp_path / "config.json"))
