"""Who did what on the master, when, from where, on which hosts and with which result.

A service follows the events of the master and the lines of its API, and keeps what they say as
lines in the hash chain that received logs have as well (``logstash.receiving``). ``records`` makes
a line of an event, ``book`` keeps it, ``gaps`` fills what was missed from the job cache,
``playback`` tells the story again, ``checking`` recomputes the chain.
"""

UNIT = "rocksalt-logbook.service"
HEADS_UNIT = "rocksalt-logbook-heads"
VERIFY_UNIT = "rocksalt-logbook-verify"
"""Without what units end in; each has a timer as well."""
PROGRAM = "/usr/local/bin/rocksalt-logbook"
CONFIG = "/etc/rocksalt/access/logbook.json"
FOLDER = "/var/log/rocksalt-logbook"
STATE = "/var/lib/rocksalt-logbook"
SIGNING_KEY = f"{STATE}/signing"
TRANSPORT_KEY = f"{STATE}/transport"
API_LOG = "/var/log/salt/rocksalt-api.jsonl"
ROTATION = "/etc/logrotate.d/rocksalt-api"
