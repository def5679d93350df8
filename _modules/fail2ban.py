"""fail2ban against the baseline: which services it watches, and whether its bans are in force.

.. code-block:: bash

    salt '*' fail2ban.drift
    salt '*' fail2ban.render
"""

from rocksalt import source
from rocksalt.fail2ban import checks, jails, reading
from rocksalt.fail2ban import enforce as enforcement
from rocksalt.findings import judge
from rocksalt.host import Host
from rocksalt.plainly import plainly


def __virtual__():
    if __grains__.get("kernel") != "Linux":
        return False, "fail2ban: the baseline is for Linux hosts"
    return True


def _baseline(saltenv=None):
    return source.load(__salt__, __opts__, __pillar__, __grains__, __context__, saltenv)


def _look(saltenv=None):
    """The comparison for this host as it is now, and the host."""
    host = Host()
    with plainly():
        return host, checks.Fail2ban(_baseline(saltenv), reading.read(host), host)


def problems(saltenv=None):
    """
    What is wrong with the settings of the family although each is well-formed: names that no jail
    can have, more ports than one rule can name. Reads the pillar only.

    Returns a list of sentences.

    CLI Example:

    .. code-block:: bash

        salt '*' fail2ban.problems
    """
    with plainly():
        return jails.problems(_baseline(saltenv))


def drift(saltenv=None):
    """
    A finding for every control of the family, whatever its status. Reads only.

    CLI Example:

    .. code-block:: bash

        salt '*' fail2ban.drift
    """
    _, it = _look(saltenv)
    return judge(it.baseline, "fail2ban", it.expected(), it.seen())


def render(saltenv=None):
    """
    The two files that the baseline wants below ``/etc/fail2ban``: ``{path: text}``.

    CLI Example:

    .. code-block:: bash

        salt '*' fail2ban.render
    """
    return _look(saltenv)[1].render()


def enforce(ids, saltenv=None):
    """
    Enforces controls of the family as one transaction. Meant for the state ``hardening.enforced``,
    which looks again afterwards. Bans are kept.

    ids
        The control ids, as a list.

    Raises ``CommandExecutionError`` when the change was refused or undone.

    CLI Example:

    .. code-block:: bash

        salt '*' fail2ban.enforce '[F2B-007]'
    """
    host, it = _look(saltenv)
    with plainly():
        enforcement.enforce(host, it, ids)


def clean(test=False):
    """
    Takes away what the baseline put on this host for fail2ban and gives disabled lines back to
    their owners. fail2ban itself stays, and so do its bans.

    test
        Only say what would be taken away.

    Returns the list of files.

    CLI Example:

    .. code-block:: bash

        salt '*' fail2ban.clean test=True
    """
    host = Host()
    found = enforcement.leftovers(host)
    if found and not test:
        with plainly():
            enforcement.clean(host)
    return found
