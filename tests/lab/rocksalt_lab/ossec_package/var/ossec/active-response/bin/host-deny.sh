#!/bin/sh
# Bans an address in hosts.deny. Stand-in of the Rocksalt lab.
cd "$(dirname "$0")" || exit 1
echo "$(date) $0 $1 $2 $3 $4 $5" >>../../logs/active-responses.log
case $3 in *:*) line="ALL:[$3]" ;; *) line="ALL:$3" ;; esac
case $1 in
add) echo "$line" >>/etc/hosts.deny ;;
delete) grep -vxF "$line" /etc/hosts.deny >/etc/hosts.deny.new; cat /etc/hosts.deny.new >/etc/hosts.deny; rm /etc/hosts.deny.new ;;
*) exit 1 ;;
esac
