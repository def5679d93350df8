"""rocksalt.luks.family.enforce: a host is made what the checks expect."""

from __future__ import annotations

import dataclasses
import stat

import pytest
from block_devices import machine
from luks_hosts import BACKUP, LET_IN, NOW, USER, comparison, own, volume

from rocksalt.errors import Refused
from rocksalt.luks import config, copies, program
from rocksalt.luks.cryptsetup import Strength
from rocksalt.luks.family import enforce
from rocksalt.luks.family.reading import Headers
from rocksalt.luks.family.setup import HOME
from rocksalt.luks.handover import service
from rocksalt.luks.headers import Header, Slot
from rocksalt.luks.volumes import creating, opening, settling, states
from rocksalt.luks.volumes.states import State

SOCKET = "rocksalt-volumes-acme.socket"
ALL = ["LUKS-020", "LUKS-030", "LUKS-040", "LUKS-043", "LUKS-044", "LUKS-045", "LUKS-046"]
SLOT = Slot("luks2", 512, "aes-xts-plain64", 512, "argon2id", 65536, 4)
HEADER = Header(
    "/dev/sda1", "/dev/sda1", 2, "00000000-0000-4000-8000-000000000003", slots={0: SLOT}
)


@pytest.fixture(autouse=True)
def library(monkeypatch):
    monkeypatch.setattr(program, "sources", lambda: {"rocksalt/__init__.py": b""})


@pytest.fixture
def done(monkeypatch):
    """What was done with volumes, in the order in which it was."""
    found = []

    def note(what, answer=()):
        def call(machine, volume, *more):
            found.append((what, volume.name, *more))
            return list(answer)

        return call

    monkeypatch.setattr(creating, "create", note("create"))
    monkeypatch.setattr(settling, "settle", note("settle"))
    monkeypatch.setattr(service, "open_volume", note("open"))
    monkeypatch.setattr(opening, "mount_volume", note("mount"))
    return found


@pytest.fixture
def fresh(shipped, host, monkeypatch):
    """A host on which commands work; ``state`` is that of all volumes."""
    for command in ("systemctl", "useradd", "usermod"):
        host.answer(command)
    machine(host.path("/"))

    def call(settings=None, state=None, known=None, **pillar):
        it = comparison(shipped, host, settings or own(), **{**LET_IN, **pillar})
        vars(it.reading)["headers"] = Headers(known or {})
        look = state or State(states.CLOSED)
        vars(it.customers)["looks"] = dict.fromkeys(it.setup.settings["volumes"], look)
        monkeypatch.setattr(states, "state", lambda machine, volume: look)
        return it

    return call


def ran(host, *words):
    return [" ".join(command) for command in host.ran if command[: len(words)] == words]


def test_what_receives_keys_is_put_there(fresh, host):
    it = fresh()
    host.put("/etc/passwd", "root:x:0:0::/root:/bin/bash\n")
    enforce.enforce(it, ["LUKS-046"])
    for path, (text, rights) in it.setup.files().items():
        assert host.read(path) == text
        assert host.attributes(path).access == rights
    for path, text in it.setup.units().items():
        assert host.read(path) == text
    for path, rights in it.setup.folders().items():
        assert host.attributes(path).access == rights
    assert host.read(it.setup.account.file) == it.setup.account.text
    assert len(ran(host, "useradd", "--system")) == 1
    assert ran(host, "systemctl", "enable", "--quiet", SOCKET)
    assert ran(host, "systemctl", "restart", SOCKET)


def test_a_socket_that_is_as_rendered_goes_on_listening(fresh, host):
    it = fresh()
    enforce.enforce(it, ["LUKS-046"])
    host.ran.clear()
    enforce.enforce(it, ["LUKS-046"])
    assert ran(host, "systemctl", "start", SOCKET)
    assert not ran(host, "systemctl", "restart")


def test_what_overrides_our_units_is_put_aside(fresh, host):
    it = fresh()
    path = f"/etc/systemd/system/{SOCKET}.d/zz.conf"
    host.put(path, "[Socket]\n")
    enforce.enforce(it, ["LUKS-046"])
    assert host.read(path) is None
    assert host.read(f"{path}.disabled-by-rocksalt") == "[Socket]\n"
    assert ran(host, "systemctl", "restart", SOCKET)


def test_what_is_not_wanted_any_more_goes(fresh, host):
    for path in (config.PATH, program.PATH, f"/etc/systemd/system/{SOCKET}"):
        host.put(path)
    host.put(f"{HOME}/.ssh/authorized_keys")
    host.put(f"{config.STATE}/headers/x.age")
    it = fresh({"customers": {}})
    enforce.enforce(it, ["LUKS-046"])
    assert enforce.leftovers(host) == []
    assert ran(host, "systemctl", "disable", "--now", "--quiet", SOCKET)
    assert host.read(f"{config.STATE}/headers/x.age") is not None


def test_key_files_are_made_root_s_alone(fresh, host):
    host.put("/etc/crypttab", "a /dev/sda1 /etc/keys/a luks\nb /dev/sda1 /etc/keys/b luks\n")
    host.put("/etc/keys/a", "secret", 0o644, "ann")
    host.put("/etc/keys/b", "secret", 0o600)
    enforce.enforce(fresh(), ["LUKS-020"])
    assert host.attributes("/etc/keys/a").access == "root:root 0400"
    assert host.attributes("/etc/keys/b").access == "root:root 0600"


def test_a_key_file_in_a_folder_of_somebody_is_left_alone(fresh, host):
    """By the time it is changed it may be a link to another file."""
    host.put("/etc/crypttab", "a /dev/sda1 /home/ann/key luks\nb /dev/sda1 /etc/keys/b luks\n")
    host.put("/etc/shadow", "secret", 0o640)
    host.path("/home/ann").mkdir(parents=True)
    host.path("/home/ann/key").symlink_to("../../etc/shadow")
    host.owners["/home/ann"] = "ann"
    host.put("/etc/keys/b", "secret", 0o644)
    with pytest.raises(Refused, match="move it to a folder of root's"):
        enforce.enforce(fresh(), ["LUKS-020"])
    assert host.attributes("/etc/shadow").mode == "0640"
    assert host.attributes("/etc/keys/b").access == "root:root 0400"


def test_an_empty_disk_becomes_a_volume(fresh, done):
    it = fresh({**own(), "argon2_memory": 131072}, State(states.EMPTY))
    enforce.enforce(it, ["LUKS-040"])
    assert done == [("create", "data", NOW, Strength(memory=131072))]


def test_a_volume_that_could_not_be_looked_at_is_not_made(fresh, done):
    it = fresh(own(a=volume("a"), b=volume("b")), State(states.EMPTY))
    it.customers.looks["a"] = "its journal is damaged"
    with pytest.raises(Refused, match="volume a cannot be looked at: its journal is damaged"):
        enforce.enforce(it, ["LUKS-040"])
    assert [name for _, name, *_ in done] == ["b"]


def test_the_account_of_somebody_is_not_locked(fresh, host):
    host.put("/etc/passwd", f"{USER}:x:1000:1000::/home/ann:/bin/bash\n")
    host.put("/etc/shadow", f"{USER}:$y$x:20000::::::\n")
    with pytest.raises(Refused, match="is one with the home /home/ann; name one that is used for"):
        enforce.enforce(fresh(), ["LUKS-046"])
    assert not ran(host, "usermod")
    assert host.read(f"{HOME}/.ssh/authorized_keys") is None


def test_a_volume_that_is_there_is_not_made_again(fresh, done):
    enforce.enforce(fresh(), ["LUKS-040"])
    assert done == []


def test_a_disk_with_data_is_refused_and_other_volumes_are_made(fresh, done, monkeypatch):
    def create(machine, volume, now, strength):
        done.append(volume.name)
        if volume.name == "a":
            raise Refused("/dev/disk/by-id/virtio-a has ext4")

    monkeypatch.setattr(creating, "create", create)
    settings = own(a=volume("a"), b=volume("b"))
    with pytest.raises(Refused, match="virtio-a has ext4"):
        enforce.enforce(fresh(settings, State(states.OTHER)), ["LUKS-040"])
    assert done == ["a", "b"]


def test_what_is_half_done_is_finished(fresh, done):
    enforce.enforce(fresh(), ["LUKS-043"])
    assert done == [("settle", "data")]


def test_a_key_service_opens_its_volumes_alone(fresh, done):
    settings = own(a=volume("a", key_command=["/usr/bin/key"]), b=volume("b"))
    enforce.enforce(fresh(settings), ["LUKS-044"])
    assert done == [("open", "a")]


def test_an_open_volume_is_mounted(fresh, done):
    enforce.enforce(fresh(state=State(states.OPEN)), ["LUKS-045"])
    assert done == [("mount", "data")]


@pytest.mark.parametrize(("condition", "mode"), [(states.CLOSED, 0o700), (states.OTHER, 0o777)])
def test_where_a_closed_volume_belongs_root_alone_writes(fresh, done, host, condition, mode):
    folder = host.path("/srv/data")
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    enforce.enforce(fresh(state=State(condition)), ["LUKS-045"])
    assert stat.S_IMODE(folder.stat().st_mode) == mode
    assert done == []


def test_a_folder_with_files_stays_as_it_is(fresh, done, host):
    """They may be live data, in a place that somebody mistyped."""
    host.put("/srv/data/live")
    host.path("/srv/data").chmod(0o755)
    with pytest.raises(Refused, match="/srv/data has files of its own"):
        enforce.enforce(fresh(), ["LUKS-045"])
    assert stat.S_IMODE(host.path("/srv/data").stat().st_mode) == 0o755


def test_a_link_where_a_closed_volume_belongs_is_not_followed(fresh, done, host):
    host.path("/etc").mkdir()
    host.path("/etc").chmod(0o755)
    host.path("/srv").mkdir()
    host.path("/srv/data").symlink_to(host.path("/etc"))
    with pytest.raises(Refused, match="/srv/data is a link"):
        enforce.enforce(fresh(), ["LUKS-045"])
    assert stat.S_IMODE(host.path("/etc").stat().st_mode) == 0o755


def test_copies_that_are_missing_are_made(fresh, monkeypatch):
    made = []
    monkeypatch.setattr(copies, "back_up", lambda *args, **more: made.append((args[1], more)))
    apart = dataclasses.replace(HEADER, device="/dev/sdb", file="/root/header")
    it = fresh(known={"8:1": HEADER, "8:16": apart}, **BACKUP)
    enforce.enforce(it, ["LUKS-030"])
    nobody = {"volume": "", "customer": ""}
    assert made == [
        ("/dev/sda1", {**nobody, "header": ""}),
        ("/dev/sdb", {**nobody, "header": "/root/header"}),
    ]


def test_a_header_without_keys_is_not_copied_over_one_with_keys(fresh, monkeypatch):
    monkeypatch.setattr(copies, "back_up", lambda *args, **more: pytest.fail("made"))
    erased = dataclasses.replace(HEADER, slots={})
    enforce.enforce(fresh(known={"8:1": erased}, **BACKUP), ["LUKS-030"])


def test_a_copy_that_nobody_could_read_is_not_made(fresh, monkeypatch):
    monkeypatch.setattr(copies, "back_up", lambda *args, **more: pytest.fail("made"))
    enforce.enforce(fresh(known={"8:1": HEADER}), ["LUKS-030"])


def test_nothing_is_done_with_settings_that_make_no_sense(fresh, done, host):
    it = fresh(own(data=volume(confirm="virtio-other")))
    with pytest.raises(Refused, match="both have to name the same device"):
        enforce.enforce(it, ALL)
    assert done == []
    assert host.ran == []
    assert host.read(program.PATH) is None


def test_everything_else_happens_after_one_step_failed(fresh, done, host, monkeypatch):
    def broken(machine, volume):
        raise Refused("the header is damaged")

    monkeypatch.setattr(settling, "settle", broken)
    it = fresh(own(data=volume(key_command=["/usr/bin/key"])))
    with pytest.raises(Refused, match="the header is damaged"):
        enforce.enforce(it, ALL)
    assert ("open", "data") in done
    assert host.read(program.PATH) is not None


def test_clean_leaves_what_customers_need(fresh, host):
    it = fresh()
    enforce.enforce(it, ["LUKS-046"])
    journal = f"{config.STATE}/data.journal"
    host.put(journal)
    enforce.clean(host)
    assert enforce.leftovers(host) == []
    assert host.read(journal) is not None
    assert not ran(host, "userdel")
    assert ran(host, "systemctl", "disable", "--now", "--quiet", SOCKET)
    assert USER not in " ".join(ran(host, "usermod"))
