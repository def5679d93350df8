#!/bin/sh
# Bans an address by a route that leads nowhere. Stand-in of the Rocksalt lab.
cd "$(dirname "$0")" || exit 1
echo "$(date) $0 $1 $2 $3 $4 $5" >>../../logs/active-responses.log
case $1 in
add) ip route add unreachable "$3" ;;
delete) ip route del unreachable "$3" ;;
*) exit 1 ;;
esac
