{#- Rendered by the master's reactor, for the event rocksalt/firewall/armed; no state of a minion.
    What the minion says in it is data, never YAML: the runner judges it. -#}
{%- set claim = data["data"] %}
the minion is reached by a new ssh connection:
  runner.firewall.knock:
    - args:
        - minion: {{ data["id"] | json }}
        - addresses: {{ claim["addresses"] | json }}
        - ports: {{ claim["ports"] | json }}
