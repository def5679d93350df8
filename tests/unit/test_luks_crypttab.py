"""Lines of crypttab, and where hibernation leaves memory."""

from __future__ import annotations

from typing import Any

import pytest

from rocksalt.luks import crypttab, hibernation
from rocksalt.luks.crypttab import Entry
from rocksalt.luks.hibernation import Image

GOOD = r"""
# <target name> <source device> <key file> <options>

vda5_crypt UUID=9a1f3c1e-ABCD-4b6f-8f0a-3e1f5a7b9c0d none luks,discard,x-initrd.attach
  data  /dev/disk/by-id/virtio-data /etc/keys/data.key luks,nofail,keyfile-size=64
swap /dev/vda6 /dev/urandom swap,plain,cipher=aes-xts-plain64,size=512
a\040name LABEL="a/b c" - luks,tpm2-device=auto
"""


def entry(line: str) -> Entry:
    (found,) = crypttab.entries(line)
    return found


def test_good_lines_are_read() -> None:
    first, data, swap, named = crypttab.entries(GOOD.replace('"a/b c"', r"a/b\040c"))
    assert first == Entry(
        line=4,
        name="vda5_crypt",
        source="UUID=9a1f3c1e-ABCD-4b6f-8f0a-3e1f5a7b9c0d",
        key="none",
        options={"luks": "", "discard": "", "x-initrd.attach": ""},
    )
    assert first.device == "/dev/disk/by-uuid/9a1f3c1e-abcd-4b6f-8f0a-3e1f5a7b9c0d"
    assert [first.discard, data.discard] == [True, False]
    assert data.options["keyfile-size"] == "64"
    assert data.device == data.source == "/dev/disk/by-id/virtio-data"
    assert [it.plain for it in (first, data, swap, named)] == [False, False, True, False]
    assert named.name == "a name"
    assert named.device == r"/dev/disk/by-label/a\x2fb\x20c"
    assert crypttab.problems(GOOD.replace(' c"', '"')) == []


@pytest.mark.parametrize(
    ("fields", "kind", "files"),
    [
        ("", "ask", ("/etc/cryptsetup-keys.d/x.key", "/run/cryptsetup-keys.d/x.key")),
        ("none", "ask", ("/etc/cryptsetup-keys.d/x.key", "/run/cryptsetup-keys.d/x.key")),
        (
            "- fido2-device=auto",
            "token",
            ("/etc/cryptsetup-keys.d/x.key", "/run/cryptsetup-keys.d/x.key"),
        ),
        ("/etc/x.key luks", "file", ("/etc/x.key",)),
        (r"/etc/x\040y.key luks", "file", ("/etc/x y.key",)),
        ("/dev/urandom plain", "random", ()),
        ("/dev/disk/by-id/usb-key luks", "device", ()),
        ("/x.key:LABEL=stick luks", "elsewhere", ()),
        ("/x.key:/dev/sdc1 luks", "elsewhere", ()),
        ("/etc/x.gpg luks,keyscript=decrypt_gnupg", "script", ("/etc/x.gpg",)),
        ("/dev/sda5 luks,keyscript=decrypt_derived", "script", ()),
        ("sda5_crypt luks,keyscript=decrypt_derived", "script", ()),
    ],
)
def test_the_key_comes_from(fields: str, kind: str, files: tuple[str, ...]) -> None:
    found = entry(f"x /dev/sdb {fields}")
    assert (found.key_kind, found.key_files) == (kind, files)


def test_a_detached_header_is_named() -> None:
    assert entry("x /dev/sdb none luks,header=/boot/x.hdr").header == "/boot/x.hdr"
    assert entry("x /dev/sdb none luks").header == ""


@pytest.mark.parametrize(
    ("line", "device"),
    [
        ("x PARTUUID=0A-01 -", "/dev/disk/by-partuuid/0a-01"),
        ("x PARTLABEL=Data -", "/dev/disk/by-partlabel/Data"),
        ("x ID=virtio-x -", "/dev/disk/by-id/virtio-x"),
        ("x /images/x.img -", "/images/x.img"),
        ("x MADE=up -", "MADE=up"),
    ],
)
def test_sources_lead_to_devices(line: str, device: str) -> None:
    assert entry(line).device == device


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("x", "has 1 of the fields name, device, key file and options; a key"),
        ("x /dev/sdb", "has 2 of the fields"),
        ("x /dev/sdb none luks, discard", ": discard after the options is not read"),
        ("a/x /dev/sdb none luks", ": 'a/x' cannot be the name of a device in /dev/mapper"),
        ("x sdb none luks", ": 'sdb' is neither a path nor UUID, LABEL, PARTUUID, PARTLABEL, ID"),
        ("x /dev/sdb None luks", ": 'None' is no path of a key file"),
        ("x /dev/sdb none luks,plain,cipher=c,size=1", ": luks and plain exclude each other"),
        ("x /dev/sdb /dev/urandom luks", ": a key from /dev/urandom is another one at each boot"),
        ("x /dev/sdb /dev/urandom swap", ": plain dm-crypt needs cipher= and size="),
        ("x /dev/sdb none luks,discrad", ": there is no option 'discrad'; did you mean discard?"),
        ("x /dev/sdb none luks,zzz", ": there is no option 'zzz'"),
    ],
)
def test_each_problem_is_a_sentence(line: str, problem: str) -> None:
    (found,) = crypttab.problems(f"# first\n{line}\n")
    assert found.startswith(f"/etc/crypttab line 2{'' if problem[0] == ':' else ' '}{problem}")


def test_a_name_is_given_once() -> None:
    found = crypttab.problems("x /dev/sda none luks\nx /dev/sdb none luks\n")
    assert found == ["/etc/crypttab line 2: x is also the name in line 1"]


@pytest.mark.parametrize(
    ("text", "copied"),
    [
        ("KEYFILE_PATTERN=/etc/keys/*.key\n", ["/etc/keys/a.key"]),
        ('KEYFILE_PATTERN="/etc/keys/*.key /root/*" # both\n', ["/etc/keys/a.key", "/root/b"]),
        ("  export KEYFILE_PATTERN='/root/?'\n", ["/root/b"]),
        ("KEYFILE_PATTERN=/root/b\nKEYFILE_PATTERN=\n", []),
        ("#KEYFILE_PATTERN=/root/b\n", []),
        ('KEYFILE_PATTERN="/root/b\n', ["/root/b"]),
        ("", []),
    ],
)
def test_key_files_that_go_to_the_boot_partition(host: Any, text: str, copied: list[str]) -> None:
    host.put(crypttab.HOOK, text)
    assert crypttab.copied_to_initramfs(host, ["/etc/keys/a.key", "/root/b"]) == copied


# Hibernation --------------------------------------------------------------------------------------


def test_all_places_of_an_image_are_found(host: Any) -> None:
    host.put("/sys/power/state", "freeze mem disk\n")
    host.put("/sys/power/resume", "253:1\n")
    host.put("/proc/cmdline", "root=/dev/sda1 resume=UUID=AB-1 quiet\n")
    host.put("/etc/initramfs-tools/conf.d/resume", "# RESUME=none\nRESUME=/dev/mapper/swap\n")
    host.put("/etc/initramfs-tools/initramfs.conf", "RESUME=auto\n")
    assert hibernation.images(host) == [
        Image("253:1", "253:1", "/sys/power/resume"),
        Image("UUID=AB-1", "/dev/disk/by-uuid/ab-1", "/proc/cmdline"),
        Image("/dev/mapper/swap", "/dev/mapper/swap", "/etc/initramfs-tools/conf.d/resume"),
    ]


def test_a_host_that_cannot_hibernate_leaves_no_image(host: Any) -> None:
    host.put("/sys/power/state", "freeze mem\n")
    host.put("/proc/cmdline", "resume=/dev/sda5\n")
    assert hibernation.images(host) == []


def test_a_host_that_is_told_not_to_resume_leaves_no_image_there(host: Any) -> None:
    host.put("/sys/power/resume", "0:0\n")
    host.put("/proc/cmdline", "resume=/dev/sda5 noresume\n")
    assert hibernation.images(host) == []
