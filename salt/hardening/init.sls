{#- The families include each other's order from their own metadata: nothing to edit here for a new one. -#}
{%- set families = salt["hardening.prepare"](saltenv) %}
{%- if not families %}
include: [hardening.refused]
{%- else %}
include:
{%- for family in families %}
  - hardening.{{ family }}
{%- endfor %}

hardening is complete:
  test.nop:
    - require:
{%- for family in families %}
      - sls: hardening.{{ family }}
{%- endfor %}
{%- endif %}
