"""Keys that sshd takes for an account although nobody declared them.

Every file counts in which sshd's configuration looks for keys, under whatever condition, and the
two usual ones. Keys are taken away even while their account is logged in: the session goes on, and
an intruder would otherwise keep a key by staying.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    found = []
    for file in files:
        public = [key for key in file.keys if key.fingerprint in PUBLISHED]
        if public:
            act = Strike(file.path, file.account, frozenset(map(_way, public)))
            texts = [
                f"{file.account.name}: {PUBLISHED[k.fingerprint]} in {file.path}" for k in public
            ]
            found += [Fault(text, act, file.foreign) for text in texts]
    return found


def strange(it: Accounts, files: Sequence[KeyFile]) -> list[Fault]:
    """Keys that nobody declared, the public ones aside. Default accounts keep theirs where the
    account itself is locked.
    """
    declared = _declared(it)
    locked = it.default_accounts if "ACC-040" in it.wanted else set()
    own = {
        file.identity: file for file in files if file.account.name in declared and not file.problem
    }
    found: list[Fault] = []
    for file in files:
        name = file.account.name
        if declared.get(name, ()) is None or name in locked:
            continue
        if file.problem:
            why = f"it could not be read: {file.problem}"
            found.append(Fault(f"{name}: unknown keys in {file.path}", manual=why))
        else:
            found += _strange(it, file, declared, own.get(file.identity, file))
    return found


def _strange(
    it: Accounts,
    file: KeyFile,
    declared: Mapping[str, Sequence[keys.Key] | None],
    owned: KeyFile,
) -> list[Fault]:
    unknown = [key for key in file.keys if not _covered(key, declared.get(file.account.name, ()))]
    unknown = [key for key in unknown if key.fingerprint not in PUBLISHED]
    if not unknown:
        return []
    act = Strike(file.path, file.account, frozenset(map(_way, unknown)))
    theirs = declared.get(owned.account.name, ())
    why = file.foreign
    if not it.removes("authorized_keys"):
        why = unnamed("authorized_keys")
    elif owned.account.name != file.account.name and any(_covered(key, theirs) for key in unknown):
        why = f"{file.path} is also where {owned.account.name} has keys"
    return [Fault(f"{file.account.name}: {_shown(k)} in {file.path}", act, why) for k in unknown]


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
