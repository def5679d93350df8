"""The module luks through Salt's own loaders: what it says of this machine, which it only looks at,
and what it says to mistakes.
"""

from __future__ import annotations

import base64
import glob
import os
from typing import Any

import pytest
import yaml
from salt.exceptions import CommandExecutionError

from conftest import REPOSITORY, Minion, states
from rocksalt.backup.crypto import age
from rocksalt.luks import config, program
from rocksalt.luks.family.setup import HOME
from rocksalt.luks.handover import units

ACME, GLOBEX = (age.generate()[1] for _ in range(2))
DEVICE = "/dev/disk/by-id/virtio-of-nobody"
UUID = "00000000-0000-4000-8000-000000000003"
CONTROLS = yaml.safe_load((REPOSITORY / "salt/hardening/luks/controls.yaml").read_text())


def luks(**volume: Any) -> dict[str, Any]:
    """A pillar with one volume, on a disk that this machine has not."""
    given = {
        "customer": "acme",
        "device": DEVICE,
        "confirm": DEVICE.rpartition("/")[2],
        "mount": "/srv/of-nobody",
        **volume,
    }
    customers = {"acme": {"recipients": [ACME]}, "globex": {"recipients": [GLOBEX]}}
    return {"luks": {"customers": customers, "volumes": {"of-nobody": given}}}


def said(minion: Minion, function: str, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(CommandExecutionError) as error:
        minion.run(function, *args, **kwargs)
    return str(error.value)


def test_every_control_is_judged(shared_minion: Minion) -> None:
    findings = {it["id"]: it for it in shared_minion.run("luks.drift")}

    assert set(findings) == set(CONTROLS["controls"])
    for identifier in ("LUKS-040", "LUKS-046"):
        assert findings[identifier]["actual"], findings[identifier]
    assert all(it["reason"] for it in findings.values() if it["status"] != "ok")


def test_what_it_says_of_a_machine_without_volumes(shared_minion: Minion) -> None:
    assert shared_minion.run("luks.problems") == []
    assert shared_minion.run("luks.render") == {}
    assert shared_minion.run("luks.copies") == {}
    assert shared_minion.run("luks.clean", test=True) == []
    found = shared_minion.run("luks.status")
    assert found["volumes"] == {}
    assert found["devices"]


def test_a_copy_that_is_not_there(shared_minion: Minion) -> None:
    assert "there is no copy of a header" in said(shared_minion, "luks.copy", UUID)
    assert shared_minion.run("luks.kept", UUID, "0" * 64, "nowhere") is False


def test_a_volume_that_nobody_declared(shared_minion: Minion) -> None:
    caller = shared_minion.caller()
    for function in (
        "open",
        "close",
        "rotate",
        "reencrypt",
        "request",
        "wrapped",
        "settle",
        "forget",
    ):
        with pytest.raises(CommandExecutionError) as error:
            caller.cmd(f"luks.{function}", "data")
        assert str(error.value) == "no volume 'data' on this host; declared are none"


def test_a_disk_that_is_away(minion: Minion) -> None:
    minion.pillar(luks())

    assert minion.run("luks.packages") == ["cryptsetup-bin"]
    assert f"{DEVICE} does not exist" in said(minion, "luks.request", "of-nobody")
    assert f"{DEVICE} has no wrapped key" in said(minion, "luks.wrapped", "of-nobody")
    finding = next(it for it in minion.run("luks.drift") if it["id"] == "LUKS-040")
    assert finding["status"] == "drift"
    assert f"{DEVICE} does not exist" in finding["reason"]
    told = minion.run("luks.status")["volumes"]["of-nobody"]
    assert (told["state"], told["customer"]) == ("missing", "acme")


def test_a_key_is_no_argument(minion: Minion) -> None:
    """Neither is it asked for: the sentence says how it is handed over."""
    minion.pillar(luks())

    words = said(minion, "luks.open", "of-nobody")
    assert words.startswith("the key of of-nobody is its customer's: see luks.request of-nobody")
    key = os.urandom(32).hex()
    assert key not in said(minion, "luks.open", "of-nobody", sealed=key)


def test_a_key_in_the_clear_is_called_out(minion: Minion) -> None:
    """Before anything else, for the master has it now."""
    minion.pillar(luks())

    key = base64.b64encode(os.urandom(64)).decode()
    for function in ("open", "rotate", "reencrypt"):
        words = said(minion, f"luks.{function}", "of-nobody", sealed=key)
        assert "the job cache of the master has it now: rotate" in words and key not in words


def test_who_reads_a_new_key_is_no_key_services_decision(minion: Minion) -> None:
    minion.pillar(luks(key_command=["/bin/false"]))

    assert "/bin/false: ended with status 1" in said(minion, "luks.reencrypt", "of-nobody")
    assert "luks.request of-nobody what=rotate" in said(minion, "luks.rotate", "of-nobody")
    words = said(minion, "luks.rotate", "of-nobody", remove_strangers=True)
    assert "luks.request of-nobody what=expel" in words


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "a device that is not repeated": (
        {"confirm": "virtio-other"},
        "hardening:luks:volumes:of-nobody:confirm: is 'virtio-other', and the device is "
        "'virtio-of-nobody'; both have to name the same device before it may be formatted",
    ),
    "a device without a stable name": (
        {"device": "/dev/sdb"},
        "hardening:luks:volumes:of-nobody:device: '/dev/sdb' does not match",
    ),
    "a customer whom nobody declared": (
        {"customer": "initech"},
        "hardening:luks:volumes:of-nobody:customer: 'initech' is none of hardening:luks:customers "
        "(acme, globex)",
    ),
    "a folder of the system": (
        {"mount": "/etc/cron.d"},
        "hardening:luks:volumes:of-nobody:mount: '/etc/cron.d' is not a folder of its own",
    ),
    "an option that undoes ours": (
        {"options": ["suid"]},
        "hardening:luks:volumes:of-nobody:options: suid undoes nodev or nosuid",
    ),
    "a mount point of the system": (
        {"mount": "/var"},
        "hardening:luks:volumes:of-nobody:mount: '/var' is not a folder of its own, such as "
        "/srv/of-nobody",
    ),
}


@pytest.mark.parametrize(("changes", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_stops_the_run(minion: Minion, changes: dict[str, Any], words: str) -> None:
    minion.pillar(luks(**changes))

    (said,) = minion.run("state.apply", "hardening.luks", test=True)
    assert words in said


def test_a_public_key_that_is_none_and_a_private_one(minion: Minion) -> None:
    pillar = luks()
    for text, words in (
        (f"{ACME[:-1]}{'q' if ACME[-1] != 'q' else 'p'}", "hardening:luks:customers:acme:"),
        (age.generate()[0], "hardening:luks:customers:acme:recipients:0: *** does not match"),
    ):
        pillar["luks"]["customers"]["acme"]["recipients"] = [text]
        minion.pillar(pillar)
        found = str(minion.run("hardening.validate")["problems"])
        assert words in found
        assert "AGE-SECRET-KEY" not in found.upper()


def written() -> list[str]:
    """What the family puts on a host."""
    paths = (config.PATH, config.STATE, program.PATH, f"{units.FOLDER}/{units.OPENER}", HOME)
    found = [path for path in (*paths, "/srv/of-nobody") if os.path.lexists(path)]
    return found + glob.glob(f"{units.FOLDER}/{units.PREFIX}*")


def test_mode_shows_what_would_be_done_and_does_nothing(minion: Minion) -> None:
    minion.pillar(luks())
    assert written() == []
    found = states(minion.run("state.apply", "hardening.luks", test=True))
    done = found["disks are encrypted, and customers alone have the keys of their volumes"]
    assert done["result"] is None
    assert {"LUKS-040", "LUKS-046"} <= {*done["changes"]}
    assert written() == []
