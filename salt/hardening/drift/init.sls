{#- The settings of every family are validated before a single state exists. -#}
{%- set families = salt["hardening.prepare"](saltenv) %}
{%- if not families %}
include: [hardening.refused]
{%- elif families["drift"] %}

this host reports its drift by itself:
  hardening.enforced:
    - family: drift
{%- else %}

drift is left as found:
  test.nop:
    - comment: the family is disabled by hardening:drift:enabled, which drift.report shows
{%- endif %}
