"""Disk encryption against the baseline, and volumes of which only a customer has the key.

.. code-block:: bash

    salt '*' luks.status
    salt '*' luks.drift
"""

import base64
import dataclasses
import datetime as dt

from salt.exceptions import CommandExecutionError

from rocksalt import source
from rocksalt.findings import judge
from rocksalt.host import Host
from rocksalt.luks import copies as headers
from rocksalt.luks.cryptsetup import Strength
from rocksalt.luks.family import checks
from rocksalt.luks.family import enforce as enforcement
from rocksalt.luks.family import setup as setups
from rocksalt.luks.family import status as statuses
from rocksalt.luks.handover import onetime, service
from rocksalt.luks.keys import without_core_dumps
from rocksalt.luks.volumes import creating, opening, rotating, settling, states
from rocksalt.luks.volumes.machine import Machine
from rocksalt.plainly import plainly

__func_alias__ = {"open_": "open"}


def __virtual__():
    if __grains__.get("kernel") != "Linux":
        return False, "luks: the baseline is for Linux hosts"
    return True


def _baseline(saltenv=None):
    return source.load(__salt__, __opts__, __pillar__, __grains__, __context__, saltenv)


def _now():
    return dt.datetime.now(dt.timezone.utc)


def _look(saltenv=None):
    """The comparison for this host as it is now."""
    with plainly():
        return checks.Luks(_baseline(saltenv), Machine(), _now())


def _volume(name, saltenv=None):
    """The comparison, and a declared volume; an error names those that are."""
    it = _look(saltenv)
    with plainly():
        known = it.setup.volumes
    if name not in known:
        names = ", ".join(sorted(known)) or "none"
        raise CommandExecutionError(f"no volume {name!r} on this host; declared are {names}")
    return it, known[name]


def problems(saltenv=None):
    """
    What is wrong with the settings of the family although each is well-formed: a device that two
    volumes name, a public key that is none, customers who are not let in.

    Returns a list of sentences.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.problems
    """
    with plainly():
        return setups.problems(_baseline(saltenv), Host())


def packages(saltenv=None):
    """
    The packages that this host needs: a list, empty where nothing seems to be encrypted and no
    volume is declared. Looks at files alone, and never fails.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.packages
    """
    with plainly():
        return _look(saltenv).packages()


def drift(saltenv=None):
    """
    A finding for every control of the family, whatever its status. Reads only, and asks for no key.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.drift
    """
    it = _look(saltenv)
    with plainly():
        return judge(it.setup.baseline, "luks", it.expected(), it.seen())


def status(saltenv=None):
    """
    Every block device of this host: its size, what it is and lies on, what is on it and where that
    is mounted, whether it is encrypted and how; and every volume of a customer.

    Returns ``{"devices": {path: {"size", "kind", "on", "content", "mounted", "encrypted"}},
    "exempt": {what need not be encrypted: why}, "volumes": {name: {"customer", "device", "state",
    "uuid", "mount", "recipients", "readers", "problem"}}}``, devices and volumes without the keys
    that there is nothing to say about; recipients are the fingerprints of those who can read the
    key as the header names them, readers how many can for certain.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.status
    """
    it = _look(saltenv)
    with plainly():
        return statuses.status(it)


def render(saltenv=None):
    """
    The units that listen for customers and open volumes at boot: ``{path: text}``; empty on a host
    without volumes.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.render
    """
    it = _look(saltenv)
    with plainly():
        return it.setup.units()


def enforce(ids, saltenv=None):
    """
    Enforces controls of the family. Meant for the state ``hardening.enforced``, which looks again
    afterwards. Makes declared volumes on disks that are empty, and never changes others.

    ids
        The control ids, as a list.

    Raises ``CommandExecutionError`` with what failed.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.enforce '[LUKS-046]'
    """
    it = _look(saltenv)
    with plainly():
        enforcement.enforce(it, ids)


def wrapped(volume, saltenv=None):
    """
    The key of a volume as its header has it: encrypted to its customer, an age file in base64. Only
    the customer can read it.

    CLI Example:

    .. code-block:: bash

        salt-call luks.wrapped acme-data --out=json | jq -r .local | base64 -d > acme-data.age
    """
    it, wanted = _volume(volume, saltenv)
    with plainly():
        found = states.state(it.machine, wanted)
    if found.wrapped is None:
        raise CommandExecutionError(f"{wanted.device} has no wrapped key; luks.status says more")
    return base64.b64encode(found.wrapped).decode()


def request(volume, what="open", saltenv=None):
    """
    Makes a one-time key for handing over the key of a volume, and says so: a statement, and its
    signature by the SSH key of this host, by which the customer knows that it is this very host.
    The customer encrypts the volume's key to the recipient in the statement.

    volume
        Its name.

    what
        What the key is handed over for, and can be used for: ``open``, ``rotate``, ``expel``
        (:func:`rotate` with ``remove_strangers``) or ``reencrypt``. The statement says so, and
        names who could read a new key.

    Returns ``{"statement": text, "signature": text}``.

    CLI Example:

    .. code-block:: bash

        salt-call luks.request acme-data --out=json | jq .local > request.json
    """
    it, wanted = _volume(volume, saltenv)
    minutes = it.setup.settings["handover_minutes"]
    with plainly():
        uuid = opening.there(it.machine, wanted).uuid
        return onetime.request(it.host, __opts__["id"], wanted, uuid, str(what), minutes, it.now)


def _key(it, wanted, what, sealed):
    """The key that was handed over for this, or the one that the key service has; who can read a
    new key is for the customer to say. A refusal says how a key can be handed over; it is never an
    argument in the clear.
    """
    if sealed is not None:
        onetime.not_in_the_clear(wanted, str(sealed))
        uuid = opening.there(it.machine, wanted).uuid
        return onetime.take(it.host, wanted, uuid, what, str(sealed), it.now)
    if wanted.key_command and what not in onetime.REPLACING:
        return service.fetch(wanted)
    raise CommandExecutionError(
        f"the key of {wanted.name} is its customer's: see luks.request {wanted.name} what={what}, "
        "or have it handed over by SSH"
    )


def _copied(it, wanted):
    """Copies the header that was changed; what there is to say of that."""
    return headers.renewed(it.host, it.setup.settings, wanted, it.now)


def open_(volume, sealed=None, saltenv=None):
    """
    Opens and mounts a volume.

    volume
        Its name.

    sealed
        The key, encrypted to the one-time key that :func:`request` made: an age file, in armour or
        in base64. Left out where a key service has the key. Never give a key in the clear: every
        minion can read the arguments of a job.

    Returns what was done, a list of sentences; empty if it is open and mounted.

    CLI Example:

    .. code-block:: bash

        salt db1 luks.open acme-data sealed="$(base64 -w0 sealed.age)"
    """
    it, wanted = _volume(volume, saltenv)
    with plainly(), without_core_dumps(), _key(it, wanted, onetime.OPEN, sealed) as key:
        done = opening.open_volume(it.machine, wanted, key)
    return done + _copied(it, wanted)


def close(volume, saltenv=None):
    """
    Unmounts and closes a volume. Raises ``CommandExecutionError`` with who uses it.

    Returns what was done, a list of sentences; empty if it is closed.

    CLI Example:

    .. code-block:: bash

        salt db1 luks.close acme-data
    """
    it, wanted = _volume(volume, saltenv)
    with plainly():
        return opening.close_volume(it.machine, wanted)


def rotate(volume, sealed=None, remove_strangers=False, saltenv=None):
    """
    Gives a volume a new key, wrapped to the public keys that are declared now, and takes the old
    one away once the new one has opened the volume.

    volume
        Its name.

    sealed
        The old key, as for :func:`open_`, of a request for ``rotate``. Nothing is done unless the
        recipients that the customer agreed to there are those that are declared now.

    remove_strangers
        Take away key slots and tokens, too, that are not the customer's; the request was for
        ``expel``.

    Returns ``{"wrapped": the new key, an age file in base64, "notes": [sentences]}``.

    CLI Example:

    .. code-block:: bash

        salt db1 luks.rotate acme-data sealed="$(base64 -w0 sealed.age)"
    """
    it, wanted = _volume(volume, saltenv)
    what = onetime.EXPEL if remove_strangers else onetime.ROTATE
    strength = Strength.of(it.setup.settings)
    with plainly(), without_core_dumps(), _key(it, wanted, what, sealed) as key:
        agreed = wanted.customer.fingerprints  # in the statement that the key was sealed for
        done = rotating.rotate(
            it.machine, wanted, key, it.now, strength, bool(remove_strangers), agreed
        )
    notes = done.notes + _copied(it, wanted)
    return {"wrapped": base64.b64encode(done.wrapped).decode(), "notes": notes}


def reencrypt(volume, sealed=None, saltenv=None):
    """
    Encrypts a volume anew with another volume key, so that old copies of its header open nothing.
    Takes hours; the same call goes on after an interruption.

    volume
        Its name.

    sealed
        The key, as for :func:`open_`, of a request for ``reencrypt``.

    Returns what was done, a list of sentences.

    CLI Example:

    .. code-block:: bash

        salt db1 -t 86400 luks.reencrypt acme-data sealed="$(base64 -w0 sealed.age)"
    """
    it, wanted = _volume(volume, saltenv)
    strength = Strength.of(it.setup.settings)
    with plainly(), without_core_dumps(), _key(it, wanted, onetime.REENCRYPT, sealed) as key:
        done = rotating.reencrypt(it.machine, wanted, key, strength)
    return done + _copied(it, wanted)


def settle(volume, saltenv=None):
    """
    Finishes or takes back what was interrupted with a volume, as far as that needs no key.

    Returns what was done, a list of sentences.

    CLI Example:

    .. code-block:: bash

        salt db1 luks.settle acme-data
    """
    it, wanted = _volume(volume, saltenv)
    with plainly():
        return settling.settle(it.machine, wanted)


def forget(volume, saltenv=None):
    """
    Gives up a volume whose header is lost or another one: the next state run makes it anew on an
    empty disk, or takes the header that is there for the volume's. The data that were there are
    lost, unless the header is restored from its copy instead.

    Returns what was done, a list of sentences. Raises ``CommandExecutionError`` while the volume is
    as it was made.

    CLI Example:

    .. code-block:: bash

        salt db1 luks.forget acme-data
    """
    it, wanted = _volume(volume, saltenv)
    with plainly():
        return creating.forget(it.machine, wanted)


def copies():
    """
    The second copies of headers on this host, by the UUID of the header: ``{uuid: {"uuid",
    "device", "digest", "time", "recipients", "sha256", "size", "volume", "customer", "kept"}}``.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.copies
    """
    return {uuid: dataclasses.asdict(copy) for uuid, copy in headers.copies(Host()).items()}


def copy(uuid):
    """
    A second copy of a header: an encrypted age file, in base64. ``salt-run luks.collect`` asks for
    it.

    CLI Example:

    .. code-block:: bash

        salt db1 luks.copy 7e6a3c4e-0f4b-4ad3-9b39-1a3a0e3c9a55
    """
    with plainly():
        return base64.b64encode(headers.content(Host(), str(uuid))).decode()


def kept(uuid, sha256, where):
    """
    Notes that a second copy is kept elsewhere as well, as ``salt-run luks.collect`` says; False
    where that is no longer the copy of today.

    uuid, sha256
        Which copy: the UUID of the header, and the hash of the encrypted file.

    where
        Where it is kept, in words.

    CLI Example:

    .. code-block:: bash

        salt db1 luks.kept 7e6a3c4e-0f4b-4ad3-9b39-1a3a0e3c9a55 HASH master:/var/lib/headers
    """
    with plainly():
        return headers.note_kept(Host(), str(uuid), str(sha256), str(where), _now())


def clean(test=False):
    """
    Takes away what receives the keys of customers: program, configuration, units and SSH keys.
    Volumes, what is under way with them, copies of headers and the account stay; open volumes stay
    open.

    test
        Only say what would be taken away.

    Returns the list of files.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.clean test=True
    """
    host = Host()
    found = enforcement.leftovers(host)
    if found and not test:
        with plainly():
            enforcement.clean(host)
    return found
