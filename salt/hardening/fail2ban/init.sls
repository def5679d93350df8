{#- The settings of every family are validated before a single state exists. -#}
{%- set families = salt["hardening.prepare"](saltenv) %}
{%- if not families %}
include: [hardening.refused]
{%- elif families["fail2ban"] %}

fail2ban is installed:
  pkg.installed:
    - pkgs: [fail2ban, python3-systemd, iptables]

bans are made and last:
  hardening.enforced:
    - family: fail2ban
    - require:
      - pkg: fail2ban is installed
{%- else %}

fail2ban is left as found:
  test.nop:
    - comment: the family is disabled by hardening:fail2ban:enabled, which drift.report shows
{%- endif %}
