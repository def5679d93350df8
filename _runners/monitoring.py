"""
The authority for monitoring: certificates of hosts that are watched, and of those that watch.

.. code-block:: bash

    salt-run monitoring.authority
    salt-run monitoring.enrol '*'
    salt-run monitoring.client icinga1

Its key is on this master alone, below ``/etc/rocksalt/monitoring-ca``, and what it signs is good
for monitoring and nothing else. Keys of minions never leave them.
"""

import datetime as dt
import logging
import os
import pwd
import re
import sys

import salt.client

from rocksalt.errors import Refused, RocksaltError
from rocksalt.host import Host
from rocksalt.nrpe import authority as authorities
from rocksalt.nrpe import certificates

log = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}")


def __virtual__():
    if not sys.platform.startswith("linux"):
        return False, "monitoring: the baseline is for Linux hosts"
    return True


def authority(days=3650, name="monitoring"):
    """
    Makes the authority unless there is one.

    days
        How long it is valid.
    name
        Its name, as certificates show it.

    Returns ``{"made": bool, "sha256", "expires", "certificate": PEM}``.

    CLI Example:

    .. code-block:: bash

        salt-run monitoring.authority
    """

    def work():
        made = authorities.make(Host(), str(name), int(days), _now(), _folder())
        found = authorities.Authority(Host(), _folder())
        return {
            "made": made,
            "sha256": found.fingerprint,
            "expires": authorities.stamp(certificates.expires(found.certificate)),
            "certificate": found.text,
        }

    return _plainly("authority", work)


def enrol(tgt, tgt_type="glob", days=None, force=False, timeout=60):
    """
    Brings certificates to minions whose NRPE has none, or one that runs out or is of another
    authority.

    tgt
        Which minions, as for the command ``salt``.
    tgt_type
        How they are named: ``glob``, ``list``, ``compound``, ...
    days
        How long their certificates are valid; a year, but no longer than the authority, where it is
        not said.
    force
        Bring new ones to those as well that need none.
    timeout
        Seconds that they have to answer.

    Returns ``{"enrolled": {minion: what happened}, "kept": {minion: days left}, "unwatched":
    [minions that nobody is to watch], "problems": {minion: sentence}}``, with ``retcode`` 1 where
    there are problems. It never raises.

    CLI Example:

    .. code-block:: bash

        salt-run monitoring.enrol 'web*'
    """

    def work():
        with salt.client.get_local_client(mopts=__opts__) as client:
            minions = _Minions(client, int(timeout))
            return _enrol(minions, tgt, tgt_type, days, bool(force))

    return _plainly("enrol", work)


def client(name, request=None, days=None):
    """
    Signs the certificate of a monitoring host. Whoever has it may ask every host that was enrolled,
    from the addresses that ``hardening:nrpe:monitors`` names.

    name
        The host's name.
    request
        Path of a certificate request in PEM on this master: then the key stays where it was made.
        Without one a key is made here, for root alone; move it to the monitoring host.
    days
        How long it is valid; a year, but no longer than the authority, where it is not said.

    Returns ``{"certificate", "authority", "key": paths on this master, "expires"}``.

    CLI Example:

    .. code-block:: bash

        salt-run monitoring.client icinga1
        salt-run monitoring.client icinga1 request=/root/icinga1.csr
    """

    def work():
        return _client(str(name), request, days)

    return _plainly("client", work)


def issued():
    """
    All that the authority signed.

    Returns ``{"certificates": [{"serial", "role": "server" or "client", "name", "address",
    "issued", "expires", "sha256"}]}``.

    CLI Example:

    .. code-block:: bash

        salt-run monitoring.issued
    """

    def work():
        found = authorities.Authority(Host(), _folder()).issued()
        return {"certificates": [dict(vars(entry)) for entry in found]}

    return _plainly("issued", work)


def forget(name):
    """
    Strikes what was signed for a host that is gone, so that another may have its address. NRPE
    knows no revoked certificates: one that was stolen is good until its end, unless all get a new
    authority.

    Returns ``{"forgotten": [serial numbers]}``.

    CLI Example:

    .. code-block:: bash

        salt-run monitoring.forget web7
    """

    def work():
        found = authorities.Authority(Host(), _folder()).forget(str(name), _now())
        return {"forgotten": found}

    return _plainly("forget", work)


def _plainly(function, work):
    """What a function returns; an error as ``{"reason", "retcode": 1}``. A TypeError would be taken
    for wrong arguments, with exit code 0.
    """
    try:
        return work()
    except RocksaltError as error:
        return {"reason": str(error), "retcode": 1}
    except PermissionError as error:
        return {"reason": _forbidden(error), "retcode": 1}
    except Exception as error:
        log.exception("monitoring.%s", function)
        return {"reason": f"{type(error).__name__}: {error}", "retcode": 1}


def _forbidden(error):
    """Salt's packages run the master, and its runners, as another user than root."""
    user = pwd.getpwuid(os.geteuid()).pw_name
    why = f"{error.filename} is not for {user}, whom runners run as"
    path, folder = f"{error.filename}/", f"{_folder()}/"
    if not (path.startswith(folder) or folder.startswith(path)):  # such as a request
        return why
    return f"{why}: install -d -o {user} -m 0700 {_folder()}"


def _now():
    return dt.datetime.now(dt.timezone.utc)


def _folder():
    return __opts__.get("rocksalt_monitoring_ca") or authorities.FOLDER


def _days(known, days):
    return int(days) if days is not None else known.days(_now())


def _enrol(minions, tgt, tgt_type, days, force):
    known = authorities.Authority(Host(), _folder())
    days = _days(known, days)
    enrolled, kept, unwatched, problems = {}, {}, [], {}
    minions.ask(tgt, tgt_type, "saltutil.refresh_pillar", True)  # they know what was said long ago
    answers = minions.ask(tgt, tgt_type, "nrpe.certificate")
    for minion, status in sorted(answers.items()):
        if not isinstance(status, dict):
            problems[minion] = f"nrpe.certificate did not answer as expected: {_short(status)}"
        elif not status.get("watched"):
            unwatched.append(minion)
        elif status.get("given"):
            problems[minion] = "the pillar brings its certificates, so they are not renewed here"
        elif not (force or status.get("renew")) and status.get("authority") == known.fingerprint:
            kept[minion] = status.get("days_left")
        else:
            try:
                enrolled[minion] = _one(minions, known, minion, days)
            except RocksaltError as error:
                problems[minion] = str(error)
    if not answers:
        problems["*"] = f"no minion answered that is {tgt_type} {tgt!r}"
    found = {"enrolled": enrolled, "kept": kept, "unwatched": unwatched, "problems": problems}
    return {**found, "retcode": 1} if problems else found


def _one(minions, known, minion, days):
    """Asks, signs and brings; what the minion says of it."""
    request = minions.ask_one(minion, "nrpe.request")
    if not isinstance(request, str) or "CERTIFICATE REQUEST" not in request:
        raise Refused(f"nrpe.request: {_short(request)}")
    signed = known.server(request, minion, days, _now())
    said = minions.ask_one(minion, "nrpe.install", certificates.pem(signed), known.text)
    if not isinstance(said, str) or not said.startswith("installed"):
        raise Refused(f"nrpe.install: {_short(said)}")
    return f"{_short(said)}; until {authorities.stamp(certificates.expires(signed))}"


def _client(name, request, days):
    if not NAME.fullmatch(name):
        raise Refused(f"{name!r} is no name of a host")
    host, folder = Host(), f"{_folder()}/{authorities.CLIENTS}"
    known = authorities.Authority(host, _folder())
    paths = {"certificate": f"{folder}/{name}.pem", "authority": f"{_folder()}/ca.pem"}
    if request:
        text = host.read(str(request))
        if text is None:
            raise Refused(f"{request} does not exist")
        public = certificates.load_request(text, str(request)).public_key()
    else:
        key = certificates.new_key()
        public, paths["key"] = key.public_key(), f"{folder}/{name}.key"
    signed = known.client(public, name, _days(known, days), _now())
    if not request:
        host.write(paths["key"], certificates.key_pem(key), "0600")
    host.write(paths["certificate"], certificates.pem(signed), "0644")
    return {**paths, "expires": authorities.stamp(certificates.expires(signed))}


def _short(claim):
    """What a minion says, short enough for a sentence."""
    text = " ".join(str(claim).split())
    return text if len(text) <= 300 else f"{text[:300]}..."


class _Minions:
    """Asks minions through the master."""

    def __init__(self, client, timeout):
        self._client = client
        self._timeout = timeout

    def ask(self, tgt, tgt_type, function, *arguments):
        """Minion -> answer, of those that answered."""
        answers = self._client.cmd(
            tgt, function, list(arguments), tgt_type=tgt_type, timeout=self._timeout
        )
        return {minion: answer for minion, answer in (answers or {}).items() if answer is not False}

    def ask_one(self, minion, function, *arguments):
        """The answer of one minion; Refused where there is none."""
        answers = self.ask([minion], "list", function, *arguments)
        if minion not in answers:
            raise Refused(f"{function} was not answered")
        return answers[minion]
