# What this site wants of the baseline. Everything left out has its default (salt/hardening/<family>/defaults.yaml);
# `salt '*' hardening.validate` checks this file without touching anything.
hardening:
  schema: 1

  # Named groups of addresses. `management` is where administrators come from: they reach ssh, and
  # nothing is filtered before it is declared. Other names serve hardening:firewall:allow.
  # networks:
  #   management: [10.0.0.0/24]
  #   monitoring: [10.0.5.10/32]

  # The people who may become root. Declare at least one before the first run: root and the accounts
  # that images bring are locked once somebody declared can log in by key. docs/accounts.md says more.
  # accounts:
  #   administrators:
  #     ann:
  #       keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILLSU+svfvtVleVVviymVZnxscO18BM7Yct5w88/ZAKf ann@example]
  #       nopasswd: true   # or a hash: hardening:accounts:password_hashes
  #   users:
  #     deploy: {}         # may be here, is no administrator
  #   remove: [authorized_keys, sudoers]   # what strangers left; the rest is reported only

  # Roles by minion id (or glob), never by grain: a grain is the minion's own claim. Of several roles
  # the later one wins, and what stands under `sshd` below overrules every role: for a value of the
  # whole fleet that roles may change, write a first role with minions: ["*"].
  # roles:
  #   jump-host:
  #     minions: ["jump*"]
  #     settings:
  #       sshd:
  #         tcp_forwarding: local
  #   web-server:
  #     minions: ["web*"]
  #     settings:
  #       firewall:
  #         allow: {https: [public]}

  # Settings of one family on every minion that gets this pillar.
  # sshd:
  #   allow_groups: [sudo]
  #   controls:
  #     SSHD-142: {"off": "this fleet has graphical workstations"}

  # The backup of the Salt master, which docs/backup.md sets up step by step: keys first (backup.keys,
  # age-keygen), then this, then the signature of the offline key (backup.record). For the master alone.
  # backup:
  #   master: true
  #   location: first data centre
  #   admin_domain: salt team
  #   authority: ssh-ed25519 AAAA... offline
  #   recipients: [age1..., age1...]
  #   escrow: age1...
  #   authorisation: |
  #     -----BEGIN SSH SIGNATURE-----
  #   vaults:
  #     far: {type: ssh, location: second data centre, admin_domain: storage team, host: vault.example.com,
  #           user: rocksalt-vault, host_key: ssh-ed25519 AAAA..., receiver: ssh-ed25519 AAAA...}

  # A debt with an end: at most 90 days, approved by somebody else.
  # waivers:
  #   SSHD-131:
  #     reason: the deploy tool offers eight keys
  #     owner: platform team
  #     approver: security team
  #     expires: YYYY-MM-DD   # the last day, at most 90 days from today
