"""Second copies of headers: rocksalt.luks.image and rocksalt.luks.copies."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import io
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rocksalt.backup.crypto import age
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.luks import copies, headers, image
from rocksalt.luks.config import Customer, Volume

NOW = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.timezone.utc)
UUID = "2f1d3c4b-0000-4000-8000-000000000001"
DEVICE = "/dev/vdb"
SIZE, AREAS = 16384, 128 << 10


def binary(magic: bytes, size: int, metadata: bytes, algorithm: bytes = b"sha256") -> bytes:
    """One of the two headers of LUKS2."""
    header = bytearray(size)
    header[:6] = magic
    struct.pack_into(">HQ", header, 6, 2, size)
    header[72 : 72 + len(algorithm)] = algorithm
    header[4096 : 4096 + len(metadata)] = metadata
    header[448:480] = hashlib.sha256(header).digest()
    return bytes(header)


def second(slots: dict[str, tuple[int, int]], **changes: Any) -> bytearray:
    """A disk with a header of LUKS2, all else full of what was there before."""
    areas = {n: {"area": {"offset": str(at), "size": str(size)}} for n, (at, size) in slots.items()}
    value = {"keyslots": areas, "config": {"keyslots_size": str(AREAS)}, **changes}
    text = json.dumps(value).encode()
    disk = bytearray(b"\xaa" * (1 << 20))
    disk[:SIZE] = binary(b"LUKS\xba\xbe", SIZE, text)
    disk[SIZE : 2 * SIZE] = binary(b"SKUL\xba\xbe", SIZE, text)
    return disk


def first(active: list[int]) -> bytearray:
    """A disk with a header of LUKS1 with these slots, all else full of what was there before."""
    disk = bytearray(b"\xaa" * (1 << 20))
    disk[:592] = bytes(592)
    disk[:8] = b"LUKS\xba\xbe\x00\x01"
    struct.pack_into(">I", disk, 108, 64)
    for number in range(8):
        state = 0x00AC71F3 if number in active else 0x0000DEAD
        struct.pack_into(
            ">II32sII", disk, 208 + 48 * number, state, 1000, b"", 8 + 16 * number, 125
        )
    return disk


def test_the_image_has_the_slots_in_use_and_nothing_else():
    disk = second({"0": (2 * SIZE, 4096), "3": (2 * SIZE + 8192, 4096)})
    found = image.take(io.BytesIO(disk))
    assert len(found) == 2 * SIZE + AREAS
    assert found[: 2 * SIZE] == disk[: 2 * SIZE]
    areas = found[2 * SIZE :]
    used = {0, 2}
    for page in range(AREAS // 4096):
        content = areas[page * 4096 : (page + 1) * 4096]
        assert content == (b"\xaa" if page in used else b"\0") * 4096


def test_the_image_of_the_old_format():
    disk = first([1])
    found = image.take(io.BytesIO(disk))
    begin, used = (8 + 16) * 512, -(-64 * 125 // 512) * 512
    assert found[:1024] == disk[:1024]
    assert found[begin : begin + used] == b"\xaa" * used
    assert set(found[1024:begin] + found[begin + used :]) == {0}
    assert len(found) % 4096 == 0 and len(found) >= (8 + 16 * 7) * 512 + used


@pytest.mark.parametrize(
    ("disk", "at"), [(second({"3": (2 * SIZE + 8192, 4096)}), 2 * SIZE + 9000), (first([1]), 12300)]
)
def test_the_material_of_key_slots(disk: bytearray, at: int):
    before = image.material(image.take(io.BytesIO(disk)))
    assert len(before) == 1
    damage = bytearray(disk)
    damage[at] ^= 1
    after = image.material(image.take(io.BytesIO(damage)))
    assert before.keys() == after.keys()
    assert before != after


def test_the_material_is_that_of_what_opens_data():
    disk = second({"0": (2 * SIZE, 4096)})
    assert image.material(image.take(io.BytesIO(disk)))
    slot = {"type": "reencrypt", "area": {"offset": str(2 * SIZE), "size": "4096"}}
    disk = second({}, keyslots={"0": slot})
    assert image.material(image.take(io.BytesIO(disk))) == {}


def damaged(at: int, to: int = 0x55) -> bytearray:
    disk = second({"0": (2 * SIZE, 4096)})
    disk[at] = to
    return disk


@pytest.mark.parametrize(
    ("disk", "words"),
    [
        (bytearray(1 << 20), "no header"),
        (bytearray(100), "cut off"),
        (second({"0": (2 * SIZE, 4096)})[: 2 * SIZE + 2048], "cut off"),
        (second({"0": (2 * SIZE, 4096)})[:SIZE], "cut off"),
        (damaged(5000), "cryptsetup repair"),
        (damaged(SIZE + 5000), "cryptsetup repair"),
        (damaged(SIZE), "cryptsetup repair"),
        (damaged(80), "cryptsetup repair"),
        (damaged(7, 3), "no header"),
        (damaged(8), "its size is none"),
        (second({"0": (2 * SIZE + AREAS, 4096)}), "outside"),
        (second({"0": (-4096, 4096)}), "outside"),
        (second({}, config={}), "cannot be read"),
        (second({}, keyslots=7), "cannot be read"),
        (second({}, config={"keyslots_size": str(1 << 40)}), "256 MiB"),
    ],
)
def test_what_is_no_whole_header(disk, words):
    with pytest.raises(Refused, match=words):
        image.take(io.BytesIO(disk))


class Site:
    """A host with one encrypted disk, and who may restore its header."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.host = Host(str(folder))
        (folder / "dev").mkdir()
        self.disk = second({"0": (2 * SIZE, 4096)})
        self.write()
        self.header: headers.Header | None = headers.Header(
            DEVICE, DEVICE, 2, UUID, digest="digest"
        )
        self.identity, self.recipient = age.generate()
        monkeypatch.setattr(headers, "read", lambda *_: self.header)

    def write(self) -> None:
        self.host.path(DEVICE).write_bytes(self.disk)

    def back_up(self, **changes: Any) -> copies.Copy:
        return copies.back_up(self.host, DEVICE, [self.recipient], NOW, **changes)

    def restored(self) -> bytes:
        sealed = io.BytesIO(copies.content(self.host, UUID))
        packed = age.Reader(sealed, age.identities(self.identity)).readall()
        assert packed is not None
        return gzip.decompress(packed)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


def test_a_copy_is_what_its_recipient_can_restore(site):
    copy = site.back_up(volume="data", customer="acme")
    assert site.restored() == image.take(io.BytesIO(site.disk))
    assert copies.copies(site.host) == {UUID: copy}
    assert (copy.volume, copy.customer, copy.digest) == ("data", "acme", "digest")
    assert copy.recipients == (age.fingerprint(site.recipient),)
    assert (copy.time, copy.kept) == ("2026-11-22T12:00:00Z", None)


def test_the_copy_of_a_volume_is_made_anew_after_a_change(site):
    volume = Volume("data", Customer("acme", (site.recipient,)), DEVICE, "/srv/data")
    wanted = {"header_backups": True}
    assert copies.renewed(site.host, wanted, volume, NOW) == []
    (copy,) = copies.copies(site.host).values()
    assert (copy.volume, copy.customer, copy.digest) == ("data", "acme", "digest")
    later = NOW + dt.timedelta(days=1)
    assert copies.renewed(site.host, wanted, volume, later) == []
    assert copies.copies(site.host)[UUID] == copy, "the header is as it was"
    site.header = replace(site.header, digest="another")
    assert copies.renewed(site.host, {"header_backups": False}, volume, later) == []
    assert copies.copies(site.host)[UUID] == copy, "nobody wants copies"
    assert copies.renewed(site.host, wanted, volume, later) == []
    assert copies.copies(site.host)[UUID].digest == "another"


def test_a_copy_that_fails_undoes_nothing(site):
    volume = Volume("data", Customer("acme", (site.recipient,)), DEVICE, "/srv/data")
    site.header = None
    assert copies.renewed(site.host, {"header_backups": True}, volume, NOW) == [
        "the copy of the header is not made anew: /dev/vdb: has no header of LUKS"
    ]


def test_it_is_roots_alone(site):
    site.back_up()
    for path in (copies.FOLDER, f"{copies.FOLDER}/{UUID}.age", f"{copies.FOLDER}/{UUID}.json"):
        assert site.host.path(path).stat().st_mode & 0o077 == 0


def test_it_is_small(site):
    assert site.back_up().size < 2 * SIZE


def test_what_is_zero_is_packed_once(monkeypatch):
    """The header of a volume is 16 MiB, of which hardly one is used."""
    packed, compress = [], gzip.compress
    monkeypatch.setattr(image.gzip, "compress", lambda it, **how: packed.append(it) or compress(it))
    header = b"header" + bytes(16 << 20)
    assert gzip.decompress(image.packed(header)) == header
    assert sum(map(len, packed)) < 3 << 20


def test_a_damaged_copy_is_none(site):
    site.back_up()
    path = site.host.path(f"{copies.FOLDER}/{UUID}.age")
    path.write_bytes(path.read_bytes() + b"x")
    assert copies.copies(site.host) == {}
    with pytest.raises(Refused, match="no copy of a header"):
        copies.content(site.host, UUID)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"uuid": 1}', '{"uuid": "../../etc/shadow"}'])
def test_a_damaged_record_is_none(site, text):
    site.back_up()
    site.host.path(f"{copies.FOLDER}/{UUID}.json").write_text(text)
    assert copies.copies(site.host) == {}


def test_a_record_leads_to_no_other_file(site):
    copy = site.back_up()
    path = site.host.path(f"{copies.FOLDER}/other.json")
    site.host.path(f"{copies.FOLDER}/{UUID}.json").rename(path)
    assert copies.copies(site.host) == {}
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, "uuid": "other"}))
    assert copies.copies(site.host) == {}
    assert copy.path == f"{copies.FOLDER}/{UUID}.age"


def test_where_it_is_kept(site):
    copy = site.back_up()
    assert copies.note_kept(site.host, UUID, copy.sha256, "master1", NOW)
    kept = {"where": "master1", "time": "2026-11-22T12:00:00Z"}
    assert copies.copies(site.host)[UUID] == replace(copy, kept=kept)


def test_what_was_fetched_is_no_longer_the_copy_of_today(site):
    old = site.back_up()
    site.back_up()
    assert not copies.note_kept(site.host, UUID, old.sha256, "master1", NOW)
    assert not copies.note_kept(site.host, "other", old.sha256, "master1", NOW)
    assert copies.copies(site.host)[UUID].kept is None


def test_a_copy_that_is_made_again_of_the_same_header_is_kept_elsewhere(site):
    copies.note_kept(site.host, UUID, site.back_up().sha256, "master1", NOW)
    assert site.back_up().kept == {"where": "master1", "time": "2026-11-22T12:00:00Z"}
    more = [site.recipient, age.generate()[1]]
    assert copies.back_up(site.host, DEVICE, more, NOW).kept is None, "not for these readers"
    site.header = replace(site.header, digest="another")
    assert site.back_up().kept is None, "nor this header"


def test_a_copy_never_gives_way_to_damaged_key_slots(site):
    before = site.back_up()
    good, kept = site.restored(), copies.content(site.host, UUID)
    site.disk[2 * SIZE + 100] ^= 1
    site.write()
    for digest in ("digest", "another"):
        site.header = replace(site.header, digest=digest)
        with pytest.raises(Refused, match="/dev/vdb: key slots in its header are damaged since"):
            site.back_up()
    assert (site.restored(), copies.content(site.host, UUID)) == (good, kept)
    assert before.damaged(copies.material(site.host, site.header))
    site.host.path(before.path).write_bytes(b"damaged as well")
    with pytest.raises(Refused, match=f"or take {copies.FOLDER}/{UUID}.json away"):
        site.back_up()
    site.host.path(f"{copies.FOLDER}/{UUID}.json").unlink()
    assert not site.back_up().damaged(copies.material(site.host, site.header))


def test_other_key_slots_are_no_damage(site):
    before = site.back_up()
    site.disk = second({"1": (2 * SIZE + 4096, 4096)})
    site.write()
    site.header = replace(site.header, digest="another")
    assert site.back_up().material != before.material


def test_the_copy_before_the_last_change_stays(site):
    first_copy = site.back_up()
    data = copies.content(site.host, UUID)
    site.header = replace(site.header, digest="another")
    for _ in range(3):
        site.back_up()
        aside = site.host.path(f"{copies.FOLDER}/{UUID}.1.age")
        assert aside.read_bytes() == data
        assert aside.stat().st_mode & 0o077 == 0
    record = json.loads(site.host.path(f"{copies.FOLDER}/{UUID}.1.json").read_text())
    assert record["digest"] == first_copy.digest
    assert copies.copies(site.host).keys() == {UUID}


def test_a_header_that_changes_meanwhile(site, monkeypatch):
    site.back_up()
    before = copies.copies(site.host)
    digests = iter(["one", "two"])
    assert site.header is not None
    header = site.header
    monkeypatch.setattr(headers, "read", lambda *_: replace(header, digest=next(digests)))
    with pytest.raises(Refused, match="changed while it was copied"):
        site.back_up()
    assert copies.copies(site.host) == before


def test_what_cannot_be_copied(site):
    with pytest.raises(Refused, match="nobody is named"):
        copies.back_up(site.host, DEVICE, [], NOW)
    site.disk[5000] = 1
    site.write()
    with pytest.raises(Refused, match=r"/dev/vdb: .*cryptsetup repair"):
        site.back_up()
    site.host.path(DEVICE).unlink()
    with pytest.raises(Refused, match="/dev/vdb: cannot be read"):
        site.back_up()
    site.header = None
    with pytest.raises(Refused, match="/dev/vdb: has no header"):
        site.back_up()
    assert copies.copies(site.host) == {}
