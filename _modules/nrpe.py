"""NRPE against the baseline: who may ask this host, and what they get to know.

.. code-block:: bash

    salt '*' nrpe.drift
    salt '*' nrpe.certificate
"""

import datetime as dt

from rocksalt import program, source
from rocksalt.findings import judge
from rocksalt.host import Host
from rocksalt.nrpe import checks, installing, setup
from rocksalt.nrpe import enforce as enforcement
from rocksalt.plainly import plainly


def __virtual__():
    if __grains__.get("kernel") != "Linux":
        return False, "nrpe: the baseline is for Linux hosts"
    return True


def _baseline(saltenv=None):
    return source.load(__salt__, __opts__, __pillar__, __grains__, __context__, saltenv)


def _now():
    return dt.datetime.now(dt.timezone.utc)


def _look(saltenv=None):
    """The comparison for this host as it is now, and the host."""
    host = Host()
    with plainly():
        baseline = _baseline(saltenv)
        return host, checks.Nrpe(baseline, __opts__["id"], host, _now(), program.python())


def problems(saltenv=None):
    """
    What is wrong with the settings of the family although each is well-formed: thresholds that
    cross, a key that is not that of the certificate. Reads the pillar only. What depends on the
    time or on other families is drift: a certificate that has expired, a firewall that keeps
    monitoring hosts out.

    Returns a list of sentences.

    CLI Example:

    .. code-block:: bash

        salt '*' nrpe.problems
    """
    with plainly():
        return setup.problems(_baseline(saltenv), __opts__["id"])


def packages(saltenv=None):
    """
    The packages that this host needs: a list, empty where nobody is to watch it.

    CLI Example:

    .. code-block:: bash

        salt '*' nrpe.packages
    """
    with plainly():
        watched = setup.Setup(_baseline(saltenv), __opts__["id"]).monitors
    return ["nagios-nrpe-server", "monitoring-plugins-basic"] if watched else []


def drift(saltenv=None):
    """
    A finding for every control of the family, whatever its status. Changes nothing; it connects to
    NRPE a few times as a stranger would, which NRPE logs as refused.

    CLI Example:

    .. code-block:: bash

        salt '*' nrpe.drift
    """
    _, it = _look(saltenv)
    with plainly():
        return judge(it.setup.baseline, "nrpe", it.expected(), it.seen())


def render(saltenv=None):
    """
    The configuration of NRPE and the drop-in of its unit: ``{path: text}``; empty where nobody is
    to watch this host.

    CLI Example:

    .. code-block:: bash

        salt '*' nrpe.render
    """
    it = _look(saltenv)[1]
    return it.render() if it.setup.monitors else {}


def enforce(ids, saltenv=None):
    """
    Enforces controls of the family as one transaction. Meant for the state ``hardening.enforced``,
    which looks again afterwards.

    ids
        The control ids, as a list.

    Raises ``CommandExecutionError`` when the change was refused or undone.

    CLI Example:

    .. code-block:: bash

        salt '*' nrpe.enforce '[NRPE-003]'
    """
    host, it = _look(saltenv)
    with plainly():
        enforcement.enforce(host, it, ids)


def certificate(saltenv=None):
    """
    The certificate of this host's NRPE.

    Returns ``{"watched": whether anybody may ask, "given": whether the pillar brings it, "renew":
    whether it needs a new one}``, and where there is one ``{"expires", "days_left", "names",
    "serial", "authority": SHA-256 of the authority's}``.

    CLI Example:

    .. code-block:: bash

        salt '*' nrpe.certificate
    """
    _, it = _look(saltenv)
    with plainly():
        return installing.status(it)


def request(saltenv=None):
    """
    Makes a new key, which never leaves this host, and asks for a certificate. The old key stays in
    use until that comes, by :func:`install` or by ``hardening:nrpe:certificate``.

    Returns the request in PEM, for this minion's id and the address that NRPE listens on.

    CLI Example:

    .. code-block:: bash

        salt web1 nrpe.request
    """
    _, it = _look(saltenv)
    with plainly():
        return installing.request(it)


def install(certificate, authority, saltenv=None):
    """
    Takes the certificate that was asked for by :func:`request` and starts NRPE with it; the old one
    comes back where that fails.

    certificate
        In PEM, with those between it and the authority, if any.

    authority
        The certificate of the authority in PEM.

    Returns what happened, in words.

    CLI Example:

    .. code-block:: bash

        salt-run monitoring.enrol web1
    """
    host, it = _look(saltenv)
    with plainly():
        return installing.install(host, it, certificate, authority)


def clean(test=False):
    """
    Takes away what the baseline put on this host for NRPE and gives the distribution's
    configuration back. NRPE stays, and so do its key and certificates.

    test
        Only say what would be taken away.

    Returns the list of files.

    CLI Example:

    .. code-block:: bash

        salt '*' nrpe.clean test=True
    """
    host = Host()
    found = enforcement.leftovers(host)
    if found and not test:
        with plainly():
            enforcement.clean(host)
    return found
