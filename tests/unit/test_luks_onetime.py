"""One-time keys: rocksalt.luks.handover.onetime, and sealing, the customer's side of them."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rocksalt.backup.crypto import age, sshsig
from rocksalt.backup.manifest import canonical
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.luks import config
from rocksalt.luks.handover import keyring, onetime, receiving, sealing
from rocksalt.luks.keys import SIZE, Key

NOW = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.timezone.utc)
LATER = NOW + dt.timedelta(minutes=15)
UUID = "2f1d3c4b-0000-4000-8000-000000000001"
KEY = bytes(range(SIZE))


class Site:
    """A host, a volume there, and its customer."""

    def __init__(self, folder: Path):
        self.host = Host(str(folder))
        (folder / "etc/ssh").mkdir(parents=True)
        self.public = sshsig.generate(folder / "etc/ssh/ssh_host_ed25519_key")
        identity, recipient = age.generate()
        self.identities = age.identities(identity)
        self.volume = config.Volume(
            "data",
            config.Customer("acme", (recipient,)),
            "/dev/disk/by-id/virtio-data",
            "/srv/data",
        )
        self.wrapped = encrypted(KEY, recipient)

    def request(self, **changes: Any) -> dict[str, str]:
        words: dict[str, Any] = {
            "host": self.host, "minion": "web1", "volume": self.volume, "uuid": UUID,
            "what": "open", "minutes": 15, "now": NOW, **changes,
        }  # fmt: skip
        return onetime.request(**words)

    def sealed(self, request: dict[str, str], now: dt.datetime = NOW, **wanted: Any) -> str:
        wish = sealing.Wanted("data", **wanted)
        statement = sealing.checked(json.dumps(request), self.public, wish, now)
        return sealing.seal(statement, io.BytesIO(self.wrapped), self.identities)

    def take(self, sealed: str, **changes: Any) -> bytes:
        words: dict[str, Any] = {
            "host": self.host, "volume": self.volume, "uuid": UUID, "what": "open",
            "sealed": sealed, "now": NOW, **changes,
        }  # fmt: skip
        with onetime.take(**words) as key:
            return bytes(key.secret)

    def left(self) -> list[str]:
        return self.host.glob(f"{onetime.FOLDER}/*")


def encrypted(data: bytes, recipient: str) -> bytes:
    buffer = io.BytesIO()
    writer = age.Writer(buffer, [recipient])
    writer.write(data)
    writer.close()
    return buffer.getvalue()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    for path in made.left():
        keyring.take(onetime._name(made.host, Path(path).stem))


def test_the_key_arrives(site):
    request = site.request()
    assert site.take(site.sealed(request)) == KEY


def test_a_request_says_who_asks_for_what_and_until_when(site):
    statement = json.loads(site.request()["statement"])
    assert age.recipient(statement.pop("recipient"))
    assert statement == {
        "format": 1,
        "host": "web1",
        "volume": "data",
        "uuid": UUID,
        "what": "open",
        "recipients": [],
        "expires": "2026-11-22T12:15:00Z",
    }


def test_the_one_time_key_is_roots_alone_and_not_in_the_request(site):
    request = site.request()
    (path,) = site.left()
    assert site.host.path(path).stat().st_mode & 0o777 == 0o600
    assert site.host.path(onetime.FOLDER).stat().st_mode & 0o777 == 0o700
    identity = keyring.take(onetime._name(site.host, "data")) or b""
    assert identity.startswith(b"AGE-SECRET-KEY-")
    assert identity.decode() not in json.dumps(request)
    assert identity.decode() not in (site.host.read(path) or "")


def test_the_kernel_ends_it_although_nobody_comes_back(site):
    """It has expired by its own time and by ours."""
    sealed = site.sealed(site.request(minutes=1))
    keyring.take(onetime._name(site.host, "data"))
    with pytest.raises(Refused, match="has expired"):
        site.take(sealed)


def test_a_key_for_opening_serves_for_nothing_else(site):
    for what in ("rotate", "expel", "reencrypt"):
        sealed = site.sealed(site.request())
        with pytest.raises(Refused, match=f"for open alone; .* what={what}"):
            site.take(sealed, what=what)
        with pytest.raises(Refused, match="used once"):
            site.take(sealed)


def test_a_purpose_that_is_none(site):
    with pytest.raises(Refused, match="one of open, rotate, expel, reencrypt"):
        site.request(what="read")


@pytest.mark.parametrize("what", ["rotate", "expel"])
def test_a_customer_agrees_to_those_who_can_read_a_new_key(site, what):
    (own,) = site.volume.customer.recipients
    statement = json.loads(site.request(what=what)["statement"])
    assert (statement["what"], statement["recipients"]) == (what, [own])
    sealed = site.sealed(site.request(what=what), what=what, recipients=[own])
    assert site.take(sealed, what=what) == KEY


def with_more(site: Site) -> tuple[config.Volume, str]:
    """As it is after the operator declared a recipient of its own."""
    more = age.generate()[1]
    customer = site.volume.customer
    both = dataclasses.replace(customer, recipients=(*customer.recipients, more))
    return dataclasses.replace(site.volume, customer=both), more


def test_nobody_else_reads_a_new_key(site):
    (own,) = site.volume.customer.recipients
    changed, more = with_more(site)
    request = site.request(volume=changed, what="rotate")
    for named in ([], [own]):
        with pytest.raises(Refused, match=f"could be read by .*{more}"):
            site.sealed(request, what="rotate", recipients=named)
    agreed = site.sealed(site.request(what="rotate"), what="rotate", recipients=[own])
    with pytest.raises(Refused, match="agreed to other recipients"):
        site.take(agreed, what="rotate", volume=changed)


def test_nobody_hands_over_for_something_else_by_mistake(site):
    (own,) = site.volume.customer.recipients
    with pytest.raises(Refused, match="the request is to rotate, not to open"):
        site.sealed(site.request(what="rotate"), recipients=[own])


def test_a_key_in_the_clear_is_called_out(site):
    """It was an argument of a job. The one-time key is not used up by that."""
    good = site.sealed(site.request())
    text = base64.b64encode(KEY).decode()
    for given in (
        text,
        text.rstrip("="),
        "\n".join(base64.encodebytes(KEY).decode().split()),
        KEY.hex(),
    ):
        with pytest.raises(Refused, match="job cache of the master has it now: rotate") as caught:
            site.take(given)
        assert given not in str(caught.value)
    identity = age.generate()[0]
    for given in (identity, f"# made\n{identity}", base64.b64encode(identity.encode()).decode()):
        with pytest.raises(Refused, match="customer's identity, and the job cache") as caught:
            site.take(given)
        assert identity not in str(caught.value)
    assert site.take(good) == KEY


def test_it_is_used_once(site):
    sealed = site.sealed(site.request())
    site.take(sealed)
    assert site.left() == []
    with pytest.raises(Refused, match=r"used once.*luks\.request data"):
        site.take(sealed)


@pytest.mark.parametrize(
    "sealed",
    [
        "",
        "nonsense !",
        base64.b64encode(b"age-encryption.org/v1\n").decode(),
        base64.b64encode(KEY[:32]).decode(),
        "A" * (1 << 20),
    ],
)
def test_whatever_comes_of_it(site, sealed):
    good = site.sealed(site.request())
    with pytest.raises(Refused, match="used up"):
        site.take(sealed)
    with pytest.raises(Refused, match="used once"):
        site.take(good)


def test_a_key_of_another_size_is_none(site):
    request = site.request()
    recipient = json.loads(request["statement"])["recipient"]
    sealed = base64.b64encode(encrypted(KEY[:32], recipient)).decode()
    with pytest.raises(Refused, match="32 bytes were handed over, and a key has 64") as caught:
        site.take(sealed)
    assert KEY[:32].hex() not in str(caught.value)


def test_armour_and_base64_in_lines_are_taken(site):
    for shape in (76, 64, 10_000):
        text = site.sealed(site.request())
        lines = "\n".join(text[i : i + shape] for i in range(0, len(text), shape))
        armour = f"-----BEGIN AGE ENCRYPTED FILE-----\n{lines}\n-----END AGE ENCRYPTED FILE-----\n"
        assert site.take(armour) == KEY
        assert site.take(site.sealed(site.request()) + "\n") == KEY


def test_a_newer_request_takes_the_place_of_an_older_one(site):
    old = site.sealed(site.request())
    site.request()
    assert len(site.left()) == 1
    with pytest.raises(Refused, match="other recipients"):
        site.take(old)


def test_it_expires(site):
    sealed = site.sealed(site.request())
    with pytest.raises(Refused, match="has expired"):
        site.take(sealed, now=LATER)
    assert site.left() == []


def test_a_clock_that_was_set_back_makes_it_last_no_longer(site):
    sealed = site.sealed(site.request())
    with pytest.raises(Refused, match="has expired"):
        site.take(sealed, now=NOW - dt.timedelta(hours=1))


def test_expired_keys_are_swept_away(site):
    site.request()
    other = dataclasses.replace(site.volume, name="other")
    site.request(volume=other, now=LATER)
    assert site.left() == [f"{onetime.FOLDER}/other.json"]
    onetime.sweep(site.host, LATER + dt.timedelta(minutes=15))
    assert site.left() == []


def test_it_is_for_one_volume(site):
    sealed = site.sealed(site.request())
    other = dataclasses.replace(site.volume, name="other")
    site.request(volume=other)
    with pytest.raises(Refused, match="other recipients"):
        site.take(sealed, volume=other)


def test_it_is_for_one_header(site):
    sealed = site.sealed(site.request())
    with pytest.raises(Refused, match="made anew"):
        site.take(sealed, uuid="another")


def test_a_damaged_one_time_key(site):
    sealed = site.sealed(site.request())
    site.host.path(site.left()[0]).write_text("[]")
    with pytest.raises(Refused, match="no one-time key"):
        site.take(sealed)


def test_a_host_without_a_key_to_sign_with(site):
    os.unlink(site.host.path(onetime.HOST_KEY))
    with pytest.raises(Refused, match="ssh-keygen -A"):
        site.request()
    assert site.left() == []


def forged(site: Site, **changes: Any) -> dict[str, str]:
    """A request that somebody else made, or this host for something else."""
    statement = json.loads(site.request()["statement"])
    text = canonical({**statement, **changes})
    signer = sshsig.Signer.load(site.host.path(onetime.HOST_KEY))
    return {
        "statement": text.decode(),
        "signature": signer.sign(text, onetime.NAMESPACE).decode(),
    }


def test_a_request_that_was_changed(site):
    request = site.request()
    mine = age.generate()[1]
    theirs = json.loads(request["statement"])["recipient"]
    request["statement"] = request["statement"].replace(theirs, mine)
    with pytest.raises(Refused, match="was changed after"):
        site.sealed(request)


def test_a_request_of_another_host(site, tmp_path):
    other = sshsig.generate(tmp_path / "other")
    with pytest.raises(Refused, match=r"is signed by .* not trusted"):
        sealing.checked(json.dumps(site.request()), other, sealing.Wanted("data"), NOW)


def test_a_request_for_another_volume(site):
    other = dataclasses.replace(site.volume, name="other")
    with pytest.raises(Refused, match="for the volume 'other', not for 'data'"):
        site.sealed(site.request(volume=other))


def test_a_request_that_has_expired(site):
    with pytest.raises(Refused, match="expired at 2026-11-22T12:15:00Z"):
        site.sealed(site.request(), now=LATER)


def test_a_signature_for_something_else(site):
    request = site.request()
    signer = sshsig.Signer.load(site.host.path(onetime.HOST_KEY))
    signature = signer.sign(request["statement"].encode(), "file").decode()
    with pytest.raises(Refused, match="is signed as 'file'"):
        site.sealed({**request, "signature": signature})


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"more": 1},
        {"expires": "never"},
        {"expires": 9},
        {"volume": None},
        {"what": "read"},
        {"recipients": [1]},
    ],
)
def test_a_statement_that_is_none(site, changes):
    with pytest.raises(Refused, match="the request"):
        site.sealed(forged(site, **changes))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"statement": 1, "signature": ""}', "{", '{"statement": "ä"}']
)
def test_a_request_that_is_none(site, text):
    with pytest.raises(Refused, match=r"not what luks\.request printed"):
        sealing.checked(text, site.public, sealing.Wanted("data"), NOW)


def test_a_recipient_that_is_none(site):
    request = forged(site, recipient="age1nothing")
    with pytest.raises(Refused, match="the recipient in the request"):
        site.sealed(request)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "nothing was handed over"),
        (bytes(63), "63 bytes were handed over"),
        (bytes(SIZE + 1), "65 bytes"),
        (b"age-encryption.org/v1\n-> X25519", "still encrypted"),
        (b"-----BEGIN AGE ENCRYPTED FILE-----\n", "still encrypted"),
        (b"# made today\nAGE-SECRET-KEY-1QQ\n", "make a new one and rotate"),
        (b"!" * 88, "is no key of a volume"),
    ],
)
def test_what_is_no_key(data, words):
    given = bytearray(data)
    with pytest.raises(Refused, match=words) as caught:
        receiving.key(given)
    assert given == bytes(len(data))
    assert "QQ" not in str(caught.value)


@pytest.mark.parametrize("data", [KEY, base64.b64encode(KEY), base64.b64encode(KEY) + b"\r\n"])
def test_what_is_a_key(data):
    given = bytearray(data)
    assert receiving.key(given) == Key(KEY)
    assert given == bytes(len(data))
