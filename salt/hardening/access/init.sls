{#- The settings of every family are validated before a single state exists. -#}
{%- set families = salt["hardening.prepare"](saltenv) %}
{%- if not families %}
include: [hardening.refused]
{%- elif families["access"] %}

people do on the Salt master what their roles say:
  hardening.enforced:
    - family: access
{%- else %}

access is left as found:
  test.nop:
    - comment: the family is disabled by hardening:access:enabled, which drift.report shows
{%- endif %}
