"""Which minions sign what they answer: judged as the master would, and kept as a record.

Salt signs the returns of jobs, and nothing else that a minion sends. A master that requires
signatures drops returns without, and those that it cannot verify by its own ``signing_algorithm``.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from rocksalt.access import versions
from rocksalt.backup import names
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.logstash import told

FILE = "rocksalt-signing.json"
"""In the cache of the master."""
HOW = "salt-run access.signing"
SIGNS = "signs"
UNSIGNED, SILENT = "does not sign its answers", "does not answer"
UNASKED = "was not asked"
OTHERWISE = "signs otherwise than by its key and {}, as the master verifies"
HASHES = {"PKCS1v15-SHA1": hashes.SHA1, "PKCS1v15-SHA224": hashes.SHA224}
_SCHEMA = 1
_SHAPE = {"schema": int, "time": str, "algorithm": str, "minions": {"*": str}}


@dataclass(frozen=True)
class Survey:
    """What the running minions did at a time: by minion, ``SIGNS`` or why not."""

    time: dt.datetime
    algorithm: str
    minions: Mapping[str, str]

    def lagging(self, accepted: Collection[str] | None = None) -> dict[str, str]:
        """Why the master would not take what a minion answers, by minion: of all that were asked,
        or of those that are ``accepted``.
        """
        found = {name: self.minions.get(name, UNASKED) for name in accepted or ()}
        found = dict(self.minions) if accepted is None else found
        return {name: why for name, why in sorted(found.items()) if why != SIGNS}


def judged(answer: object, signature: object, public: str, algorithm: str) -> str:
    """``SIGNS`` if the ``signature`` of what a minion answered to ``test.version`` is by its public
    key in PEM and the algorithm; why not otherwise.

    The bytes that were signed cannot be had again, for Salt writes the time anew into what arrives:
    hence the release, of which it is known whether masters can verify what it signs.
    """
    if not isinstance(signature, bytes) or not signature:
        return UNSIGNED
    if why := versions.unverifiable(answer if isinstance(answer, str) else ""):
        return why
    try:
        key = serialization.load_pem_public_key(public.encode())
        if not isinstance(key, rsa.RSAPublicKey):
            raise ValueError
        key.recover_data_from_signature(signature, padding.PKCS1v15(), HASHES[algorithm]())
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return OTHERWISE.format(algorithm)
    return SIGNS


def text(survey: Survey) -> str:
    """The record of a survey."""
    record = {
        "schema": _SCHEMA,
        "time": names.utc(survey.time),
        "algorithm": survey.algorithm,
        "minions": dict(sorted(survey.minions.items())),
    }
    return json.dumps(record, indent=1) + "\n"


def read(host: Host, path: str) -> Survey | None:
    """The survey of a record, which is the master's user's; None where there is none. Raises
    :class:`Refused` for what is no record.
    """
    if host.attributes(path, follow=False) is None:
        return None
    found = told.read(host, path, _SHAPE, HOW)
    try:
        if set(found) != set(_SHAPE) or found["schema"] != _SCHEMA:
            raise ValueError
        return Survey(names.parsed(found["time"]), found["algorithm"], found["minions"])
    except ValueError:
        raise Refused(f"{path} is no record of {HOW}: call it again") from None
