{#- The settings of every family are validated before a single state exists. -#}
{%- set families = salt["hardening.prepare"](saltenv) %}
{%- if not families %}
include: [hardening.refused]
{%- elif families["nrpe"] %}
{%- set packages = salt["nrpe.packages"](saltenv) %}
{%- if packages %}

NRPE is installed:
  pkg.installed:
    - pkgs: {{ packages | json }}
{%- endif %}

monitoring hosts and nobody else get answers:
  hardening.enforced:
    - family: nrpe
{%- if packages %}
    - require:
      - pkg: NRPE is installed
{%- endif %}
{%- else %}

nrpe is left as found:
  test.nop:
    - comment: the family is disabled by hardening:nrpe:enabled, which drift.report shows
{%- endif %}
