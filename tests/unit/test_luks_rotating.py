"""A key changes, or the process dies on the way: some key of the customer opens at any time."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import luks_volumes as given
import pytest
from luks_volumes import NOW, Died, Luks

from rocksalt.errors import Refused
from rocksalt.luks import cryptsetup
from rocksalt.luks.config import Volume
from rocksalt.luks.keys import Key, WrongKey
from rocksalt.luks.volumes import journal, opening, pinning, rotating, settling, states, wrapping
from rocksalt.luks.volumes.machine import Machine
from rocksalt.luks.volumes.states import CUSTOMER, State

BACK = ["the interrupted rotation of the key of data was taken back"]
FORTH = ["the key of the volume data was replaced"]


class Case:
    """A volume, its customer and what cryptsetup has of it."""

    def __init__(self, machine: Machine, monkeypatch: pytest.MonkeyPatch):
        customer, self.identity = given.customer()
        self.machine, self.volume, self.key = machine, given.volume(customer), Key.random()
        self.luks = Luks(monkeypatch, machine)
        self.luks.make(self.volume, self.key)

    @property
    def state(self) -> State:
        return states.state(self.machine, self.volume)

    def unwrapped(self) -> list[Key]:
        """Every key that the customer can unwrap."""
        return [Key(given.unwrapped(it.wrapped, self.identity)) for it in self.state.tokens]

    def rotate(
        self, key: Key | None = None, volume: Volume | None = None, **more: Any
    ) -> rotating.Rotation:
        return rotating.rotate(self.machine, volume or self.volume, key or self.key, NOW, **more)

    def reencrypt(self) -> list[str]:
        return rotating.reencrypt(self.machine, self.volume, self.key)

    def is_whole(self) -> bool:
        found = self.state
        assert list(found.slots.values()) == [CUSTOMER]
        assert (found.strangers, found.pending, found.needs_key) == ((), "", False)
        assert [bytes(key.secret) for key in self.unwrapped()] == list(self.luks.slots.values())
        assert journal.read(self.machine, "data") is None
        return True


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(given.machine(tmp_path), monkeypatch)


Fresh = Callable[[], Case]


@pytest.fixture
def cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fresh:
    numbers = iter(range(10**6))
    return lambda: Case(given.machine(tmp_path / str(next(numbers))), monkeypatch)


def interrupted(
    cases: Fresh, action: Callable[[Case], object], how: BaseException
) -> Iterator[Case]:
    """The case after each step at which the action ended with ``how``."""
    for step in range(1000):
        case = cases()
        case.luks.left, case.luks.how = step, how
        try:
            action(case)
        except type(how) as error:
            assert error is how
            case.luks.left = None
            yield case
        else:
            assert step > 5
            return


def test_a_key_is_replaced_by_one_that_only_the_customer_can_read(case: Case) -> None:
    done = case.rotate()
    assert case.is_whole()
    new = Key(given.unwrapped(done.wrapped, case.identity))
    assert [new] == case.unwrapped()
    assert new != case.key
    readers = f"the new key can be unwrapped by {case.volume.customer.fingerprints[0]}"
    assert done.notes == [*FORTH, readers, rotating.ADVICE]


def test_whoever_dies_leaves_a_key_that_opens(cases: Fresh) -> None:
    said = set()
    for case in interrupted(cases, Case.rotate, Died()):
        opening_ones = [
            it for it in case.unwrapped() if bytes(it.secret) in case.luks.slots.values()
        ]
        assert opening_ones
        assert case.key in opening_ones or case.key.secret not in case.luks.slots.values()
        begun = journal.read(case.machine, "data") is not None
        assert case.state.pending == (
            "the rotation of the key of the volume data was interrupted" if begun else ""
        )
        done = settling.settle(case.machine, case.volume)
        said.add(tuple(done))
        assert case.is_whole()
        assert (case.unwrapped() == [case.key]) == (done != FORTH)
        assert settling.settle(case.machine, case.volume) == []
    assert said == {(), tuple(BACK), tuple(FORTH)}


@pytest.mark.parametrize("error", [Refused("cryptsetup cannot"), OSError(28, "full")])
def test_what_fails_is_taken_back_at_once_or_finished_later(cases: Fresh, error: Exception) -> None:
    for case in interrupted(cases, Case.rotate, error):
        if case.unwrapped() == [case.key]:
            assert case.is_whole()
        settling.settle(case.machine, case.volume)
        assert case.is_whole()


def test_whoever_dies_while_settling_is_followed_by_another(cases: Fresh) -> None:
    for case in interrupted(cases, Case.rotate, Died()):
        for step in range(20):
            case.luks.left = step
            try:
                settling.settle(case.machine, case.volume)
            except Died:
                continue
            break
        case.luks.left = None
        settling.settle(case.machine, case.volume)
        assert case.is_whole()


def test_the_next_rotation_settles_the_last_one(cases: Fresh) -> None:
    for case in interrupted(cases, Case.rotate, Died()):
        # Both are open meanwhile; which of them the customer has afterwards, the header says.
        new = case.unwrapped()[-1]
        try:
            case.rotate(case.key)
        except WrongKey:
            case.rotate(new)
        assert case.is_whole()


def test_nobody_gets_a_key_whom_the_customer_did_not_name(case: Case) -> None:
    """The settings are the operator's to write, and the new key is the customer's."""
    other, _ = given.customer()
    both = given.Customer("acme", (*case.volume.customer.recipients, *other.recipients))
    for customer in (other, both):
        volume = given.volume(customer)
        with pytest.raises(Refused, match="only if the customer names these fingerprints"):
            case.rotate(volume=volume)
        with pytest.raises(Refused, match=r"customer asked for a key that .* nothing was changed"):
            case.rotate(volume=volume, recipients=case.volume.customer.fingerprints)
        assert case.unwrapped() == [case.key]
        assert case.is_whole()


def test_a_key_for_the_recipients_that_the_customer_named(case: Case) -> None:
    other, identity = given.customer()
    volume = given.volume(other)
    assert states.state(case.machine, volume).recipients != other.fingerprints
    done = case.rotate(volume=volume, recipients=other.fingerprints)
    assert states.state(case.machine, volume).recipients == other.fingerprints
    assert f"the new key can be unwrapped by {other.fingerprints[0]}" in done.notes
    assert bytes(Key(given.unwrapped(done.wrapped, identity)).secret) in case.luks.slots.values()
    with pytest.raises(Exception, match="none of the identities can read"):
        given.unwrapped(done.wrapped, case.identity)


def test_a_key_that_more_can_read_than_its_token_says_is_told(case: Case) -> None:
    other, _ = given.customer()
    both = given.Customer("acme", (*case.volume.customer.recipients, *other.recipients))
    wrapped = wrapping.wrap(case.key, both)
    case.luks.tokens[0]["wrapped"] = base64.b64encode(wrapped).decode()
    said = ("token 0 has a key wrapped to 2 public keys, and names 1",)
    assert (case.state.undisclosed, case.state.strangers, case.state.readers) == (said, said, 2)
    with pytest.raises(Refused, match="is wrapped to others: only if the customer names these"):
        case.rotate()
    case.rotate(recipients=case.volume.customer.fingerprints)
    assert case.is_whole()


def test_what_is_no_wrapped_key_is_told(case: Case) -> None:
    case.luks.tokens[0]["wrapped"] = base64.b64encode(b"nonsense").decode()
    assert case.state.strangers == ("token 0 has no wrapped key, but something else",)
    assert case.state.readers is None


def test_a_copied_token_makes_no_key_the_customers(case: Case) -> None:
    case.luks.put(1, Key.random())
    digest = case.luks.digests[1]
    case.luks.tokens[1] = {**case.luks.tokens[0], "keyslots": ["1"], "slot": digest}
    said = "key slots 0, 1 pass for the customer's, who has one: a rotation removes them"
    assert case.state.strangers == (said,)
    journal.write(case.machine, "data", journal.Rotation("0123-4567", 2, {0: "digest 1"}))
    assert "key slot 1 has a token like the customer's" in case.state.strangers[0]
    journal.remove(case.machine, "data")
    case.rotate()
    assert case.is_whole()


def test_no_slot_of_another_disk_is_removed(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk goes, and another one gets its name, while the new key is derived."""
    real = case.luks.import_token

    def unplugged(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        assert case.luks.header is not None
        case.luks.header["uuid"] = "another"

    monkeypatch.setattr(cryptsetup, "import_token", unplugged)
    with pytest.raises(Refused, match="another header"):
        case.rotate()
    assert len(case.luks.slots) == 2
    with (
        pytest.raises(Refused, match="/disks/acme: slot 0 is another one than a moment ago"),
        pinning.same(case.machine, case.volume, "another") as disk,
    ):
        disk.kill(0, "another digest")
    monkeypatch.setattr(
        pinning.os.path, "realpath", lambda _: str(given.disk(case.machine, "other"))
    )
    with (
        pytest.raises(Refused, match="leads to another disk than a moment ago"),
        pinning.same(case.machine, case.volume, "another"),
    ):
        raise AssertionError("it is another disk")
    assert len(case.luks.slots) == 2


def test_a_wrong_key_changes_nothing(case: Case) -> None:
    with pytest.raises(WrongKey, match="handed over does not open the volume data"):
        case.rotate(Key.random())
    assert case.unwrapped() == [case.key]
    assert case.is_whole()


def test_a_full_disk_changes_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal.os, "fsync", full)
    with pytest.raises(Refused, match="journal cannot be written: No space left on device"):
        case.rotate()
    monkeypatch.undo()
    assert list(case.luks.slots) == [0]


def test_too_many_recipients_are_refused_before_anything_changes(case: Case) -> None:
    many = [given.customer()[0].recipients[0] for _ in range(30)]
    volume = given.volume(given.customer("acme", *many)[0])
    named = volume.customer.fingerprints
    with pytest.raises(Refused, match="customers:acme:recipients: are 31, more than fit"):
        case.rotate(volume=volume, recipients=named)
    assert case.is_whole()


def test_the_slot_of_another_key_is_never_taken_for_the_customers(case: Case) -> None:
    stranger = Key.random()
    case.luks.put(1, stranger)
    assert case.state.slots == {0: CUSTOMER, 1: "unknown"}
    with pytest.raises(WrongKey):
        case.rotate(stranger)
    done = case.rotate()
    assert sorted(case.luks.slots) == [1, 2]
    assert "key slot 1 has a key that is not the customer's" in done.notes


def test_strangers_go_when_asked(case: Case) -> None:
    case.luks.put(1, Key.random())
    case.luks.tokens[7] = {"type": "systemd-tpm2", "keyslots": ["1"]}
    case.luks.tokens[8] = {"type": "rocksalt", "keyslots": []}
    rotating.rotate(case.machine, case.volume, case.key, NOW, remove_strangers=True)
    assert case.is_whole()


def test_a_slot_exchanged_during_a_rotation_is_not_the_customers(case: Case) -> None:
    """Somebody put a key of their own into both slots while nobody was looking."""
    for step in range(40):
        case.luks.left = step
        try:
            case.rotate()
        except Died:
            case.luks.left = None
            if len(case.state.tokens) == 2:
                break
            settling.settle(case.machine, case.volume)
    case.luks.left = None
    assert len(case.state.tokens) == 2
    for slot in list(case.luks.slots):
        case.luks.put(slot, Key.random())
    with pytest.raises(Refused, match="neither its old key slot nor its new one is as it was left"):
        settling.settle(case.machine, case.volume)
    assert len(case.luks.slots) == 2


def test_a_journal_of_another_header_removes_nothing(case: Case) -> None:
    journal.write(case.machine, "data", journal.Rotation("another", 0, {1: "digest 1"}))
    with pytest.raises(Refused, match=r"is about another header \(another\) than the one on"):
        settling.settle(case.machine, case.volume)
    assert list(case.luks.slots) == [0]


def test_the_same_key_opens_what_was_encrypted_anew(case: Case) -> None:
    assert case.reencrypt() == ["the volume data was encrypted anew"]
    assert case.is_whole()
    assert case.unwrapped() == [case.key]


def test_encrypting_anew_goes_on_wherever_it_died(cases: Fresh) -> None:
    for case in interrupted(cases, Case.reencrypt, Died()):
        settling.settle(case.machine, case.volume)
        if case.state.pending:
            assert case.state.needs_key
            assert case.state.strangers == ()
        case.reencrypt()
        assert case.is_whole()
        assert case.unwrapped() == [case.key]


def test_while_it_is_encrypted_anew_no_slot_is_removed(cases: Fresh) -> None:
    for case in interrupted(cases, Case.reencrypt, Died()):
        if case.state.anew:
            with pytest.raises(Refused, match="finish that first, with reencrypt data"):
                case.rotate()
            assert len(case.luks.slots) == 2


def test_only_a_volume_with_one_key_is_encrypted_anew(case: Case) -> None:
    case.luks.put(1, Key.random())
    with pytest.raises(Refused, match="the volume data has other keys: rotate it first"):
        case.reencrypt()


def test_a_wrapped_key_is_what_only_its_recipients_read(case: Case) -> None:
    other, identity = given.customer()
    both = given.volume(
        given.Customer("acme", (*case.volume.customer.recipients, *other.recipients))
    )
    wrapped = wrapping.wrap(case.key, both.customer)
    assert wrapping.readers(wrapped) == 2
    assert Key(given.unwrapped(wrapped, identity)) == case.key
    assert Key(given.unwrapped(wrapped, case.identity)) == case.key
    assert bytes(case.key.secret) not in wrapped
    assert wrapping.readers(b"nonsense") is None


def test_nothing_is_opened_by_who_is_not_there(case: Case) -> None:
    case.luks.header = None
    with pytest.raises(Refused, match="the volume data is not made yet"):
        opening.open_volume(case.machine, case.volume, case.key)
