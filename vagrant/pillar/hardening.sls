# What the machines of the Vagrantfile want of the baseline. A site's own pillar looks like this, with its addresses
# and people; fleet.yaml is written by vagrant/prepare.sh, for keys and addresses differ from one desk to the next.
{% import_yaml "fleet.yaml" as fleet %}
{% set name = opts.id | regex_replace("[0-9]+$", "") %}
{% set debts = {
  "LUKS-001": "the box's disk is not encrypted",
  "LUKS-002": "the box's swap is not encrypted",
  "LUKS-003": "the box's volume group is not encrypted",
} %}
{% do debts.update({
  "master": {"ACL-001": "nobody uses salt-api here", "BKP-001": "this master is made anew, not restored"},
  "web": {"FW-012": "no web server is deployed yet"},
  "db": {"FW-012": "no database is deployed yet"},
  "log": {"LOG-107": "there is one log server, and nobody to witness what it keeps"},
}.get(name, {})) %}

hardening:
  schema: 1

  networks:
    management: [192.168.56.10/32, {{ fleet.vagrant }}/32]
    salt: [192.168.56.10/32]
    web: [192.168.56.11/32, 192.168.56.15/32, 192.168.56.16/32, 192.168.56.17/32, 192.168.56.18/32, 192.168.56.19/32]
    logs: [192.168.56.13/32]
{% if "monitor" in fleet.ports %}
    monitoring: [192.168.56.14/32]
{% endif %}
    fleet: [192.168.56.0/24]

  roles:
    # The baseline locks Vagrant's account and takes its key away. Here it is the administrator, with a key of ours.
    vagrant:
      minions: ["*"]
      settings:
        accounts:
          administrators:
            vagrant:
              keys: ["{{ fleet.key }}"]
              nopasswd: true
{% if "monitor" in fleet.ports %}
        firewall:
          allow: {nrpe: [monitoring]}
{% endif %}
    master:
      minions: [master]
      settings:
        firewall:
          allow: {salt-master: [fleet]}
    web:
      minions: ["web*"]
      settings:
        firewall:
          allow: {http: [public], https: [public]}
    db:
      minions: [db]
      settings:
        firewall:
          allow: {postgresql: [web]}
    log:
      minions: [log]
      settings:
        firewall:
          services: {relp: {tcp: {{ fleet.ports.values() | list | tojson }}}}
          allow: {ssh: [management], relp: [fleet]}
        logstash:
          receiver: {address: 192.168.56.13}
    monitor:
      minions: [monitor]
      settings: {}

  ossec:
    controls:
      OSS-001: {"off": "Debian has no package of OSSEC"}
{% if "log" in fleet.ports %}
  logstash:
    servers: [{host: 192.168.56.13, name: log}]
    ports: {{ fleet.ports | tojson }}
{% else %}
  logstash:
    controls:
      LOG-001: {"off": "there is no machine called log"}
{% endif %}
{% if "monitor" not in fleet.ports %}
  nrpe:
    controls:
      NRPE-001: {"off": "there is no machine called monitor"}
{% endif %}

  waivers:
{% for control, reason in debts.items() %}
    {{ control }}:
      reason: {{ reason }}
      owner: who ran vagrant up
      approver: who wrote the Vagrantfile
      expires: {{ fleet.expires }}
{% endfor %}
