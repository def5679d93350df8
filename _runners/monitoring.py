"""
The authority for monitoring: certificates of hosts that are watched, and of those that watch.

.. code-block:: bash

    salt-run monitoring.authority
    salt-run monitoring.enrol '*'
    salt-run monitoring.client icinga1

Its key is on this master alone, below ``/etc/rocksalt/monitoring-ca``, and what it signs is good
for monitoring and nothing else. Keys of minions never leave them.
"""

import sys

import salt.client

from rocksalt.errors import Refused
from rocksalt.pki import authority as authorities
from rocksalt.pki import certificates, enrolling


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
    office = _office()
    return office.plainly("authority", lambda: office.authority(str(name), int(days)))


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
    office = _office()

    def work():
        with salt.client.get_local_client(mopts=__opts__) as client:
            minions = enrolling.Minions(client, int(timeout))
            asked = enrolling.Round("nrpe", "watched", "unwatched", tgt, tgt_type, bool(force))
            return _enrol(office, minions, asked, days)

    return office.plainly("enrol", work)


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
    office = _office()
    asked = str(request) if request else None
    return office.plainly("client", lambda: office.outsider("client", str(name), asked, days))


def issued():
    """
    All that the authority signed.

    Returns ``{"certificates": [{"serial", "role": "server" or "client", "name", "address",
    "issued", "expires", "sha256"}]}``.

    CLI Example:

    .. code-block:: bash

        salt-run monitoring.issued
    """
    office = _office()
    return office.plainly("issued", office.issued)


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
    office = _office()
    return office.plainly("forget", lambda: office.forget(str(name)))


def _office():
    return enrolling.Office("monitoring", __opts__.get("rocksalt_monitoring_ca"))


def _enrol(office, minions, asked, days):
    known = office.known
    days = office.days(days)

    def bring(minion, _):
        """Asks, signs and brings."""
        request = minions.ask_one(minion, "nrpe.request")
        if not isinstance(request, str) or "CERTIFICATE REQUEST" not in request:
            raise Refused(f"nrpe.request: {enrolling.short(request)}")
        signed = known.server(request, minion, days, enrolling.now())
        said = minions.install(minion, "nrpe.install", certificates.pem(signed), known.text)
        return f"{said}; until {authorities.stamp(certificates.expires(signed))}"

    return office.enrol(minions, asked, bring)
