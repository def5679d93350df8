{#- The settings of every family are validated before a single state exists. -#}
{%- set families = salt["hardening.prepare"](saltenv) %}
{%- if not families %}
include: [hardening.refused]
{%- elif families["ossec"] %}
{%- set wanted = salt["ossec.installation"](saltenv) %}
{%- if wanted.watched %}

the OSSEC server knows that this run begins:
  ossec.marked:
    - moment: begins
    - order: first
{%- for path, text in wanted.files.items() %}

{{ path }} names the signed repository of OSSEC:
  file.managed:
    - name: {{ path | json }}
    - contents: {{ text | json }}
    - mode: '0644'
    - user: root
    - group: root
    - makedirs: true
    - require_in:
      - pkg: the OSSEC agent is installed
{%- endfor %}
{%- if wanted.package %}

the OSSEC agent is installed:
  pkg.installed:
    - pkgs: {{ [wanted.package] | json }}
{%- endif %}
{%- endif %}

an OSSEC server watches this host:
  hardening.enforced:
    - family: ossec
{%- if wanted.package %}
    - require:
      - pkg: the OSSEC agent is installed
{%- endif %}
{%- if wanted.watched %}

the OSSEC server knows that this run ends:
  ossec.marked:
    - moment: ends
    - order: last
{%- endif %}
{%- else %}

ossec is left as found:
  test.nop:
    - comment: the family is disabled by hardening:ossec:enabled, which drift.report shows
{%- endif %}
