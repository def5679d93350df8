"""Accounts against the baseline: administrators, root, sudo, strangers, passwords.

.. code-block:: bash

    salt '*' accounts.drift
    salt '*' accounts.safe
"""

from rocksalt import source
from rocksalt.accounts import checks, declared, sudo, ways
from rocksalt.findings import judge
from rocksalt.host import Host
from rocksalt.plainly import plainly


def __virtual__():
    if __grains__.get("kernel") != "Linux":
        return False, "accounts: the baseline is for Linux hosts"
    return True


def _baseline(saltenv=None):
    return source.load(__salt__, __opts__, __pillar__, __grains__, __context__, saltenv)


def _look(saltenv=None):
    """The comparison for this host as it is now, and the host."""
    host = Host()
    with plainly():
        return host, checks.look(host, _baseline(saltenv))


def problems(saltenv=None):
    """
    What is wrong with the settings of the family although each is well-formed: an administrator
    who could not become root, a name declared twice, a group that would lock everybody out. Reads
    the pillar only.

    Returns a list of sentences.

    CLI Example:

    .. code-block:: bash

        salt '*' accounts.problems
    """
    with plainly():
        return declared.problems(_baseline(saltenv))


def drift(saltenv=None):
    """
    A finding for every control of the family, whatever its status. Reads only.

    CLI Example:

    .. code-block:: bash

        salt '*' accounts.drift
    """
    _, it = _look(saltenv)
    return judge(it.baseline, "accounts", it.expected(), it.seen())


def render(saltenv=None):
    """
    The files that the baseline wants below ``/etc/sudoers.d``: ``{path: text}``.

    CLI Example:

    .. code-block:: bash

        salt '*' accounts.render
    """
    return sudo.render(_look(saltenv)[1])


def safe(saltenv=None):
    """
    Whether somebody could log in by key and become root with the baseline in force: not one of the
    accounts that it locks, nor by what it takes away. In test mode the administrators count whom
    this run would make.

    Returns ``{"safe": bool, "reason": sentence}``.

    CLI Example:

    .. code-block:: bash

        salt '*' accounts.safe
    """
    host = Host()
    with plainly():
        baseline = _baseline(saltenv)
        seen = ways.safe(host, baseline, __context__.get("rocksalt.foreseen", ()))
    return {"safe": seen.actual, "reason": seen.reason}


def enforce(ids, saltenv=None):
    """
    Enforces controls of the family. Meant for the state ``hardening.enforced``, which looks again
    afterwards; calling it by hand skips the check that somebody keeps a way in. The account of a
    live session is left alone.

    ids
        The control ids, as a list.

    Raises ``CommandExecutionError`` with what could not be done; everything else was.

    CLI Example:

    .. code-block:: bash

        salt '*' accounts.enforce '[ACC-012]'
    """
    host, it = _look(saltenv)
    with plainly():
        checks.enforce(host, it, ids)


def clean(test=False):
    """
    Takes away what the baseline put on this host for accounts: files, PAM profiles, settings of
    ``login.defs``. Accounts stay as they are, locked ones locked, and administrators keep their
    keys and what sudo grants them.

    test
        Only say what would be taken away.

    Returns the list of files.

    CLI Example:

    .. code-block:: bash

        salt '*' accounts.clean test=True
    """
    host = Host()
    found = checks.leftovers(host)
    if found and not test:
        with plainly():
            checks.clean(host)
    return found
