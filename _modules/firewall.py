"""The packet filter against the baseline, and what it lets in.

.. code-block:: bash

    salt '*' firewall.drift
    salt '*' firewall.explain
"""

from rocksalt import source
from rocksalt.findings import judge
from rocksalt.firewall import change, checks, reach
from rocksalt.firewall import enforce as enforcement
from rocksalt.firewall.policy import MANAGEMENT, Policy
from rocksalt.firewall.problems import problems as contradictions
from rocksalt.host import Host
from rocksalt.plainly import plainly

__outputter__ = {"explain": "table"}


def __virtual__():
    if __grains__.get("kernel") != "Linux":
        return False, "firewall: the baseline is for Linux hosts"
    return True


def _baseline(saltenv=None):
    return source.load(__salt__, __opts__, __pillar__, __grains__, __context__, saltenv)


def _look(saltenv=None):
    """The comparison for this host as it is now."""
    with plainly():
        return checks.Firewall(_baseline(saltenv), Host())


def _masterless():
    return __opts__.get("file_client") == "local" or __opts__.get("master_type") == "disable"


def _masters():
    """Address and port of what every master of this minion listens on."""
    if _masterless():
        return []
    masters = __opts__.get("master")
    names = masters if isinstance(masters, list) else [masters]
    ports = (__opts__.get("publish_port", 4505), __opts__.get("master_port", 4506))
    return [(str(name), int(port)) for name in names if name for port in ports]


def _witness(it):
    """Who has to get through before a change stays."""
    by = it.settings["confirm_by"]
    listening = {listener.port for listener in it.reading.listeners if not listener.loopback}
    call = None if _masterless() else lambda data: __salt__["event.send"](change.EVENT, data)
    return change.Witness(
        masters=_masters() if "master" in by else [],
        ssh_ports=sorted(listening & set(it.policy.ssh_ports())) if "ssh" in by else [],
        management=[str(network) for network in it.policy.networks(MANAGEMENT)],
        call=call,
    )


def problems(saltenv=None):
    """
    What is wrong with the settings of the family although each is well-formed: unknown services and
    networks, ports of administrators open to the world. Reads the pillar only.

    Returns a list of sentences.

    CLI Example:

    .. code-block:: bash

        salt '*' firewall.problems
    """
    with plainly():
        return contradictions(Policy(_baseline(saltenv)), _masterless())


def drift(saltenv=None):
    """
    A finding for every control of the family, whatever its status. Reads only.

    CLI Example:

    .. code-block:: bash

        salt '*' firewall.drift
    """
    it = _look(saltenv)
    return judge(it.baseline, "firewall", it.expected(), it.seen())


def render(saltenv=None):
    """
    The files that the baseline wants: the rules that are loaded at boot, the emergency rules, the
    loader and its units, as ``{path: text}``.

    CLI Example:

    .. code-block:: bash

        salt '*' firewall.render
    """
    it = _look(saltenv)
    return {**it.persisted(), **it.loading()}


def explain(saltenv=None):
    """
    Every port that is open or listened on: who may reach it, which pillar key says so, and what
    answers there.

    Returns a list of mappings ``{"port", "reachable from", "served by", "why"}``.

    CLI Example:

    .. code-block:: bash

        salt web1 firewall.explain
    """
    it = _look(saltenv)
    return reach.explain(it.policy, it.reading.listeners)


def plan(saltenv=None):
    """
    What the next run would do to the live rules, as the lines it would give to iptables-restore.
    Changes nothing.

    Returns ``{"IPv4": [lines], "IPv6": [lines]}``.

    CLI Example:

    .. code-block:: bash

        salt '*' firewall.plan
    """
    return {f"IPv{v}": list(plan.forth) for v, plan in _look(saltenv).plans().items()}


def safe(saltenv=None):
    """
    Whether administrators could still log in, and on the first run whether every open connection
    would still be accepted, with the declared rules in force.

    Returns ``{"safe": bool, "reason": sentence}``.

    CLI Example:

    .. code-block:: bash

        salt '*' firewall.safe
    """
    seen = _look(saltenv).safe()
    return {"safe": seen.actual, "reason": seen.reason}


def enforce(ids, saltenv=None):
    """
    Enforces controls of the family. Meant for the state ``hardening.enforced``, which looks again
    afterwards. A change of rules undoes itself unless new connections show within
    ``hardening:firewall:confirm_within`` seconds that the host can be reached.

    ids
        The control ids, as a list.

    Raises ``CommandExecutionError`` when the change was refused or undone.

    CLI Example:

    .. code-block:: bash

        salt '*' firewall.enforce '[FW-002]'
    """
    with plainly():
        enforcement.enforce(Host(), lambda: _look(saltenv), ids, _witness)


def confirm(saltenv=None):
    """
    Confirms the change that awaits it, from a log-in made after the change came into force, and
    keeps it for the next boot.

    Returns what confirmed it; raises ``CommandExecutionError`` when nothing is pending or every
    connection from management is older than the change.

    CLI Example:

    .. code-block:: bash

        salt-call firewall.confirm
    """
    it = _look(saltenv)
    with plainly():
        return enforcement.confirm(Host(), it, _witness(it))


def clean(test=False):
    """
    Takes the baseline's chains and files away; what remains lets everything in. Chains of others
    stay, and bans go on.

    test
        Only say what would be taken away.

    Returns the list of files and chains.

    CLI Example:

    .. code-block:: bash

        salt '*' firewall.clean test=True
    """
    host = Host()
    with plainly():
        found = enforcement.leftovers(host)
        if found and not test:
            enforcement.clean(host)
    return found
