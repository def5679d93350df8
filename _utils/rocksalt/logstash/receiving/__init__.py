"""What keeps the lines of all hosts on a log server, and what witnesses that on another host.

rsyslog takes lines by RELP over TLS, one port for each host, and hands each to ``write``, which
appends it to the chain of its host and says so; only then the host is told that it arrived.
``heads`` signs once a minute how far all chains are, ``witness`` countersigns that on a second
host, ``verify`` recomputes the chains and compares them with what was witnessed.
"""

import re

HOST = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
"""Names of hosts, which are names of folders here."""
