"""
Keeps the encrypted copies of disk headers off the hosts that they are from.

.. code-block:: bash

    salt-run luks.collect

What is fetched is encrypted, each copy to those who may restore it, and this master reads none of
it. The files are below ``/var/lib/rocksalt/luks-headers``, and the snapshots of the backup hold
them. A copy that was here for a week stays as ``UUID.1.age`` when another one takes its place.
"""

import base64
import binascii
import hashlib
import json
import logging
import os
import re
import socket
import sys
import time

import salt.client

from rocksalt.host import Host

log = logging.getLogger(__name__)

FOLDER = "/var/lib/rocksalt/luks-headers"
LARGEST = 24 << 20  # bytes of one encrypted copy
MOST = 512  # copies of one minion
ROOM = 1 << 30  # bytes of all copies of one minion
WEEK = 7 * 24 * 3600
BEGIN = b"age-encryption.org/v1\n"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SHA256 = re.compile(r"[0-9a-f]{64}")
TEXTS = ("uuid", "device", "digest", "time", "sha256", "volume", "customer")


def __virtual__():
    if not sys.platform.startswith("linux"):
        return False, "luks: the baseline is for Linux hosts"
    return True


def collect(tgt="*", tgt_type="glob", timeout=60):
    """
    Fetches the copies of headers that are not here yet, and tells their minions.

    tgt
        Which minions, as for the command ``salt``.
    tgt_type
        How they are named: ``glob``, ``list``, ``compound``, ...
    timeout
        Seconds that they have to answer.

    Returns ``{"fetched": {minion: [uuid]}, "kept": {minion: number of copies that are here},
    "problems": {minion: [sentences]}}``, with ``retcode`` 1 where there are problems. A copy that
    its minion no longer has stays here. It never raises.

    CLI Example:

    .. code-block:: bash

        salt-run luks.collect
        salt-run luks.collect 'db*'
    """
    try:
        with salt.client.get_local_client(mopts=__opts__) as client:
            return _collect(_Minions(client, int(timeout)), tgt, tgt_type)
    except Exception as error:  # a TypeError would be taken for wrong arguments, with exit code 0
        log.exception("luks.collect")
        return {"reason": f"{type(error).__name__}: {error}", "retcode": 1}


def _collect(minions, tgt, tgt_type):
    answers = minions.ask(tgt, tgt_type, "luks.copies")
    fetched, kept, problems = {}, {}, {}
    for minion, records in sorted(answers.items()):
        if not isinstance(records, dict) or len(records) > MOST:
            problems[minion] = [f"luks.copies did not answer as expected: {_short(records)}"]
            continue
        for uuid, record in sorted(records.items()):
            try:
                new = _keep(minions, minion, uuid, record)
            except (ValueError, OSError) as error:
                problems.setdefault(minion, []).append(f"{_short(uuid)}: {error}")
                continue
            kept[minion] = kept.get(minion, 0) + 1
            if new:
                fetched.setdefault(minion, []).append(uuid)
    if not answers:
        problems["*"] = [f"no minion answered that is {tgt_type} {tgt!r}"]
    found = {"fetched": fetched, "kept": kept, "problems": problems}
    return {**found, "retcode": 1} if problems else found


def _keep(minions, minion, uuid, record):
    """Fetches one copy unless it is here, and says so to the minion; whether it is new. ValueError,
    as the end of a sentence, for what is no copy: a minion may claim anything.
    """
    if not isinstance(uuid, str) or not UUID.fullmatch(uuid) or not isinstance(record, dict):
        raise ValueError("is no UUID of a header")
    if not all(isinstance(record.get(key), str) for key in TEXTS) or record["uuid"] != uuid:
        raise ValueError("has no record of a copy")
    if not SHA256.fullmatch(record["sha256"]):
        raise ValueError("has no hash of a copy")
    folder = _folder(minion)
    path = os.path.join(folder, f"{uuid}.age")
    new = _hash(path) != record["sha256"]
    if new:
        data = _decoded(minions.ask_one(minion, "luks.copy", uuid))
        if hashlib.sha256(data).hexdigest() != record["sha256"]:
            raise ValueError("what arrived has another hash than its record says")
        _make_room(folder, uuid, len(data))
        Host().write(path, data.decode(errors="surrogateescape"), "0600")
    texts = {key: record[key] for key in TEXTS}
    texts["recipients"] = [str(it) for it in record.get("recipients") or ()]
    text = json.dumps(texts, indent=1, sort_keys=True) + "\n"
    if new or Host().read(f"{folder}/{uuid}.json") != text:
        Host().write(f"{folder}/{uuid}.json", text, "0600")
    noted = minions.ask_one(minion, "luks.kept", uuid, record["sha256"], _here())
    if noted is False:
        raise ValueError("was made anew meanwhile: collect it once more")
    if noted is not True:
        raise ValueError(f"luks.kept did not answer as expected: {_short(noted)}")
    return new


def _make_room(folder, uuid, size):
    """Puts the copy that is here aside; whoever sends one copy after another takes away none that
    was here for a week. ValueError where a minion has too much here: it may fill no disk.
    """
    sizes = {it.name: it.stat().st_size for it in os.scandir(folder)}
    others = {name.partition(".")[0] for name in sizes} - {uuid}
    if len(others) >= MOST or sum(sizes.values()) + size > ROOM:
        raise ValueError(f"is not kept: {folder} is full, take away what no disk needs any more")
    path, aside = (os.path.join(folder, name) for name in (uuid, f"{uuid}.1"))
    old = f"{uuid}.1.age" not in sizes or time.time() - _changed(f"{path}.age") > WEEK
    for ending in (".age", ".json"):
        text = Host().read(path + ending) if old else None
        if text is not None:
            Host().write(aside + ending, text, "0600")


def _changed(path):
    return os.path.getmtime(path) if os.path.exists(path) else 0


def _decoded(text):
    if not isinstance(text, str) or len(text) > LARGEST * 4 // 3 + 4:
        raise ValueError("luks.copy did not answer with a copy")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data.startswith(BEGIN):
        raise ValueError("what arrived is not encrypted, and is not kept")
    return data


def _folder(minion):
    """Where the copies of a minion are; Salt lets no id have a slash, and neither do we."""
    if "/" in minion or "\0" in minion or minion in ("", ".", ".."):
        raise ValueError("the minion has an id that is none")
    root = __opts__.get("rocksalt_luks_headers") or FOLDER
    path = os.path.join(root, minion)
    os.makedirs(root, mode=0o700, exist_ok=True)
    os.makedirs(path, mode=0o700, exist_ok=True)
    return path


def _hash(path):
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except FileNotFoundError:
        return None


def _here():
    return f"{socket.gethostname()}:{__opts__.get('rocksalt_luks_headers') or FOLDER}"


def _short(claim):
    """What a minion claims, short enough for a sentence."""
    text = repr(claim)
    return text if len(text) <= 100 else f"{text[:100]}..."


class _Minions:
    """Asks minions through the master."""

    def __init__(self, client, timeout):
        self._client = client
        self._timeout = timeout

    def ask(self, tgt, tgt_type, function, *arguments):
        """Minion -> answer, of those that answered: without their returns in full, False would be
        an answer as well as none.
        """
        returns = self._client.cmd(
            tgt, function, list(arguments), tgt_type=tgt_type, timeout=self._timeout,
            full_return=True,
        )  # fmt: skip
        answered = {minion: it for minion, it in (returns or {}).items() if isinstance(it, dict)}
        return {minion: it["ret"] for minion, it in answered.items() if "ret" in it}

    def ask_one(self, minion, function, *arguments):
        """The answer of one minion; ValueError where there is none."""
        answers = self.ask([minion], "list", function, *arguments)
        if minion not in answers:
            raise ValueError(f"{function} was not answered")
        return answers[minion]
