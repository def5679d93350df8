"""NRPE: who may ask this host, how that is told from strangers, and what they get to know.

``setup`` turns settings into what is wanted and says what contradicts itself, with ``monitors``,
``commands`` and ``thresholds``; ``config`` renders; ``tls`` knocks at the running server;
``reading`` looks at the host; ``checks`` compares, with ``running``, ``files`` and ``certified``;
``enforce`` makes the change as one transaction, with ``starting``, and ``installing`` brings a
certificate. ``plugins`` are programs of their own.
"""

FAMILY = "nrpe"
TOP = "hardening:nrpe"
PROGRAM = "/usr/sbin/nrpe"
UNIT = "nagios-nrpe-server.service"
DROP_IN = f"/etc/systemd/system/{UNIT}.d/rocksalt.conf"
USER = "nagios"
CONFIG = "/etc/nagios/nrpe.cfg"
ABOVE = "/etc/rocksalt"
FOLDER = f"{ABOVE}/nrpe"
AUTHORITY = f"{FOLDER}/ca.pem"
CERTIFICATE = f"{FOLDER}/server.pem"
KEY = f"{FOLDER}/server.key"
NEXT_KEY = f"{FOLDER}/next.key"
"""The key of a certificate that was asked for and has not come yet."""
KEPT = f"{FOLDER}/address"
"""The address to listen on, where it was found and not named: it is found once."""
PLUGINS = "/usr/lib/nagios/plugins"
