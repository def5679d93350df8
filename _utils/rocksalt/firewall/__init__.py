"""The packet filter: who may reach which service becomes rules of iptables, in chains of our own.

``policy`` turns settings into rules, ``tables`` compares rule sets, ``checks`` judges, ``change``
arms and confirms a change, ``files`` is what loads the rules at boot.
"""

FAMILY = "firewall"
VERSIONS = (4, 6)
INPUT, FORWARD, OUTPUT = "rocksalt-input", "rocksalt-forward", "rocksalt-output"
BANS, DOCKER = "rocksalt-bans", "rocksalt-docker"
DOCKER_USER = "DOCKER-USER"
JUMPS = {"INPUT": INPUT, "FORWARD": FORWARD, "OUTPUT": OUTPUT, DOCKER_USER: DOCKER}
FOLDER = "/etc/rocksalt/firewall"
RUN = "/run/rocksalt-firewall"
LOG_PREFIX = "rocksalt-drop-"
"""What the kernel writes before a refused packet, followed by its direction."""
