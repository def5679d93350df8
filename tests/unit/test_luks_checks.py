"""rocksalt.luks.family: what each control expects of a host, and what was seen."""

from __future__ import annotations

import dataclasses

import pytest
from block_devices import machine
from luks_hosts import (
    ACME,
    BACKUP,
    LATER,
    OPERATOR,
    USER,
    baseline,
    comparison,
    own,
    volume,
)

from rocksalt.backup.crypto import age
from rocksalt.blocks import Device, Mount, Signature
from rocksalt.findings import judge
from rocksalt.luks import config, copies, crypttab, program
from rocksalt.luks.family import checks, receiving, status
from rocksalt.luks.family.reading import Headers
from rocksalt.luks.family.setup import HOME
from rocksalt.luks.headers import Header, Segment, Slot
from rocksalt.luks.keys import Key
from rocksalt.luks.tables import Table, Target
from rocksalt.luks.volumes import states, wrapping
from rocksalt.luks.volumes.states import State
from rocksalt.luks.volumes.wrapping import Token

UUID = "00000000-0000-4000-8000-000000000003"
SLOT = Slot("luks2", 512, "aes-xts-plain64", 512, "argon2id", 65536, 4, 2, digest="d0")
HEADER = Header(
    *("/dev/sda1", "/dev/sda1", 2, UUID),
    segments=(Segment("crypt", "aes-xts-plain64", 16777216),),
    slots={0: SLOT},
    key_size=512,
    digest="h0",
)
WRAPPED = wrapping.wrap(Key(b"k" * 64), config.Customer("acme", (ACME,)))
TOKEN = Token(0, (0,), "data", "acme", (age.fingerprint(ACME),), "d0", WRAPPED, "2026-11-22")
MADE = State(states.CLOSED, device="/dev/sdb", header=HEADER, slots={0: "x"}, tokens=(TOKEN,))
OPEN = dataclasses.replace(
    MADE,
    condition=states.OPEN,
    mapping=Device("dm-1", "252:1", "/dev/mapper/data", 1, "crypt"),
    mounts=(Mount(40, 30, "252:1", "/srv/data", "ext4", "/dev/mapper/data", "rw"),),
)


@pytest.fixture(autouse=True)
def library(monkeypatch):
    monkeypatch.setattr(program, "sources", lambda: {"rocksalt/__init__.py": b""})


@pytest.fixture
def disks(host):
    """/dev/sda1 and /dev/sdb, each encrypted, and /dev/sdc, which is not."""
    made = machine(host.path("/"))
    made.disk("sdc", "8:32")
    return made


@pytest.fixture
def look(shipped, host, disks):
    """The comparison: with headers by the number of the device, and states of the volume data."""

    def call(settings=None, known=None, volumes=None, **pillar):
        it = comparison(shipped, host, settings, **pillar)
        vars(it.reading)["signatures"] = {}
        vars(it.reading)["tables"] = {}
        vars(it.reading)["headers"] = Headers(known or {})
        if settings and "volumes" in settings:
            vars(it.customers)["looks"] = volumes or {"data": MADE}
        return it

    return call


def findings(it):
    found = judge(it.setup.baseline, "luks", it.expected(), it.seen())
    return {finding["id"]: finding for finding in found}


def reason(it, identifier):
    """Why a control does not hold; empty where it does."""
    finding = findings(it)[identifier]
    return finding["reason"] if finding["status"] != "ok" else ""


def wrong(it):
    return {i for i, finding in findings(it).items() if finding["status"] != "ok"}


# The family as a whole ----------------------------------------------------------------------------


def test_every_control_has_a_check(shipped):
    assert set(checks.CHECKS) == set(shipped["luks"].controls)


def test_a_host_without_luks_has_nothing_to_promise(look):
    it = look()
    assert wrong(it) == set()
    assert findings(it)["LUKS-040"]["actual"] == "no volumes of customers on this host"


def test_a_host_without_luks_starts_no_program_but_blkid(shipped, host):
    made = comparison(shipped, host)
    for folder in ("proc/self", "sys/dev/block"):
        host.path(f"/{folder}").mkdir(parents=True)
    host.put("/proc/self/mountinfo", "30 1 0:1 / / rw shared:1 - tmpfs none rw\n")
    assert wrong(made) == set()
    assert host.ran == []
    assert made.packages() == []


def test_a_container_is_not_looked_at(shipped, host):
    host.put("/run/systemd/container", "lxc\n")
    it = comparison(shipped, host)
    found = findings(it)
    assert {found[i]["status"] for i in checks.ABOUT_DISKS} == {"skipped"}
    assert "(lxc): the disks are those of its host" in found["LUKS-001"]["reason"]
    assert {found[i]["status"] for i in set(found) - checks.ABOUT_DISKS} == {"ok"}
    assert host.ran == []
    assert it.packages() == []
    assert status.status(it) == {
        "devices": "those of the host of this container (lxc)",
        "exempt": it.setup.settings["exempt"],
        "volumes": {},
    }


def test_what_cannot_be_looked_at_is_an_error(shipped, host):
    found = findings(comparison(shipped, host))
    assert found["LUKS-001"]["status"] == "error"
    assert "/sys/dev/block cannot be read" in found["LUKS-001"]["reason"]


def test_a_header_that_cannot_be_read_is_no_good_one(look):
    it = look()
    vars(it.reading)["headers"] = Headers({}, ("cryptsetup is not installed",))
    found = findings(it)
    for identifier in ("LUKS-010", "LUKS-016", "LUKS-030", "LUKS-031", "LUKS-047"):
        assert found[identifier]["status"] == "error"
        assert found[identifier]["reason"] == "cryptsetup is not installed"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/etc/crypttab", "a /dev/sda1 none luks\n"),
        ("/run/udev/data/b8:1", "S:disk/by-uuid/x\nE:ID_FS_TYPE=crypto_LUKS\n"),
        ("/sys/block/dm-3/dm/uuid", "CRYPT-PLAIN-swap\n"),
    ],
)
def test_what_a_host_needs(shipped, host, path, text):
    """Asked while states are rendered: nothing is started, and nothing raises."""
    it = comparison(shipped, host)
    assert it.packages() == []
    host.put("/run/udev/data/b8:2", "E:ID_FS_TYPE=ext4\n")
    host.put("/sys/block/dm-1/dm/uuid", "LVM-x\n")
    host.put("/etc/crypttab", "# nothing\n")
    assert it.packages() == []
    host.put(path, text)
    assert it.packages() == ["cryptsetup-bin"]
    assert host.ran == []


def test_settings_that_make_no_sense_need_nothing(shipped, host):
    assert comparison(shipped, host, own(data=volume(customer="nobody"))).packages() == []


def test_one_file_makes_no_container(look, host, disks):
    host.put("/.dockerenv")
    disks.mount("/srv", "8:32")
    found = findings(look())
    assert found["LUKS-001"]["status"] == "drift"
    assert "skipped" not in {finding["status"] for finding in found.values()}


def test_what_is_exempt_stands_beside_what_is_not(look, disks):
    disks.mount("/boot", "8:32")
    disks.partition("sdc1", "8:33", "sdc")
    exempt = {"/boot": "for the loader", "/away": "no longer"}
    assert reason(look({"exempt": exempt}), "LUKS-001") == ""
    disks.mount("/srv", "8:33")
    found = reason(look({"exempt": exempt}), "LUKS-001")
    assert found.startswith("/srv (ext4 on /dev/sdc1")
    assert found.endswith("not encrypted; exempt: /boot (for the loader)")


def test_weak_settings_are_below_the_floor(shipped):
    weak = {
        "versions": ([1, 2], "LUKS-010"),
        "ciphers": (["aes-cbc-essiv:sha256"], "LUKS-011"),
        "key_size": (128, "LUKS-011"),
        "pbkdfs": (["argon2id", "pbkdf2"], "LUKS-012"),
        "argon2_memory": (1024, "LUKS-012"),
        "argon2_time": (1, "LUKS-012"),
        "pbkdf2_iterations": (1000, "LUKS-012"),
        "header_backups": (False, "LUKS-030"),
        "header_backup_days": (366, "LUKS-030"),
        "handover_minutes": (1440, "LUKS-046"),
        "discard": (True, "LUKS-022"),
        "tokens": (["clevis", "mine"], "LUKS-015"),
    }
    for setting, (value, identifier) in weak.items():
        family = baseline(shipped, {setting: value}).families["luks"]
        assert f"hardening:luks:{setting} is " in family.below_floor(family.controls[identifier])


# crypttab -----------------------------------------------------------------------------------------


def tab(host, line):
    host.put(crypttab.PATH, f"{line}\n")


@pytest.mark.parametrize(
    ("mode", "owner", "why"),
    [
        (0o400, "root", ""),
        (0o600, "root", ""),
        (0o640, "root", "/etc/keys/a is root:root 0640, expected root alone"),
        (0o400, "ann", "/etc/keys/a is ann:ann 0400, expected root alone"),
    ],
)
def test_who_reads_a_key_file(look, host, mode, owner, why):
    tab(host, "a /dev/sda1 /etc/keys/a luks")
    host.put("/etc/keys/a", "secret", mode, owner)
    assert reason(look(), "LUKS-020") == why


@pytest.mark.parametrize("path", ["/home/ann/key", "/etc/keys/link"])
def test_a_key_file_that_somebody_can_exchange(look, host, path):
    """In a folder of somebody else, or behind a link that leads through one."""
    tab(host, f"a /dev/sda1 {path} luks")
    host.put("/home/ann/key", "secret", 0o400)
    host.path("/etc/keys").mkdir(parents=True)
    host.path("/etc/keys/link").symlink_to("../../home/ann/../ann/key")
    assert reason(look(), "LUKS-020") == ""
    host.owners["/home/ann"] = "ann"
    finding = findings(look())["LUKS-020"]
    assert "0400 below /home/ann (ann:ann 0755), where others can exchange" in finding["reason"]
    assert finding["remedy"] == "manual"


def test_key_files_that_are_none(look, host):
    tab(host, "a /dev/sda1 /etc/keys/away luks\nb /dev/sdb /dev/urandom swap\nc /dev/sdb none luks")
    assert look().boot.key_files() == []


def test_a_key_file_on_a_disk_in_the_clear(look, host, disks):
    tab(host, "a /dev/sda1 /etc/keys/a luks")
    host.put("/etc/keys/a", "secret", 0o400)
    assert reason(look(), "LUKS-021") == "", "the root is in memory"
    disks.mount("/etc", "8:32")
    assert reason(look(), "LUKS-021") == "/etc/keys/a lies on /dev/sdc, not encrypted"


def test_a_key_on_a_stick_is_kept_apart(look, host, disks):
    disks.disk("sdd", "8:48", removable="1")
    tab(host, "a /dev/sda1 /key:/dev/sdd luks")
    assert reason(look(), "LUKS-021") == ""
    tab(host, "a /dev/sda1 /key:/dev/sdc luks")
    assert reason(look(), "LUKS-021") == "the key of a lies on /dev/sdc, not encrypted"


def crypt(name="the-dm-0", number="252:0", *options):
    words = ("aes-xts-plain64", "0" * 128, "0", "8:1", "32768", str(len(options)), *options)
    uuid = f"CRYPT-LUKS2-{UUID.replace('-', '')}-{name}"
    return Table(name, number, uuid, (Target(0, 32768, "crypt", words),))


def test_discards(look, host):
    tab(host, "a /dev/sda1 none luks,discard")
    it = look()
    vars(it.reading)["tables"] = {"252:0": crypt("the-dm-0", "252:0", "allow_discards")}
    assert it.boot.discards() == [
        "/etc/crypttab line 1: a has the option discard",
        "the-dm-0 is open and passes on which blocks are free",
    ]
    decided = look({"discard": True})
    vars(decided.reading)["tables"] = vars(it.reading)["tables"]
    assert decided.boot.discards() == []


def test_a_volume_decides_for_itself_about_discards(look):
    it = look(own(data=volume(discard=True)))
    vars(it.reading)["tables"] = {"252:0": crypt("data", "252:0", "allow_discards")}
    assert it.boot.discards() == []


@pytest.mark.parametrize(
    ("line", "fstab", "words"),
    [
        ("a /dev/sda1 none luks", "", ""),
        ("a /dev/sdz none luks", "", "a is to be opened, and there is no /dev/sdz"),
        ("a /dev/sdz none luks,nofail", "", ""),
        ("a /dev/sda1 none luks,nofail", "/dev/mapper/a /srv ext4", "belongs to /srv is written"),
        ("a /dev/sda1 none luks,noauto", "/dev/mapper/a /srv ext4", "with noauto the host starts"),
        ("a /dev/sda1 none luks,nofail", "/dev/mapper/a none swap sw", ""),
        (
            "a /dev/sda1 /dev/urandom swap,nofail,cipher=aes-xts-plain64,size=512",
            "/dev/mapper/a /srv ext4",
            "",
        ),
    ],
)
def test_lines_of_crypttab(look, host, line, fstab, words):
    tab(host, line)
    host.put("/etc/fstab", f"# what\n{fstab}\n")
    found = reason(look(), "LUKS-023")
    assert words in found
    assert bool(words) == bool(found)


def test_a_volume_of_a_customer_is_not_opened_at_boot(look, host):
    tab(host, "data /dev/sda1 none luks")
    assert "data is a volume of a customer" in reason(look(own()), "LUKS-023")


# Second copies of headers -------------------------------------------------------------------------


def copy(**changes):
    good = {
        "uuid": UUID, "device": "/dev/sda1", "digest": "h0", "time": "2026-11-20T12:00:00Z",
        "recipients": (age.fingerprint(OPERATOR),), "sha256": "s", "size": 1,
        "kept": {"where": "master", "time": "2026-11-21T12:00:00Z"},
    }  # fmt: skip
    return copies.Copy(**{**good, **changes})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"digest": "other"}, "/dev/sda1: its header is not as it was on 2026-11-20T12:00:00Z"),
        ({"time": "2026-09-01T00:00:00Z"}, "/dev/sda1: the copy of its header is 82 days old"),
        ({"recipients": ("other",)}, "is not encrypted to those who are declared"),
    ],
)
def test_the_copy_of_a_header(look, monkeypatch, changes, why):
    monkeypatch.setattr(copies, "copies", lambda host: {UUID: copy(**changes)})
    found = reason(look({}, {"8:1": HEADER}, **BACKUP), "LUKS-030")
    assert why in found
    assert bool(why) == bool(found)


def test_a_header_without_copy(look):
    it = look({}, {"8:1": HEADER}, **BACKUP)
    assert reason(it, "LUKS-030") == "/dev/sda1: its header has no second copy"
    assert findings(it)["LUKS-030"]["remedy"] == "state"


def test_a_copy_that_nobody_could_read_is_not_made(look):
    finding = findings(look({}, {"8:1": HEADER}))["LUKS-030"]
    assert finding["reason"].endswith("name hardening:backup:recipients")
    assert finding["remedy"] == "manual"


def test_a_good_copy_does_not_give_way_to_a_header_without_keys(look, monkeypatch):
    monkeypatch.setattr(copies, "copies", lambda host: {UUID: copy()})
    erased = dataclasses.replace(HEADER, slots={}, digest="erased")
    finding = findings(look({}, {"8:1": erased}, **BACKUP))["LUKS-030"]
    assert finding["reason"].endswith("has no key slot left")
    assert finding["remedy"] == "manual"


def test_the_copy_of_a_volume_does_not_give_way_to_a_header_with_a_stranger(look, host):
    stable(host)
    header = dataclasses.replace(theirs(), slots={0: SLOT, 1: SLOT})
    finding = findings(look(own(), {"8:16": header}))["LUKS-030"]
    assert "has key slots that are not the customer's" in finding["reason"]
    assert finding["remedy"] == "manual"


def test_no_copies_are_wanted(look):
    it = look({"header_backups": False}, {"8:1": HEADER})
    assert it.copying.missing() == []
    assert "hardening:luks:header_backups is False" in reason(it, "LUKS-030")


def test_a_copy_that_is_on_this_host_alone(look, monkeypatch):
    monkeypatch.setattr(copies, "copies", lambda host: {UUID: copy(kept=None)})
    assert reason(look({}, {"8:1": HEADER}, **BACKUP), "LUKS-031") == "/dev/sda1"
    monkeypatch.setattr(copies, "copies", lambda host: {UUID: copy()})
    assert reason(look({}, {"8:1": HEADER}, **BACKUP), "LUKS-031") == ""


def theirs(label="data", customer="acme"):
    token = {
        "type": "rocksalt", "keyslots": ["0"], "volume": label, "customer": customer,
        "recipients": [], "slot": "d0", "wrapped": "", "created": "2026",
    }  # fmt: skip
    return dataclasses.replace(
        HEADER, device="/dev/sdb", file="/dev/sdb", label=label, tokens={0: token}
    )


def stable(host, name="virtio-data", device="sdb"):
    host.path(f"/dev/disk/by-id/{name}").symlink_to(f"../../{device}")


def test_the_header_of_a_volume_is_copied_to_its_customer_alone(look, host):
    stable(host)
    (owned,) = look(own(), {"8:16": theirs()}, **BACKUP).copying.owned()
    assert (owned.volume.name, owned.recipients) == ("data", (ACME,))


def test_volumes_of_nobody(look, host):
    stable(host)
    assert reason(look(own(), {"8:16": theirs()}), "LUKS-047") == ""
    for known in ({"8:16": theirs("old", "globex")}, {"8:1": theirs("data")}):
        it = look(own(), known)
        assert "which is not declared here" in reason(it, "LUKS-047")
        assert it.copying.owned() == [], "nobody could read a copy"
    assert reason(look({}, {"8:16": theirs("old", "globex")}), "LUKS-047") == (
        "/dev/sdb has the volume old of globex, which is not declared here"
    )


# Volumes of customers -----------------------------------------------------------------------------

VOLUMES = {"LUKS-040", "LUKS-041", "LUKS-042", "LUKS-043", "LUKS-044", "LUKS-045"}


def one(look, state, **more):
    """The controls about volumes that do not hold, with a volume in this state."""
    it = look(own(data=volume(**more)), volumes={"data": state})
    return {i: reason(it, i) for i in VOLUMES & wrong(it)}


def changed(state=MADE, **changes):
    return dataclasses.replace(state, **changes)


def test_a_volume_that_is_there(look):
    assert one(look, MADE) == {}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State(states.MISSING, "/dev/x does not exist"), "is not there: /dev/x does not exist"),
        (State(states.EMPTY), "is not made yet: /dev/disk/by-id/virtio-data is empty"),
        (State(states.OTHER, "/dev/x has ext4"), "is not there: /dev/x has ext4"),
    ],
)
def test_a_volume_that_is_not_there(look, state, words):
    found = one(look, state)
    assert words in found["LUKS-040"]
    assert {*found} == (
        {"LUKS-040"} if state.condition == states.EMPTY else {"LUKS-040", "LUKS-041", "LUKS-042"}
    )


@pytest.mark.parametrize(
    ("state", "blind"),
    [
        ("the header of /dev/x is damaged", VOLUMES),
        (State(states.OTHER, "/dev/x has ext4"), {"LUKS-041", "LUKS-042"}),
        (State(states.BEGUN, "it was written in part"), {"LUKS-041", "LUKS-042"}),
        (State(states.MISSING, "/dev/x does not exist"), {"LUKS-041", "LUKS-042"}),
    ],
)
def test_what_could_not_be_looked_at_is_never_right(look, state, blind):
    found = findings(look(own(), volumes={"data": state}))
    for identifier in blind:
        assert found[identifier]["status"] == "error"
        assert (state if isinstance(state, str) else state.what) in found[identifier]["reason"]


def test_another_header_may_have_the_key_of_somebody_else(look):
    other = State(states.OTHER, "/dev/x has another header", header=HEADER)
    found = findings(look(own(), volumes={"data": other}))
    assert found["LUKS-041"]["status"] == "drift"
    assert found["LUKS-041"]["reason"].endswith("its customer's: /dev/x has another header")


def test_one_volume_that_could_not_be_looked_at_beside_one_that_is_wrong(look):
    settings = own(a=volume("a"), b=volume("b"))
    it = look(settings, volumes={"a": "damaged", "b": State(states.EMPTY)})
    finding = findings(it)["LUKS-040"]
    assert finding["status"] == "drift"
    assert "a cannot be looked at: damaged" in finding["reason"]
    assert "b is not made yet" in finding["reason"]


def test_a_creation_that_was_interrupted(look):
    found = one(look, State(states.BEGUN, "it was interrupted", pending="it was interrupted"))
    assert set(found) == {"LUKS-040", "LUKS-041", "LUKS-042", "LUKS-043"}


def test_a_key_that_is_not_the_customer_s(look):
    assert one(look, changed(strangers=("key slot 1 has a key that is not the customer's",))) == {
        "LUKS-041": "data is not its customer's alone: key slot 1 has a key that is not the "
        "customer's"
    }


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ([ACME, LATER], "1 that is not declared can"),
        ([LATER], "1 of 1 declared public keys cannot unwrap it, and 1 that is not declared can"),
    ],
)
def test_a_key_that_others_can_unwrap(look, there, words):
    names = tuple(map(age.fingerprint, there))
    wrapped = wrapping.wrap(Key(b"k" * 64), config.Customer("acme", tuple(there)))
    token = dataclasses.replace(TOKEN, recipients=names, wrapped=wrapped)
    assert one(look, changed(tokens=(token,))) == {
        "LUKS-042": f"data has a key to wrap anew: {words}"
    }


@pytest.mark.parametrize(
    ("wrapped", "words"),
    [
        (
            wrapping.wrap(Key(b"k" * 64), config.Customer("acme", (ACME, LATER))),
            "token 0 has a key wrapped to 2 public keys, and names 1",
        ),
        (b"age", "token 0 has no wrapped key, but something else"),
    ],
)
def test_a_token_that_does_not_say_who_can_unwrap_the_key(look, wrapped, words):
    token = dataclasses.replace(TOKEN, wrapped=wrapped)
    found = one(look, changed(tokens=(token,)))
    assert words in found["LUKS-042"]


def test_a_header_without_wrapped_key(look):
    assert "has no wrapped key" in one(look, changed(tokens=()))["LUKS-042"]


@pytest.mark.parametrize(("needs_key", "remedy"), [(False, "state"), (True, "manual")])
def test_what_is_half_done(look, needs_key, remedy):
    state = changed(pending="its rotation was interrupted", needs_key=needs_key)
    it = look(own(), volumes={"data": state})
    finding = findings(it)["LUKS-043"]
    assert finding["reason"] == "data is not settled: its rotation was interrupted"
    assert finding["remedy"] == remedy


def test_a_volume_that_a_key_service_opens(look):
    assert one(look, MADE, key_command=["/usr/bin/key"]) == {
        "LUKS-044": "data is closed, and a key service has its key"
    }


def test_an_open_volume_that_is_not_mounted(look):
    (words,) = one(look, changed(OPEN, mounts=())).values()
    assert "is open and not mounted at /srv/data" in words


def test_an_open_volume_with_other_rights(look, host):
    host.path("/srv/data").mkdir(parents=True)
    host.secure("/srv/data", "root", "root", "0777")
    assert "/srv/data is root:root 0777" in one(look, OPEN)["LUKS-045"]


def test_what_lies_where_a_closed_volume_belongs(look, host):
    host.put("/srv/data/left")
    host.secure("/srv/data", "root", "root", "0700")
    it = look(own())
    finding = findings(it)["LUKS-045"]
    assert "/srv/data has files of its own, which are not encrypted" in finding["reason"]
    assert finding["remedy"] == "manual"


def test_a_closed_volume_whose_place_somebody_can_exchange(look, host):
    host.path("/srv/data").mkdir(parents=True)
    host.path("/srv").chmod(0o777)
    finding = findings(look(own()))["LUKS-045"]
    assert "others than root can change /srv" in finding["reason"]
    assert finding["remedy"] == "manual"


def test_others_can_write_where_a_closed_volume_belongs(look, host):
    host.path("/srv/data").mkdir(parents=True)
    host.secure("/srv/data", "root", "root", "0777")
    finding = findings(look(own()))["LUKS-045"]
    assert "others than root can write to /srv/data" in finding["reason"]
    assert finding["remedy"] == "state"


# What receives keys -------------------------------------------------------------------------------


@pytest.fixture
def ready(look, host):
    """A host on which all that is rendered is as rendered."""
    it = look(own())
    for path, rights in it.setup.folders().items():
        host.path(path).mkdir(parents=True)
        host.secure(path, *rights.replace(":", " ").split())
    for path, (text, rights) in it.setup.files().items():
        host.put(path)
        host.write(path, text)
        host.secure(path, *rights.replace(":", " ").split())
    for path, text in it.setup.units().items():
        host.put(path, text)
    host.put("/etc/passwd", f"{USER}:x:990:990::{HOME}:/bin/sh\n")
    host.put("/etc/group", f"{USER}:x:990:\n")
    host.put("/etc/shadow", f"{USER}:!:20000::::::\n", 0o640)
    host.put("/bin/sh", "", 0o755)
    host.put(it.setup.account.file, it.setup.account.text)
    socket = "rocksalt-volumes-acme.socket"
    state = "ActiveState=active\nUnitFileState=enabled\nNeedDaemonReload=no\n"
    host.answer("systemctl show", f"Id={socket}\n{state}")
    return it


def test_everything_is_as_rendered(ready):
    assert reason(ready, "LUKS-046") == ""


@pytest.mark.parametrize(
    "path",
    [
        config.PATH,
        program.PATH,
        "/etc/systemd/system/rocksalt-volumes-acme.socket",
        "/etc/systemd/system/rocksalt-volumes-acme@.service",
        f"{HOME}/.ssh/authorized_keys",
    ],
)
def test_what_was_edited(ready, host, path):
    host.path(path).write_text("another")
    assert f"{path} is was edited" in reason(ready, "LUKS-046")
    host.remove(path)
    assert reason(ready, "LUKS-046")


@pytest.mark.parametrize(
    "path",
    [
        "/etc/systemd/system/rocksalt-volumes-acme.socket.d/zz.conf",
        "/etc/systemd/system/rocksalt-volumes-globex.socket",
        f"{HOME}/.ssh/authorized_keys2",
    ],
)
def test_what_is_too_much(ready, host, path):
    host.put(path)
    assert path in reason(ready, "LUKS-046")


def test_a_socket_that_does_not_listen(ready, host):
    host.answer("systemctl show", "Id=rocksalt-volumes-acme.socket\nActiveState=inactive\n")
    assert "inactive, not there, expected active, enabled" in reason(ready, "LUKS-046")


def test_what_is_left_of_volumes(look, host):
    host.put(config.PATH)
    assert config.PATH in reason(look(), "LUKS-046")
    assert receiving.installed(host) == [config.PATH]


# What a person sees -------------------------------------------------------------------------------


def test_the_status_of_devices(look, disks):
    disks.mount("/srv", "252:0", "ext4")
    disks.mount("/plain", "8:32", "ext4")
    it = look({}, {"8:1": HEADER})
    vars(it.reading)["signatures"] = {
        "8:1": Signature("crypto_LUKS"), "252:0": Signature("ext4"), "8:32": Signature("ext4"),
    }  # fmt: skip
    vars(it.reading)["tables"] = {"252:0": crypt()}
    devices = status.status(it)["devices"]
    assert devices["/dev/sda1"] == {
        "size": "32.0 MiB", "kind": "partition", "on": "/dev/sda", "content": "crypto_LUKS",
        "encrypted": "LUKS2 aes-xts-plain64 512 bits, 1 key slot (argon2id), open as the-dm-0",
    }  # fmt: skip
    assert devices["/dev/mapper/the-dm-0"] == {
        "size": "64.0 MiB", "kind": "opened by cryptsetup", "on": "/dev/sda1", "content": "ext4",
        "mounted": "/srv", "encrypted": "yes, aes-xts-plain64 512 bits (LUKS2)",
    }  # fmt: skip
    assert devices["/dev/sdc"]["encrypted"] == "no"


def test_the_status_of_volumes(look):
    found = status.status(look(own()))["volumes"]
    assert found == {
        "data": {
            "customer": "acme", "device": "/dev/disk/by-id/virtio-data", "state": "closed",
            "uuid": UUID, "mount": "/srv/data", "recipients": [age.fingerprint(ACME)],
            "readers": 1,
        }
    }  # fmt: skip
    broken = status.status(look(own(), volumes={"data": "damaged"}))["volumes"]["data"]
    assert (broken["state"], broken["problem"]) == ("unknown", "damaged")
