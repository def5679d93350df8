"""
The authority for log shipping: certificates of hosts that ship, and of log servers.

.. code-block:: bash

    salt-run logs.authority
    salt-run logs.enrol '*'

Its key is on this master alone, below ``/etc/rocksalt/logs-ca``, and what it signs is good for log
shipping and nothing else. Keys of minions never leave them.
"""

import sys

import salt.client

from rocksalt.errors import Refused
from rocksalt.logstash import roles
from rocksalt.pki import authority as authorities
from rocksalt.pki import certificates, enrolling


def __virtual__():
    if not sys.platform.startswith("linux"):
        return False, "logs: the baseline is for Linux hosts"
    return True


def authority(days=3650, name="logs"):
    """
    Makes the authority unless there is one.

    days
        How long it is valid.
    name
        Its name, as certificates show it.

    Returns ``{"made": bool, "sha256", "expires", "certificate": PEM}``.

    CLI Example:

    .. code-block:: bash

        salt-run logs.authority
    """
    office = _office()
    return office.plainly("authority", lambda: office.authority(str(name), int(days)))


def enrol(tgt, tgt_type="glob", days=None, force=False, timeout=60):
    """
    Brings certificates to minions that ship or receive logs and have none, or one that runs out or
    is of another authority.

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

    A log server gets a second certificate for the names by which hosts call it. Who is one, and by
    which names, is read from its pillar as this master renders it, not from what it says. A name
    that another minion has is refused.

    Returns ``{"enrolled": {minion: what happened}, "kept": {minion: days left}, "unshipped":
    [minions whose logs nobody receives], "problems": {minion: sentence}}``, with ``retcode`` 1
    where there are problems. It never raises.

    CLI Example:

    .. code-block:: bash

        salt-run logs.enrol 'web*'
    """
    office = _office()

    def work():
        with salt.client.get_local_client(mopts=__opts__) as client:
            minions = enrolling.Minions(client, int(timeout))
            asked = enrolling.Round("logstash", "needed", "unshipped", tgt, tgt_type, bool(force))
            return _enrol(office, minions, asked, days)

    return office.plainly("enrol", work)


def server(name, request=None, days=None):
    """
    Signs the certificate of a log server that is no minion, such as one with Logstash.

    name
        The name by which hosts call it.
    request
        Path of a certificate request in PEM on this master: then the key stays where it was made.
        Without one a key is made here, for root alone; move it to the log server.
    days
        How long it is valid; a year, but no longer than the authority, where it is not said.

    Returns ``{"certificate", "authority", "key": paths on this master, "expires"}``.

    CLI Example:

    .. code-block:: bash

        salt-run logs.server elastic1.example.org request=/root/elastic1.csr
    """
    office = _office()
    asked = str(request) if request else None
    return office.plainly("server", lambda: office.outsider("server", str(name), asked, days))


def issued():
    """
    All that the authority signed.

    Returns ``{"certificates": [{"serial", "role": "server" or "client", "name", "address",
    "issued", "expires", "sha256"}]}``.

    CLI Example:

    .. code-block:: bash

        salt-run logs.issued
    """
    office = _office()
    return office.plainly("issued", office.issued)


def forget(name):
    """
    Strikes what was signed for a host that is gone, so that another may have its names. Nobody
    knows revoked certificates: take a host whose key was stolen out of ``ports``, or give all a new
    authority.

    Returns ``{"forgotten": [serial numbers]}``.

    CLI Example:

    .. code-block:: bash

        salt-run logs.forget web7
    """
    office = _office()
    return office.plainly("forget", lambda: office.forget(str(name)))


def _office():
    return enrolling.Office("logs", __opts__.get("rocksalt_logs_ca"))


def _enrol(office, minions, asked, days):
    known = office.known
    days = office.days(days)

    def bring(minion, _):
        """Asks, signs and brings: the certificate of the host as well where that of its log server
        is refused.
        """
        requests = minions.ask_one(minion, "logstash.request")
        if not _well_formed(requests):
            raise Refused(f"logstash.request: {enrolling.short(requests)}")
        now, refused = enrolling.now(), ""
        signed = {"host": known.member(requests["host"], minion, days, now)}
        if requests.get("server"):
            try:
                allowed = _names(minion)
                signed["server"] = known.service(requests["server"], minion, allowed, days, now)
            except Refused as error:
                refused = str(error)
        texts = {name: certificates.pem(it) for name, it in signed.items()}
        said = minions.install(minion, "logstash.install", texts, known.text)
        if refused:
            raise Refused(f"{refused}; its certificate for shipping is {said}")
        return f"{said}; until {authorities.stamp(certificates.expires(signed['host']))}"

    return office.enrol(minions, asked, bring)


def _names(minion):
    """What a log server may be called: the master decides that, not the minion."""
    pillar = __salt__["pillar.show_pillar"](minion)
    if pillar.get("_errors"):
        errors = enrolling.short("; ".join(map(str, pillar["_errors"])))
        raise Refused(f"the pillar of {minion} cannot be rendered: {errors}")
    return roles.rendered(pillar.get("hardening") or {}, minion)


def _well_formed(requests):
    if not isinstance(requests, dict):
        return False
    return all(isinstance(it, str) for it in (requests.get("host"), requests.get("server", "")))
