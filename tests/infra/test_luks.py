"""Disk encryption: what lies below what is mounted, and how the headers are."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from .asking import Look
from .files import named
from .pillars import Expected

FAMILY = "luks"
IN_MEMORY = ("tmpfs", "ramfs")
DUMPS = """lsblk -nrpo NAME,FSTYPE | awk '$2 == "crypto_LUKS" {print $1}' | sort -u |
while read -r it; do
  echo "== $it"
  if cryptsetup isLuks --type luks1 $it; then echo LUKS1
  else cryptsetup luksDump --dump-json-metadata $it 2>/dev/null || cryptsetup luksDump $it 2>&1
  fi
done"""
KEY_FILES = """awk '!/^#/ && $3 ~ "^/" {print $3}' /etc/crypttab | while read -r it; do
stat -c '%a %U %G %.Z %n|%F' $it; done 2>/dev/null"""


def look(wanted: Expected) -> dict[str, str]:
    volumes = wanted.baseline.families[FAMILY].settings["volumes"]
    mounts = " ".join(shlex.quote(it["mount"]) for it in volumes.values()) or "/nonexistent"
    devices = " ".join(shlex.quote(it["device"]) for it in volumes.values()) or "/nonexistent"
    return {
        "container": "systemd-detect-virt --container",
        "blocks": "lsblk -J -p -o NAME,TYPE,FSTYPE,MOUNTPOINTS",
        "temporary": "for it in /tmp /var/tmp; do"
        " echo $it $(findmnt -nro FSTYPE,SOURCE -T $it); done",
        "dumps": DUMPS,
        "keys": KEY_FILES,
        "volumes": f"for it in {devices}; do echo $it $(blkid -o value -s TYPE $it); done",
        "mounts": f"for it in {mounts}; do findmnt -nro TARGET,OPTIONS $it; done",
    }


def not_here(seen: Look) -> str:
    kind = seen["container"].text.strip()
    return "" if kind in ("", "none") else f"this host is a container ({kind}), which has no disks"


@dataclass(frozen=True)
class Block:
    """A block device, with all that it lies on."""

    name: str
    kind: str
    holds: str
    mounts: tuple[str, ...]
    below: tuple[Block, ...] = ()

    @property
    def encrypted(self) -> bool:
        return self.kind == "crypt" or any(it.encrypted for it in self.below)

    @property
    def names(self) -> set[str]:
        return {self.name}.union(*(it.names for it in self.below))


def blocks(seen: Look) -> list[Block]:
    assert not seen["blocks"].code, seen["blocks"].said

    def walk(entries: list[dict[str, Any]], below: tuple[Block, ...]) -> Iterator[Block]:
        for it in entries:
            mounts = tuple(path for path in it.get("mountpoints") or () if path)
            block = Block(it["name"], it["type"], it.get("fstype") or "", mounts, below)
            yield block
            yield from walk(it.get("children", []), (block,))

    return [
        it for it in walk(json.loads(seen["blocks"].text)["blockdevices"], ()) if it.kind != "rom"
    ]


def exempt(block: Block, settings: dict[str, Any]) -> bool:
    """Whether what is mounted need not be encrypted: by its device, or by all its places."""
    free = settings["exempt"]
    if block.names & free.keys():
        return True
    places = [path for path in free if path.startswith("/")]
    return bool(block.mounts) and all(
        mount in places or any(it != "/" and mount.startswith(f"{it}/") for it in places)
        for mount in block.mounts
    )


def headers(seen: Look) -> dict[str, dict[str, Any]]:
    """The metadata of headers of LUKS2 by device; empty for LUKS1."""
    found = {}
    for part in seen["dumps"].text.split("== ")[1:]:
        device, _, text = part.partition("\n")
        old = text.strip() == "LUKS1"
        assert old or text.strip().startswith("{"), f"{device}: {text.strip() or 'says nothing'}"
        found[device.strip()] = {} if old else json.loads(text)
    return found


@pytest.mark.controls("LUKS-001")
def test_what_is_mounted_is_encrypted(seen: Look, settings: dict[str, Any]) -> None:
    mounted = [it for it in blocks(seen) if any(path.startswith("/") for path in it.mounts)]
    bare = [it for it in mounted if not it.encrypted and not exempt(it, settings)]
    assert {it.name: it.mounts for it in bare} == {}


@pytest.mark.controls("LUKS-002")
def test_swap_is_encrypted(seen: Look, settings: dict[str, Any]) -> None:
    swap = [it for it in blocks(seen) if "[SWAP]" in it.mounts and "/zram" not in it.name]
    free = "swap" in settings["exempt"]
    assert [it.name for it in swap if not it.encrypted and not free] == []


@pytest.mark.controls("LUKS-003")
def test_members_are_encrypted(seen: Look, settings: dict[str, Any]) -> None:
    members = [it for it in blocks(seen) if it.holds in ("LVM2_member", "linux_raid_member")]
    bare = [it for it in members if not it.encrypted and not it.names & settings["exempt"].keys()]
    assert [it.name for it in bare] == []


@pytest.mark.controls("LUKS-004")
def test_temporary_folders(seen: Look, settings: dict[str, Any]) -> None:
    """An exempt / does not excuse them: they would have to be named themselves, or the disk."""
    known, free = {it.name: it for it in blocks(seen)}, settings["exempt"].keys()
    bare = []
    for line in seen["temporary"].lines:
        path, kind, source = (*line.split(), "", "")[:3]
        block = known.get(source.partition("[")[0])
        safe = block and (block.encrypted or block.names & free)
        if kind not in IN_MEMORY and path not in free and not safe:
            bare.append(line)
    assert bare == []


@pytest.mark.controls("LUKS-010")
def test_versions(seen: Look, settings: dict[str, Any]) -> None:
    if 1 in settings["versions"]:
        pytest.skip("LUKS1 is accepted, and has no metadata to look at")
    assert [device for device, it in headers(seen).items() if not it] == []


@pytest.mark.controls("LUKS-011")
def test_ciphers_and_keys(seen: Look, settings: dict[str, Any]) -> None:
    weak = []
    for device, it in headers(seen).items():
        used = [part["encryption"] for part in it.get("segments", {}).values()]
        slots = it.get("keyslots", {}).values()
        used += [slot["area"]["encryption"] for slot in slots]
        short = [slot for slot in slots if slot["key_size"] * 8 < settings["key_size"]]
        weak += [device] if short or set(used) - set(settings["ciphers"]) else []
    assert weak == []


@pytest.mark.controls("LUKS-012")
def test_guessing_costs_enough(seen: Look, settings: dict[str, Any]) -> None:
    cheap = []
    for device, it in headers(seen).items():
        for number, slot in it.get("keyslots", {}).items():
            kdf = slot["kdf"]
            if kdf["type"] == "pbkdf2":
                enough = kdf["iterations"] >= settings["pbkdf2_iterations"]
            else:
                enough = kdf["memory"] >= settings["argon2_memory"]
                enough &= kdf["time"] >= settings["argon2_time"]
            if kdf["type"] not in settings["pbkdfs"] or not enough:
                cheap.append(f"{device} slot {number}: {kdf['type']}")
    assert cheap == []


@pytest.mark.controls("LUKS-013")
def test_sectors(seen: Look, settings: dict[str, Any]) -> None:
    parts = [
        (d, part) for d, it in headers(seen).items() for part in it.get("segments", {}).values()
    ]
    least = settings["sector_size"]
    assert [d for d, part in parts if part["sector_size"] < least] == []
    assert not settings["integrity"] or all("integrity" in part for _, part in parts)


@pytest.mark.controls("LUKS-015")
def test_tokens(seen: Look, settings: dict[str, Any]) -> None:
    known = {*settings["tokens"], "rocksalt"}
    found = {
        it["type"] for head in headers(seen).values() for it in head.get("tokens", {}).values()
    }
    assert {it for it in found if it not in known and not it.startswith("rocksalt")} == set()


@pytest.mark.controls("LUKS-020")
def test_key_files_are_roots(seen: Look) -> None:
    files = named(seen["keys"])
    devices = ("character special file", "block special file")
    open_ = [path for path, it in files.items() if it.kind not in devices and it.mode & 0o077]
    assert open_ == [] and {it.owner for it in files.values()} <= {"root"}


@pytest.mark.controls("LUKS-040")
def test_volumes_are_on_their_devices(seen: Look, settings: dict[str, Any]) -> None:
    if not settings["volumes"]:
        pytest.skip("no volumes of customers are declared")
    assert [line for line in seen["volumes"].lines if line.split()[1:] != ["crypto_LUKS"]] == []


@pytest.mark.controls("LUKS-044", "LUKS-045")
def test_volumes_are_mounted_as_declared(
    seen: Look, settings: dict[str, Any], judged: set[str]
) -> None:
    if not settings["volumes"]:
        pytest.skip("no volumes of customers are declared")
    mounted = {line.split()[0]: line.split()[1].split(",") for line in seen["mounts"].lines}
    for volume in settings["volumes"].values():
        if "LUKS-044" in judged and volume.get("key_command"):
            assert volume["mount"] in mounted
        if "LUKS-045" in judged and volume["mount"] in mounted:
            assert {"nodev", "nosuid"} <= set(mounted[volume["mount"]])
