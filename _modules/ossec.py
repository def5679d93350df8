"""The OSSEC agent against the baseline: whether a server watches this host, and sees all of it.

.. code-block:: bash

    salt '*' ossec.status
    salt '*' ossec.drift
"""

import os
import time

import salt.exceptions
import salt.payload

from rocksalt import program, source
from rocksalt.findings import judge
from rocksalt.host import Host
from rocksalt.ossec import KEYS, checks, declared, enrolment, installed, marks, masters, repository
from rocksalt.ossec import enforce as enforcement
from rocksalt.ossec.problems import problems as contradictions
from rocksalt.plainly import plainly


def __virtual__():
    if __grains__.get("kernel") != "Linux":
        return False, "ossec: the baseline is for Linux hosts"
    return True


def _declared(saltenv=None):
    baseline = source.load(__salt__, __opts__, __pillar__, __grains__, __context__, saltenv)
    place = declared.Place(
        minion=__opts__["id"],
        masters={} if baseline.networks.get("salt") else masters.known(Host(), _masters()),
        codename=__grains__.get("oscodename", ""),
        interpreter=program.python(),
    )
    return declared.Declared(baseline, place)


def _masters():
    """The names of this minion's masters; none while it works without."""
    if __opts__.get("file_client") == "local" or __opts__.get("master_type") == "disable":
        return []
    named = __opts__.get("master")
    names = [str(name) for name in (named if isinstance(named, list) else [named]) if name]
    return [*names, *([str(__opts__["master_ip"])] if __opts__.get("master_ip") else [])]


def _look(saltenv=None):
    """The comparison for this host as it is now, and the host."""
    host = Host()
    with plainly():
        return host, checks.Ossec(_declared(saltenv), host, time.time())


def problems(saltenv=None):
    """
    What is wrong with the settings of the family although each is well-formed: a password that the
    server would not understand, a key without its certificate, a folder that does not exist,
    settings that lose alerts, a packet filter that does not let the agent out. A certificate that
    has expired is drift of a host that has to enrol.

    Returns a list of sentences.

    CLI Example:

    .. code-block:: bash

        salt '*' ossec.problems
    """
    with plainly():
        return contradictions(_declared(saltenv), Host())


def installation(saltenv=None):
    """
    What the SLS installs: ``{"watched": whether there is a server, "files": {path: text},
    "package": name}``. The files tell apt of the signed repository; without its key there are none.
    The package is empty where a site installs its own build.

    CLI Example:

    .. code-block:: bash

        salt '*' ossec.installation
    """
    with plainly():
        it = _declared(saltenv)
    return {
        "watched": bool(it.servers),
        "files": repository.files(it),
        "package": repository.package(it),
    }


def drift(saltenv=None):
    """
    A finding for every control of the family, whatever its status. Reads only, and asks no server.

    CLI Example:

    .. code-block:: bash

        salt '*' ossec.drift
    """
    _, it = _look(saltenv)
    with plainly():
        return judge(it.declared.baseline, "ossec", it.expected(), it.seen())


def render(saltenv=None):
    """
    The configuration that the agent is to have, as text.

    CLI Example:

    .. code-block:: bash

        salt '*' ossec.render
    """
    _, it = _look(saltenv)
    with plainly():
        return it.render()


def status(saltenv=None):
    """
    How the agent does now: its daemons, the server that answers and within how many seconds at most
    it last did, and the last scan. The same is noted every minute in
    ``/var/lib/rocksalt/ossec-status.json``.

    CLI Example:

    .. code-block:: bash

        salt '*' ossec.status
    """
    _, it = _look(saltenv)
    key = it.key
    return {
        **it.status,
        "version": it.version,
        "enrolled": {"name": key.name, "id": key.number, "server": it.note.server} if key else {},
    }


def enforce(ids, saltenv=None):
    """
    Enforces controls of the family. Meant for the state ``hardening.enforced``, which looks again
    afterwards. A configuration that a daemon does not take changes nothing.

    ids
        The control ids, as a list.

    Raises ``CommandExecutionError`` with what failed.

    CLI Example:

    .. code-block:: bash

        salt '*' ossec.enforce '[OSS-004]'
    """
    host, it = _look(saltenv)
    with plainly():
        enforcement.enforce(host, it, ids)


def enrol(saltenv=None):
    """
    Enrols this host again with the first of its servers, for instance after the agent was removed
    there, and starts the agent anew.

    Returns ``{"server": address, "name": name, "id": id}``; raises ``CommandExecutionError`` with
    what the server said otherwise.

    CLI Example:

    .. code-block:: bash

        salt web1 ossec.enrol
    """
    host, it = _look(saltenv)
    if not it.declared.servers or not it.version:
        raise salt.exceptions.CommandExecutionError(
            "there is no server in hardening:ossec:servers, or no agent on this host"
        )
    with plainly():
        enforcement.ready(it)
        key = enrolment.enrol(host, it.declared, installed.of(host, KEYS))
        enforcement.restart(host, it)
    return {"server": it.declared.servers[0], "name": key.name, "id": key.number}


def accept(saltenv=None):
    """
    Takes the agent's programs, scripts and rules as they are now for those that were installed: for
    a person who has looked at them, after what was written down of them was lost, or after a build
    of one's own was changed. What a package brought is compared with the package all the same.

    Returns the list of those that no package knows.

    CLI Example:

    .. code-block:: bash

        salt web1 ossec.accept
    """
    host, it = _look(saltenv)
    if not it.version:
        raise salt.exceptions.CommandExecutionError("there is no agent on this host")
    with plainly():
        installed.write_down(host, it.build)
        return installed.unknown(host, it.package)


def mark(moment):
    """
    Tells the OSSEC server that a run of Salt begins or ends on this host, with the id of the job,
    so that alerts in between can be told from tampering. Meant for the state ``ossec.marked``.

    moment
        ``begins`` or ``ends``.

    Returns the line.

    CLI Example:

    .. code-block:: bash

        salt web1 ossec.mark begins
    """
    with plainly():
        return marks.send(Host(), _job(), moment)


def _job():
    """The id of the job that this process works on: Salt tells modules only by the file in which it
    notes what runs.
    """
    folder = os.path.join(__opts__["cachedir"], "proc")
    names = sorted(os.listdir(folder), reverse=True) if os.path.isdir(folder) else []
    for name in names:
        try:
            with open(os.path.join(folder, name), "rb") as file:
                found = salt.payload.loads(file.read())
        except (OSError, salt.exceptions.SaltException):
            continue
        if isinstance(found, dict) and found.get("pid") == os.getpid() and found.get("jid"):
            return str(found["jid"])
    return "local"


def clean(test=False):
    """
    Takes away what the baseline put on this host for the agent: what keeps responses from banning
    administrators, too. The agent stays, with its configuration and its key, and goes on.

    test
        Only say what would be taken away.

    Returns the list of files.

    CLI Example:

    .. code-block:: bash

        salt '*' ossec.clean test=True
    """
    host = Host()
    found = enforcement.leftovers(host)
    if found and not test:
        with plainly():
            enforcement.clean(host)
    return found
