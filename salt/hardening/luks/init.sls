{#- The settings of every family are validated before a single state exists. -#}
{%- set families = salt["hardening.prepare"](saltenv) %}
{%- if not families %}
include: [hardening.refused]
{%- elif families["luks"] %}
{%- set packages = salt["luks.packages"](saltenv) %}
{%- if packages %}

what encrypted disks need is installed:
  pkg.installed:
    - pkgs: {{ packages | json }}
{%- endif %}

disks are encrypted, and customers alone have the keys of their volumes:
  hardening.enforced:
    - family: luks
{%- if packages %}
    - require:
      - pkg: what encrypted disks need is installed
{%- endif %}
{%- else %}

luks is left as found:
  test.nop:
    - comment: the family is disabled by hardening:luks:enabled, which drift.report shows
{%- endif %}
