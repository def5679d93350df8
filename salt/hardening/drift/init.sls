{#- The settings of every family are validated before a single state exists. -#}
{%- do salt["hardening.prepare"](saltenv) %}
{%- if salt["hardening.enabled"]("drift", saltenv) %}

this host reports its drift by itself:
  hardening.enforced:
    - family: drift
{%- else %}

drift is left as found:
  test.nop:
    - comment: the family is disabled by hardening:drift:enabled, which drift.report shows
{%- endif %}
