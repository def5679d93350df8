"""The OpenSSH server: what is expected of it, what it does, and how one becomes the other.

``config`` parses files and ``sshd -T``; ``reading`` looks at the host; ``checks`` says what each
control expects and what was seen; ``enforce`` makes the change as one transaction.
"""

MAIN = "/etc/ssh/sshd_config"
FOLDER = "/etc/ssh/sshd_config.d"
DROP_IN = f"{FOLDER}/00-rocksalt.conf"
BANNER = "/etc/ssh/rocksalt-banner"
MODULI = "/etc/ssh/moduli"
CLOUD_INIT = "/etc/cloud/cloud.cfg.d/zz-rocksalt-sshd.cfg"
INCLUDE = f"Include {FOLDER}/*.conf"
PRIVILEGE_SEPARATION = "/run/sshd"
