"""Log shipping against the baseline: whether the lines of this host leave it, arrive, and stay as
they arrived.

.. code-block:: bash

    salt '*' logstash.drift
    salt '*' logstash.probe
    salt logs1 logstash.verify
"""

import datetime as dt

from rocksalt import program, source
from rocksalt.findings import judge
from rocksalt.host import Host
from rocksalt.logstash import asking, checks, facts, installing
from rocksalt.logstash import enforce as enforcement
from rocksalt.logstash import problems as contradictions
from rocksalt.plainly import plainly


def __virtual__():
    if __grains__.get("kernel") != "Linux":
        return False, "logstash: the baseline is for Linux hosts"
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
        return host, checks.Logstash(baseline, __opts__["id"], host, _now(), program.python())


def problems(saltenv=None):
    """
    What is wrong with the settings of the family although each is well-formed: a port that two
    hosts have, a key that is not that of the certificate. Reads the pillar only.

    Returns a list of sentences.

    CLI Example:

    .. code-block:: bash

        salt '*' logstash.problems
    """
    with plainly():
        return contradictions.problems(_baseline(saltenv), __opts__["id"])


def packages(saltenv=None):
    """
    The packages that this host needs: a list, empty where it is no log server.

    CLI Example:

    .. code-block:: bash

        salt '*' logstash.packages
    """
    with plainly():
        receives = facts.Setup(_baseline(saltenv), __opts__["id"]).receives
    return ["rsyslog", "rsyslog-relp", "rsyslog-openssl"] if receives else []


def drift(saltenv=None):
    """
    A finding for every control of the family, whatever its status. Changes nothing.

    CLI Example:

    .. code-block:: bash

        salt '*' logstash.drift
    """
    _, it = _look(saltenv)
    with plainly():
        return judge(it.setup.baseline, "logstash", it.expected(), it.seen())


def render(saltenv=None):
    """
    The configuration of the journal, and where this host ships the program, unit and configuration
    of the shipper: ``{path: text}``. The program is a zip behind one line of text.

    CLI Example:

    .. code-block:: bash

        salt '*' logstash.render
    """
    _, it = _look(saltenv)
    with plainly():
        return it.render()


def enforce(ids, saltenv=None):
    """
    Enforces controls of the family as one transaction. Meant for the state ``hardening.enforced``,
    which looks again afterwards.

    ids
        The control ids, as a list.

    Raises ``CommandExecutionError`` when the change was refused or undone.

    CLI Example:

    .. code-block:: bash

        salt '*' logstash.enforce '[LOG-003]'
    """
    host, it = _look(saltenv)
    with plainly():
        enforcement.enforce(host, it, ids)


def status(saltenv=None):
    """
    What the shipper says of itself: to which log server it is connected and since when, how many
    lines wait, arrived, were dropped or lost. ``{}`` where it has said nothing yet.

    CLI Example:

    .. code-block:: bash

        salt '*' logstash.status
    """
    _, it = _look(saltenv)
    with plainly():
        return dict(it.status or {})


def probe(timeout=30, saltenv=None):
    """
    Writes a marked line to the journal, and waits until a log server has it.

    timeout
        Seconds to wait.

    Returns ``{"arrived": bool, "seconds": how long it took, "server": its name}``, and where the
    line did not arrive, the ``reason``; the return code is 1 then.

    CLI Example:

    .. code-block:: bash

        salt '*' logstash.probe
    """
    _, it = _look(saltenv)
    with plainly():
        found = asking.probe(it, float(timeout))
    if not found["arrived"]:
        __context__["retcode"] = 1
    return found


def accept(saltenv=None):
    """
    Notes the lines that were dropped or lost so far as looked at, so that LOG-007 is about new ones
    alone.

    Returns the figures: ``{"dropped": n, "lost": n, "unknown_gaps": n}``.

    CLI Example:

    .. code-block:: bash

        salt web1 logstash.accept
    """
    _, it = _look(saltenv)
    with plainly():
        return asking.accept(it)


def keys():
    """
    The public keys of this host as a log server or a witness, made if it has none yet: ``signing``
    signs what it received, ``transport`` logs in at its witness, ``witness`` signs what it
    witnessed; ``host`` is the SSH server's own. They are what the pillars of the others need; the
    private halves never leave this host.

    Returns ``{"signing": "ssh-ed25519 ...", "transport": ..., "witness": ..., "host": ...}``.

    CLI Example:

    .. code-block:: bash

        salt logs1,witness logstash.keys
    """
    with plainly():
        return asking.keys(Host())


def verify(host=""):
    """
    Recomputes the chains of all received lines on a log server, and compares them with what its
    witness signed: a line that was changed, removed, inserted or cut is named. Reads all of them,
    which takes a while.

    host
        The minion id of a host, to check its lines alone.

    Returns ``{"ok": bool, "hosts": {id: {"lines", "problems", "unwitnessed_since", ...}},
    "witness", "problems"}``; the return code is 1 where something is not ok.

    CLI Example:

    .. code-block:: bash

        salt logs1 logstash.verify
    """
    with plainly():
        found = asking.verify(Host(), host)
    if not found["ok"]:
        __context__["retcode"] = 1
    return found


def certificate(saltenv=None):
    """
    The certificates of this host, as the authority asks for them before it signs.

    CLI Example:

    .. code-block:: bash

        salt '*' logstash.certificate
    """
    _, it = _look(saltenv)
    with plainly():
        return installing.status(it)


def request(saltenv=None):
    """
    Makes new keys, which never leave this host, and asks for certificates. The old ones stay in use
    until those come, by :func:`install` or by ``hardening:logstash:certificate``.

    Returns the requests in PEM: ``host``, and ``server`` of a log server.

    CLI Example:

    .. code-block:: bash

        salt web1 logstash.request
    """
    _, it = _look(saltenv)
    with plainly():
        return installing.request(it)


def install(certificates, authority, saltenv=None):
    """
    Takes the certificates that were asked for by :func:`request` and starts with them; the old ones
    come back where that fails.

    certificates
        In PEM by the names of the requests, each with those between it and the authority, if any.

    authority
        The certificate of the authority in PEM.

    Returns what happened, in words.

    CLI Example:

    .. code-block:: bash

        salt-run logs.enrol web1
    """
    host, it = _look(saltenv)
    with plainly():
        return installing.install(host, it, certificates, authority)


def clean(test=False):
    """
    Takes away what the baseline put on this host for log shipping. Keys, certificates, received
    logs and what a witness signed stay.

    test
        Only say what would be taken away.

    Returns the list of files.

    CLI Example:

    .. code-block:: bash

        salt '*' logstash.clean test=True
    """
    host = Host()
    found = enforcement.leftovers(host)
    if found and not test:
        with plainly():
            enforcement.clean(host)
    return found
