#!/bin/bash
# mmdebstrap hook: fill /srv/apt of the new system with $REPO_PACKAGES, what those need, and every
# installed package that could be removed (all but priority required).
set -euo pipefail

mkdir -p "$1/srv/apt/partial"
# shellcheck disable=SC2016,SC2086  # expanded inside the new system; lists of plain words
chroot "$1" bash -euo pipefail -c '
    removable=$(dpkg-query -Wf "\${Package} \${Priority}\n" | sed -n "/ required$/! s/ .*//p")
    apt-get install -qq --download-only --reinstall --no-install-recommends \
        -o Dir::Cache::archives=/srv/apt $removable "$@"
    rm -r /srv/apt/lock /srv/apt/partial
' download ${REPO_PACKAGES:?}
