{#- The settings of every family are validated before a single state exists. -#}
{%- set families = salt["hardening.prepare"](saltenv) %}
{%- if not families %}
include: [hardening.refused]
{%- elif families["backup"] %}

snapshots are taken, kept and restored:
  hardening.enforced:
    - family: backup
{%- else %}

backup is left as found:
  test.nop:
    - comment: the family is disabled by hardening:backup:enabled, which drift.report shows
{%- endif %}
