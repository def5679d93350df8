"""The OpenSSH server against the baseline.

.. code-block:: bash

    salt '*' sshd.drift
    salt '*' sshd.render
"""

from rocksalt import source
from rocksalt.accounts import ways
from rocksalt.findings import judge
from rocksalt.host import Host
from rocksalt.plainly import plainly
from rocksalt.sshd import checks, reading
from rocksalt.sshd import enforce as enforcement


def __virtual__():
    if __grains__.get("kernel") != "Linux":
        return False, "sshd: the baseline is for Linux hosts"
    return True


def _look(saltenv=None):
    """The comparison for this host as it is now, and the host."""
    host = Host()
    with plainly():
        baseline = source.load(__salt__, __opts__, __pillar__, __grains__, __context__, saltenv)
        return host, checks.Sshd(baseline, reading.read(host))


def drift(saltenv=None):
    """
    A finding for every control of the family, whatever its status. Reads only.

    CLI Example:

    .. code-block:: bash

        salt '*' sshd.drift
    """
    host, it = _look(saltenv)
    return judge(it.baseline, "sshd", it.expected(), it.seen(host))


def render(saltenv=None):
    """
    The drop-in that the baseline wants in ``/etc/ssh/sshd_config.d``, as text.

    CLI Example:

    .. code-block:: bash

        salt '*' sshd.render
    """
    return _look(saltenv)[1].render()


def safe(saltenv=None):
    """
    Whether an administrator could still log in by key and become root with the baseline in force.
    In test mode the administrators count whom this run would make, and not those it would lock.

    Returns ``{"safe": bool, "reason": sentence}``.

    CLI Example:

    .. code-block:: bash

        salt '*' sshd.safe
    """
    host, it = _look(saltenv)
    seen = it.safe(host, ways.foreseen(host, it.baseline, __context__.get("rocksalt.foreseen", ())))
    return {"safe": seen.actual, "reason": seen.reason}


def enforce(ids, saltenv=None):
    """
    Enforces controls of the family as one transaction. Meant for the state ``hardening.enforced``,
    which looks again afterwards; calling it by hand skips the check that somebody keeps a way in,
    except for what it tries itself.

    ids
        The control ids, as a list.

    Raises ``CommandExecutionError`` when the change was refused or undone.

    CLI Example:

    .. code-block:: bash

        salt '*' sshd.enforce '[SSHD-130]'
    """
    host, it = _look(saltenv)
    with plainly():
        enforcement.enforce(host, it, ids)


def clean(test=False):
    """
    Takes away what the baseline put on this host for sshd and gives disabled lines back to their
    owners.

    test
        Only say what would be taken away.

    Returns the list of files.

    CLI Example:

    .. code-block:: bash

        salt '*' sshd.clean test=True
    """
    host = Host()
    found = enforcement.leftovers(host)
    if found and not test:
        with plainly():
            enforcement.clean(host)
    return found
