"""The backup of a Salt master against the baseline: what is set up here, and when it last worked.
Snapshots themselves are taken on the master, by ``salt-run backup.snapshot``.

.. code-block:: bash

    salt '*' backup.drift
    salt master,vault backup.keys
"""

import datetime as dt
import os
import sys

from rocksalt import master_options, program, source
from rocksalt.backup.family import checks, reading
from rocksalt.backup.family import enforce as enforcement
from rocksalt.backup.family import setup as setups
from rocksalt.findings import judge
from rocksalt.host import Host
from rocksalt.plainly import plainly


def __virtual__():
    if __grains__.get("kernel") != "Linux":
        return False, "backup: the baseline is for Linux hosts"
    return True


def _baseline(saltenv=None):
    return source.load(__salt__, __opts__, __pillar__, __grains__, __context__, saltenv)


def _place(settings=None):
    """This Salt; with settings of a master, what that master is told as well."""
    folder = os.path.dirname(os.path.abspath(__opts__["conf_file"]))
    place = {
        "minion": __opts__["id"],
        "config_dir": folder,
        "interpreter": program.python(),
        "salt_run": _beside("salt-run"),
    }
    if not (settings or {}).get("master"):
        return reading.Place(**place)
    opts = master_options.read(os.path.join(folder, "master"), __opts__["id"])
    own = opts["extension_modules"]
    roots = [opts.get(key) or {} for key in ("file_roots", "pillar_roots")]
    return reading.Place(
        **place,
        runners=[os.path.join(own, "runners"), *opts.get("runner_dirs", ())],
        libraries=[os.path.join(own, "utils"), *opts.get("utils_dirs", ())],
        served=[path for envs in roots for paths in envs.values() for path in paths],
    )


def _beside(name):
    """A program of the Salt that runs this: beside its interpreter, or beside what was called."""
    folders = [os.path.dirname(sys.executable), os.path.dirname(os.path.abspath(sys.argv[0]))]
    candidates = [os.path.join(folder, name) for folder in folders]
    found = (path for path in candidates if os.access(path, os.X_OK))
    return next(found, f"/usr/bin/{name}")


def _look(saltenv=None):
    """The comparison for this host as it is now, and the host."""
    host = Host()
    with plainly():
        baseline = _baseline(saltenv)
        place = _place(baseline.families["backup"].settings)
        return host, checks.Backup(baseline, place, host, dt.datetime.now(dt.timezone.utc))


def problems(saltenv=None):
    """
    What is wrong with the settings of the family although each is well-formed: fewer than two
    recipients, a vault without an address, a master that is its own vault. Reads the pillar only.

    Returns a list of sentences.

    CLI Example:

    .. code-block:: bash

        salt '*' backup.problems
    """
    with plainly():
        return setups.problems(_baseline(saltenv), _place())


def packages(saltenv=None):
    """
    The packages that this host needs for what it is to do: a list, empty on most hosts.

    CLI Example:

    .. code-block:: bash

        salt '*' backup.packages
    """
    with plainly():
        settings = _baseline(saltenv).families["backup"].settings
    return ["zstd"] if settings["master"] or "identity" in settings["drill"] else []


def drift(saltenv=None):
    """
    A finding for every control of the family, whatever its status. Reads only, and asks no other
    host: what it says of vaults is what the last snapshot and the last check found.

    CLI Example:

    .. code-block:: bash

        salt '*' backup.drift
    """
    _, it = _look(saltenv)
    with plainly():
        return judge(it.setup.baseline, "backup", it.expected(), it.seen())


def render(saltenv=None):
    """
    The units and the schedule by which this host takes, checks and tries out snapshots: ``{path:
    text}``; empty on a host that does none of it.

    CLI Example:

    .. code-block:: bash

        salt '*' backup.render
    """
    return _look(saltenv)[1].setup.units()


def enforce(ids, saltenv=None):
    """
    Enforces controls of the family. Meant for the state ``hardening.enforced``, which looks again
    afterwards. Makes keys where there are none; takes a snapshot and checks the vaults where that
    was never done.

    ids
        The control ids, as a list.

    Raises ``CommandExecutionError`` with what failed.

    CLI Example:

    .. code-block:: bash

        salt '*' backup.enforce '[BKP-005]'
    """
    host, it = _look(saltenv)
    with plainly():
        enforcement.enforce(host, it, ids)


def keys():
    """
    The public keys of this host, made if it has none yet: ``signing`` signs snapshots, receipts and
    reports, ``transport`` logs in at vaults; ``host`` is the SSH server's own. They are what the
    pillars of the other hosts need; the private halves never leave this one.

    Returns ``{"signing": "ssh-ed25519 ...", "transport": "ssh-ed25519 ...", "host": ...}``.

    CLI Example:

    .. code-block:: bash

        salt master,vault backup.keys
    """
    host = Host()
    with plainly():
        found = enforcement.make_keys(host)
    public = host.read("/etc/ssh/ssh_host_ed25519_key.pub") or ""
    return {**found, "host": " ".join(public.split()[:2])}


def record(saltenv=None):
    """
    What the offline key has to sign after every change of recipients, and the commands for it.

    Returns ``{"record": text, "commands": [...], "authorised": whether the pillar has the signature
    of this very record}``.

    CLI Example:

    .. code-block:: bash

        salt-call backup.record
    """
    with plainly():
        setup = setups.Setup(_baseline(saltenv), _place())
    return setups.instructions(setup.settings)


def clean(test=False):
    """
    Takes away what makes this host take, check, keep or try out snapshots. Keys, snapshots, stores
    and the receiver's account stay: without them nobody could restore.

    test
        Only say what would be taken away.

    Returns the list of files.

    CLI Example:

    .. code-block:: bash

        salt '*' backup.clean test=True
    """
    host, place = Host(), _place()
    found = enforcement.leftovers(host, place)
    if found and not test:
        with plainly():
            enforcement.clean(host, place)
    return found
