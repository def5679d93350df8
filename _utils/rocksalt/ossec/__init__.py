"""The OSSEC agent: what it watches and to whom it reports, how it enrols, and what the server may
have it do.

``conf`` is its configuration as text, ``declared`` what the settings make of it, ``enrolment`` how
it gets its key, ``state`` what it does now, ``guard`` what keeps responses from banning who must
get in; ``checks`` judges and ``enforce`` mends. ``state`` and ``guard`` also run as a program
without Salt, so they and this module import the standard library alone.
"""

TOP = "hardening:ossec"
HOME = "/var/ossec"
CONF = f"{HOME}/etc/ossec.conf"
KEYS = f"{HOME}/etc/client.keys"
OPTIONS = (f"{HOME}/etc/internal_options.conf", f"{HOME}/etc/local_internal_options.conf")
SHARED = f"{HOME}/etc/shared"
LOG = f"{HOME}/logs/ossec.log"
BIN = f"{HOME}/bin"
RESPONSES = f"{HOME}/active-response/bin"
ORIGINALS = f"{HOME}/active-response/originals"
"""Where the package's scripts for responses are, out of the reach of the server, which names files
in ``RESPONSES`` only. As deep as those, for they find the log of responses from where they are.
"""
EVIDENCE = "/var/lib/rocksalt/ossec-evidence"
"""Where scripts are kept that somebody put in place of the package's or ours."""
INIT = "/etc/ossec-init.conf"
GROUP = "ossec"
AGENTD, EXECD, SYSCHECKD = "ossec-agentd", "ossec-execd", "ossec-syscheckd"
LOGCOLLECTOR = "ossec-logcollector"
DAEMONS = (EXECD, AGENTD, LOGCOLLECTOR, SYSCHECKD)

STATE = "/var/lib/rocksalt"
STATUS = f"{STATE}/ossec-status.json"
"""How the agent does, written every minute by a timer: see :func:`rocksalt.ossec.state.look`."""
NOTE = f"{STATE}/ossec-enrolled.json"
INSTALLED = f"{STATE}/ossec-installed.json"
MASTERS = f"{STATE}/ossec-masters.json"
"""The addresses that the minion's masters had, whatever their names give now."""
SETTINGS = "/etc/rocksalt/ossec.json"
"""What our program needs of the settings."""
PROGRAM = "/usr/local/sbin/rocksalt-ossec"
