"""Where the chain of a host begins after its oldest lines were removed: ``<host>/begins.json``,
signed by the log server.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import Unverified
from rocksalt.backup.manifest import canonical
from rocksalt.logstash.receiving import files, ledger
from rocksalt.logstash.receiving.chain import ZERO, Head

NAMESPACE = "rocksalt-begins"


@dataclass(frozen=True)
class Begins:
    """The lines of a host up to ``n`` were removed; the last of them had that hash and was received
    at that time. Before this removal the chain began after ``before_n``: that is still true for a
    host that lost its power before the file was gone.
    """

    host: str
    n: int
    hash: str
    time: str
    before_n: int = 0
    before_hash: str = ZERO
    format: int = 1

    @property
    def head(self) -> Head:
        """The last line that was removed."""
        return Head(self.n, self.hash, self.time)

    @property
    def starts(self) -> dict[int, str]:
        """The lines after which the chain may begin: number -> hash."""
        return {self.before_n: self.before_hash, self.n: self.hash}


def write(folder: Path, begins: Begins, signer: sshsig.Signer) -> None:
    """Puts it in the folder of its host."""
    text = canonical(asdict(begins))
    signature = signer.sign(text, NAMESPACE).decode("ascii")
    files.replace(
        folder / files.BEGINS, canonical({"begins": text.decode("ascii"), "signature": signature})
    )


def read(folder: Path, trusted: str | None = None) -> Begins | None:
    """What the folder of a host has; None where nothing was removed. :class:`Unverified` where it
    is damaged, or was not signed by ``trusted`` (a public key; None does not look).
    """
    path = folder / files.BEGINS
    try:
        with files.opened(path) as file:
            whole = json.loads(file.read(1 << 16))
        text = whole["begins"].encode()
        if trusted is not None:
            sshsig.verify(text, whole["signature"].encode(), NAMESPACE, [trusted])
        found = Begins(**json.loads(text))
        if not _is_sound(found):
            raise ValueError(text)
    except FileNotFoundError:
        return None
    except Unverified as error:
        raise Unverified(f"{path} {error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError):
        raise Unverified(f"{path} is damaged") from None
    if found.host != folder.name:
        raise Unverified(f"{path} is that of {found.host}")
    return found


def numbers(path: Path, trusted: str) -> dict[str, int]:
    """The last line that was removed of each host below a path, as far as ``trusted`` says so."""
    found = {}
    for host in files.hosts(path):
        with contextlib.suppress(Unverified):
            if here := read(path / host, trusted):
                found[host] = here.n
    return found


def _is_sound(found: Begins) -> bool:
    before = [found.before_n, found.before_hash]
    return ledger.is_head([found.n, found.hash]) and (before == [0, ZERO] or ledger.is_head(before))
