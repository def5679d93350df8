{#- The settings of every family are validated before a single state exists. -#}
{%- set families = salt["hardening.prepare"](saltenv) %}
{%- if not families %}
include: [hardening.refused]
{%- elif families["logstash"] %}
{%- set packages = salt["logstash.packages"](saltenv) %}
{%- if packages %}

what a log server needs is installed:
  pkg.installed:
    - pkgs: {{ packages | json }}
{%- endif %}

logs are shipped and kept as they arrived:
  hardening.enforced:
    - family: logstash
{%- if packages %}
    - require:
      - pkg: what a log server needs is installed
{%- endif %}
{%- else %}

logstash is left as found:
  test.nop:
    - comment: the family is disabled by hardening:logstash:enabled, which drift.report shows
{%- endif %}
