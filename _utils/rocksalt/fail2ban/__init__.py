"""fail2ban: what is expected of it, what its server does, and how one becomes the other.

``server`` talks to the running server; ``config`` reads and writes its files; ``rules`` reads the
packet filter; ``reading`` looks at the host; ``checks`` says what each control expects and what was
seen; ``enforce`` makes the change as one transaction.
"""

FOLDER = "/etc/fail2ban"
JAILS = f"{FOLDER}/jail.d/zz-rocksalt.local"
SERVER = f"{FOLDER}/fail2ban.d/zz-rocksalt.local"
SOCKET = "/run/fail2ban/fail2ban.sock"
DATABASE = "/var/lib/fail2ban/fail2ban.sqlite3"
UNIT = "fail2ban.service"
CLIENT = "/usr/bin/fail2ban-client"
