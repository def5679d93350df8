{#- The settings of every family are validated before a single state exists. -#}
{%- set families = salt["hardening.prepare"](saltenv) %}
{%- if not families %}
include: [hardening.refused]
{%- elif families["firewall"] %}

the packet filter is installed:
  pkg.installed:
    - pkgs: [iptables, nftables, iproute2]

administrators keep a way in through the packet filter:
  hardening.safe:
    - family: firewall
    - require:
      - pkg: the packet filter is installed

the packet filter lets in what is declared:
  hardening.enforced:
    - family: firewall
    - require:
      - hardening: administrators keep a way in through the packet filter
{%- else %}

firewall is left as found:
  test.nop:
    - comment: the family is disabled by hardening:firewall:enabled, which drift.report shows
{%- endif %}
