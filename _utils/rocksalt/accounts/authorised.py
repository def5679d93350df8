"""Keys that sshd takes for an account although nobody declared them.

Every file counts in which sshd's configuration looks for keys, under whatever condition, and the
two usual ones. Keys are taken away even while their account is logged in: the session goes on, and
an intruder would otherwise keep a key by staying.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rocksalt import sshd, ways_in
from rocksalt.accounts import userfiles
from rocksalt.accounts.database import Account, Database
from rocksalt.accounts.faults import Fault, shown
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.sshd import config, keys
from rocksalt.sshd.known_keys import PUBLISHED
from rocksalt.transaction import DISABLED

if TYPE_CHECKING:
    from rocksalt.accounts.checks import Accounts

_USUAL = (".ssh/authorized_keys", ".ssh/authorized_keys2")
_LONG = 60
_Way = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class KeyFile:
    """The keys of one account in one file. ``owner`` is whom that belongs to, ``identity`` is the
    same for one file under two names; ``problem`` says why it could not be read.
    """

    account: Account
    path: str
    keys: Sequence[keys.Key] = ()
    owner: int = 0
    identity: tuple[int, int] = (0, 0)
    problem: str = ""

    @property
    def foreign(self) -> str:
        """Why this is no file in which to change something for the account."""
        known = (0, self.account.uid)
        return "" if self.owner in known else f"{self.path} belongs to UID {self.owner}"


@dataclass(frozen=True)
class Strike:
    """Makes comments of some keys of a file, so that they can be put back."""

    file: str
    account: Account
    ways: frozenset[_Way]

    def __call__(self, host: Host) -> None:
        try:
            userfiles.edit(host, self.file, self.account, self._without)
        except OSError as error:
            raise Refused(f"keys stay in {self.file}: {error.strerror}") from None

    def _without(self, text: str) -> str:
        return "\n".join(
            DISABLED + line if any(_way(key) in self.ways for key in keys.parse(line)) else line
            for line in text.split("\n")
        )


def unnamed(kind: str) -> str:
    """Why something stays that the settings do not have taken away."""
    return f"hardening:accounts:remove does not name {kind}"


def read(host: Host, people: Database) -> list[KeyFile]:
    """The key files of all accounts, system accounts included, that have something in them."""
    patterns = _patterns(host)
    found = []
    for account in people.accounts:
        for path in dict.fromkeys(ways_in.key_paths(account, patterns)):
            try:
                content = userfiles.read(host, path)
            except OSError as error:
                found.append(KeyFile(account, path, problem=error.strerror or str(error)))
                continue
            if content:
                parsed = keys.parse(content.text)
                found.append(KeyFile(account, path, parsed, content.owner, content.identity))
    return found


def _patterns(host: Host) -> list[str]:
    lines = config.parse(sshd.MAIN, host.read, host.glob)
    values = [config.words(line.value) for line in lines if line.keyword == "authorizedkeysfile"]
    return list(dict.fromkeys([*_USUAL, *(w for value in values for w in value if w != "none")]))


def known(files: Sequence[KeyFile]) -> list[Fault]:
    """Keys whose private halves are public, wherever they are authorised."""
    found: list[Fault] = []
    for file in files:
        public = [key for key in file.keys if key.fingerprint in PUBLISHED]
        if file.problem:
            found.append(_unread(file))
        elif public:
            names = [PUBLISHED[key.fingerprint] for key in public]
            found += _faults(file, public, names, file.foreign)
    return found


def strange(it: Accounts, files: Sequence[KeyFile]) -> list[Fault]:
    """Keys that nobody declared, the public ones aside. Default accounts keep theirs where the
    account itself is locked.
    """
    declared = _declared(it)
    locked = it.default_accounts if "ACC-040" in it.wanted else set()
    owners = defaultdict(list)
    for file in files:
        if file.account.name in declared:
            owners[file.identity].append(file.account.name)
    found: list[Fault] = []
    for file in files:
        name = file.account.name
        if name in locked or declared.get(name, ()) is None:
            continue
        if file.problem:
            found.append(_unread(file))
            continue
        unknown = [key for key in file.keys if _unknown(key, declared.get(name, ()))]
        if unknown:
            shared = [o for o in owners[file.identity] if _has_some(declared[o], unknown)]
            why = "" if it.removes("authorized_keys") else unnamed("authorized_keys")
            if shared:
                why = f"{file.path} is also where {shared[0]} has keys"
            found += _faults(file, unknown, map(_shown, unknown), why or file.foreign)
    return found


def keyed(it: Accounts, files: Sequence[KeyFile]) -> set[str]:
    """Accounts that have keys, or what could be some, and keep one when this family has been
    enforced.
    """
    found = known(files) if "ACC-041" in it.wanted else []
    found += strange(it, files) if "ACC-042" in it.wanted else []
    taken: dict[tuple[str, str], set[_Way]] = defaultdict(set)
    for strike in (fault.about for fault in found if not fault.manual):
        taken[strike.file, strike.account.name] |= strike.ways
    return {
        file.account.name
        for file in files
        if file.problem or {*map(_way, file.keys)} - taken[file.path, file.account.name]
    }


def _unread(file: KeyFile) -> Fault:
    text = f"{file.account.name}: unknown keys in {file.path}"
    return Fault(text, manual=f"it could not be read: {file.problem}")


def _faults(
    file: KeyFile, unwanted: Iterable[keys.Key], names: Iterable[str], manual: str
) -> list[Fault]:
    """A fault for each key of a file; one change of the file takes them all away."""
    act = Strike(file.path, file.account, frozenset(map(_way, unwanted)))
    return [Fault(f"{file.account.name}: {name} in {file.path}", act, manual) for name in names]


def _unknown(key: keys.Key, declared: Sequence[keys.Key] | None) -> bool:
    return key.fingerprint not in PUBLISHED and not _covered(key, declared)


def _has_some(declared: Sequence[keys.Key] | None, unknown: Iterable[keys.Key]) -> bool:
    return any(_covered(key, declared) for key in unknown)


def _declared(it: Accounts) -> dict[str, Sequence[keys.Key] | None]:
    """Name -> declared keys; None where any key may be there."""
    lines = {name: entry["keys"] for name, entry in it.administrators.items()}
    lines |= {name: (entry or {}).get("keys") for name, entry in it.settings["users"].items()}
    return {
        name: None if given is None else [key for line in given for key in keys.parse(line)]
        for name, given in lines.items()
    }


def _covered(key: keys.Key, declared: Sequence[keys.Key] | None) -> bool:
    """Whether a key was declared: with these options, or with none, which whoever holds it may
    limit further.
    """
    return declared is None or any(
        key.fingerprint == own.fingerprint
        and (key.options == own.options or not (own.options or "cert-authority" in key.options))
        for own in declared
    )


def _way(key: keys.Key) -> _Way:
    return key.fingerprint, tuple(key.options.items())


def _shown(key: keys.Key) -> str:
    comment = key.comment if len(key.comment) <= _LONG else f"{key.comment[:_LONG]}..."
    return f"{key.fingerprint} ({shown(comment)})" if comment else key.fingerprint
