# What this site wants of the baseline. Everything left out has its default (salt/hardening/<family>/defaults.yaml);
# `salt '*' hardening.validate` checks this file without touching anything.
hardening:
  schema: 1

  # Named groups of addresses. `management` is where administrators come from: they reach ssh, and
  # nothing is filtered before it is declared. `monitoring` may ask NRPE once hardening:firewall:allow
  # has {nrpe: [monitoring]} (docs/monitoring.md); the OSSEC servers stand in hardening:ossec:servers
  # as well (docs/ossec.md). No response of OSSEC bans any of these, or `salt`. All names serve
  # hardening:firewall:allow.
  # networks:
  #   management: [10.0.0.0/24]
  #   monitoring: [10.0.5.10/32]
  #   ossec: [10.0.6.10/32]

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
  #   salt-master:             # docs/backup.md makes these keys, and the signature, step by step
  #     minions: ["salt"]
  #     settings:
  #       backup:
  #         master: true
  #         location: rack-a
  #         admin_domain: platform
  #         authority: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIZgaMB7w3godXr03+Z4VKLVRupJbv6qwVQQLyf5A0HZ
  #         recipients:
  #           - age1d9rl96sej97m7hdu6cfy7fmsh6rft5ghvn5m4zgnxa6uku3nc9yskurenh
  #           - age1q3qthpfd65528uchz2jxkd9cg8nz52ghypqscq4gcn2w5yr89c8qw6upsh
  #         escrow: age1q3qthpfd65528uchz2jxkd9cg8nz52ghypqscq4gcn2w5yr89c8qw6upsh
  #         authorisation: ""
  #         vaults:
  #           far:
  #             type: ssh
  #             location: office
  #             admin_domain: storage
  #             host: vault.example.com
  #             user: rocksalt-vault
  #             host_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKlQxOr/zYb8NuDABwPSsEsDcZMtPqBoGXyEzGVaj7P
  #             receiver: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINCSk3uy8cboOo1vkG28+eFnazEnvNw+FltrYvmQgnid
  #       firewall:
  #         allow: {salt-api: [management]}
  #       access:                # docs/access.md; hashes of passwords are for a pillar that this minion alone gets
  #         masters: ["salt"]
  #         address: 10.0.0.5
  #         users:
  #           ann:
  #             grants:
  #               - {role: deployer, targets: ["web*"], apps: [shop]}

  #   database:                # docs/luks.md: volumes of which only a customer has the keys
  #     minions: ["db*"]
  #     settings:
  #       luks:
  #         exempt: {/dev/vda: "the provider encrypts it"}
  #         customers:
  #           acme:
  #             recipients: [age1q3qthpfd65528uchz2jxkd9cg8nz52ghypqscq4gcn2w5yr89c8qw6upsh]
  #             ssh_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIZgaMB7w3godXr03+Z4VKLVRupJbv6qwVQQLyf5A0HZ acme]
  #         volumes:
  #           acme-data:
  #             customer: acme
  #             device: /dev/disk/by-id/virtio-acme
  #             confirm: virtio-acme   # it is formatted if it is empty
  #             mount: /srv/acme

  # What deploy.run may deploy; the master and the hosts of the app both need to know.
  # access:
  #   apps:
  #     shop:
  #       states: [shop.deployed]
  #       version: 'v\d+\.\d+\.\d+'
  #       minions: ["web*"]

  # Settings of one family on every minion that gets this pillar.
  # sshd:
  #   allow_groups: [sudo]
  #   controls:
  #     SSHD-142: {"off": "this fleet has graphical workstations"}

  # A debt with an end: at most 90 days, approved by somebody else.
  # waivers:
  #   SSHD-131:
  #     reason: the deploy tool offers eight keys
  #     owner: platform team
  #     approver: security team
  #     expires: YYYY-MM-DD   # the last day, at most 90 days from today
