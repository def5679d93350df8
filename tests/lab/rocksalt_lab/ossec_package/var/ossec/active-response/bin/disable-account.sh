#!/bin/sh
# Locks an account, but not root's. Stand-in of the Rocksalt lab.
cd "$(dirname "$0")" || exit 1
echo "$(date) $0 $1 $2 $3 $4 $5" >>../../logs/active-responses.log
[ "$2" != root ] || exit 1
case $1 in
add) passwd -q -l "$2" ;;
delete) passwd -q -u "$2" ;;
*) exit 1 ;;
esac
