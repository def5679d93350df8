{#- The settings of every family are validated before a single state exists. -#}
{%- set families = salt["hardening.prepare"](saltenv) %}
{%- if not families %}
include: [hardening.refused]
{%- elif families["backup"] %}
{%- set packages = salt["backup.packages"](saltenv) %}
{%- if packages %}

what snapshots need is installed:
  pkg.installed:
    - pkgs: {{ packages | json }}
{%- endif %}

snapshots are taken, kept and tried out:
  hardening.enforced:
    - family: backup
{%- if packages %}
    - require:
      - pkg: what snapshots need is installed
{%- endif %}
{%- else %}

backup is left as found:
  test.nop:
    - comment: the family is disabled by hardening:backup:enabled, which drift.report shows
{%- endif %}
