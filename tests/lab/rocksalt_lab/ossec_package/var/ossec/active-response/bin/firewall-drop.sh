#!/bin/sh
# Bans an address in a chain of OSSEC's own, as version 4.3 does. Stand-in of the Rocksalt lab.
cd "$(dirname "$0")" || exit 1
echo "$(date) $0 $1 $2 $3 $4 $5" >>../../logs/active-responses.log
case $3 in *:*) tool=ip6tables ;; *) tool=iptables ;; esac
case $1 in
add)
    $tool -w -N OSSEC 2>/dev/null
    $tool -w -C INPUT -j OSSEC 2>/dev/null || $tool -w -I INPUT -j OSSEC
    $tool -w -I OSSEC -s "$3" -j DROP
    ;;
delete) $tool -w -D OSSEC -s "$3" -j DROP ;;
*) exit 1 ;;
esac
