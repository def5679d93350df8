#!/bin/bash
# mmdebstrap hook: download $REPO_PACKAGES and what they need into /srv/apt of the new system.
# Packages that every Debian has (priority above optional) are left out: nothing removes those.
set -euo pipefail

mkdir -p "$1/srv/apt"
# shellcheck disable=SC2016,SC2086  # expanded inside the new system; lists of plain words
chroot "$1" bash -euo pipefail -c '
    cd /srv/apt
    needed=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts \
        --no-breaks --no-replaces --no-enhances --installed "$@" | grep "^[a-z0-9]" | sort -u)
    optional=$(dpkg-query -Wf "\${Package} \${Priority}\n" | sed -n "s/ optional$//p" |
        grep -Fxf <(printf "%s\n" $needed))
    apt-get download -qq $(printf "%s\n" "$@" $optional | sort -u)
' download ${REPO_PACKAGES:?}
