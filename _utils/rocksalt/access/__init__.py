"""Nobody works as root: people log in to salt-api by their own names, and do what their roles say.

``compiled`` makes the one form of all rights, which Salt enforces and ``asking`` explains. ``door``
is what stands in front of salt-api. The rest is the family: settings, comparison, enforcement.
"""

FAMILY = "access"
TOP = "hardening:access"
MASTER_CONFIG = "zz-rocksalt-access.conf"
"""In the folder ``master.d``; the last file wins."""
MINION_CONFIG = MASTER_CONFIG
"""In the folder ``minion.d``."""
USERS = "/etc/salt/rocksalt-users"
"""Lines of ``name:hash``, which the door's auth module reads."""
DOOR = "/usr/local/lib/rocksalt-api"
DEPLOYS = "/var/lib/rocksalt/deploys"
