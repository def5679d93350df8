"""Logs leave the host at once, arrive whatever fails, and stay as they arrived.

``shipping`` is the program that sends the lines of a host: it reads the journal and log files, and
a line counts as sent once a log server said that it has it. ``receiving`` is what keeps them on a
log server, each hashed with the one before it, and has a second host witness that. The rest is the
family: settings, comparison, enforcement.
"""

FAMILY = "logstash"
TOP = "hardening:logstash"
FOLDER = "/etc/rocksalt/logstash"
STATE = "/var/lib/rocksalt/logstash"
AUTHORITY = f"{FOLDER}/ca.pem"

SHIPPER = "/usr/local/sbin/rocksalt-ship"
SHIPPER_UNIT = "rocksalt-ship.service"
SHIPPER_CONFIG = f"{FOLDER}/shipper.json"
CERTIFICATE = f"{FOLDER}/host.pem"
KEY = f"{FOLDER}/host.key"
NEXT_KEY = f"{FOLDER}/next.key"
"""The key of a certificate that was asked for and has not come yet."""
POSITIONS = f"{STATE}/positions.json"
STATUS = f"{STATE}/status.json"
ACCEPTED = f"{STATE}/accepted.json"
"""How many dropped and lost lines somebody has looked at."""

LOGS = "/usr/local/sbin/rocksalt-logs"
USER = "rocksalt-logs"
RECEIVER_UNIT = "rocksalt-logs.service"
RSYSLOG_CONFIG = f"{FOLDER}/receiver.conf"
RECEIVER_CONFIG = f"{FOLDER}/receiver.json"
HEADS_UNIT = "rocksalt-logs-heads"
VERIFY_UNIT = "rocksalt-logs-verify"
"""Both a service and a timer."""
SERVER_CERTIFICATE = f"{FOLDER}/server.pem"
SERVER_KEY = f"{FOLDER}/server.key"
NEXT_SERVER_KEY = f"{FOLDER}/next-server.key"
SIGNING_KEY = f"{FOLDER}/signing"
"""Ed25519 in OpenSSH's form: signs the heads of a log server."""
TRANSPORT_KEY = f"{FOLDER}/transport"
"""The key that a log server logs in with at its witness."""
RECEIVED = "/var/log/rocksalt"
RECEIVING = "/var/lib/rocksalt-logs"
"""What the log server knows of itself: its status, the last check."""

WITNESS_USER = "rocksalt-witness"
WITNESS_KEY = f"{FOLDER}/witness"
"""Signs what a witness saw; two log servers may be each other's witness."""
WITNESS_CONFIG = f"{FOLDER}/witness.json"
WITNESSED = "/var/lib/rocksalt-witness/witnessed"
