#!/bin/sh
# Runs on a lab host: all that ships, receives and witnesses logs runs again on what is on the disk, and says itself how
# it is.
pkill --signal=CONT --full 'rocksalt-ship run'
iptables -D INPUT -p tcp --dport 2601:2604 ! -i lo -j DROP 2>/dev/null
for name in verified heads; do
    [ ! -e "/root/kept-$name" ] || cat "/root/kept-$name" >"/var/lib/rocksalt-logs/$name.json"
done
rm -f /root/kept-*
systemctl daemon-reload
systemctl restart systemd-journald
if [ -e /etc/systemd/system/rocksalt-logs.service ]; then
    find /var/log/rocksalt -type d -exec chmod 750 {} +
    find /var/log/rocksalt -type f -exec chmod 640 {} +
    chmod 750 /var/lib/rocksalt-witness/witnessed
    systemctl restart rocksalt-logs
    systemctl start rocksalt-logs-heads.timer rocksalt-logs-verify.timer
    systemctl start rocksalt-logs-heads.service
fi
systemctl restart rocksalt-ship
status=/var/lib/rocksalt/logstash/status.json
for _ in $(seq 150); do
    grep -q "\"pid\": $(systemctl show -P MainPID rocksalt-ship)," $status &&
        grep -q '"connected_since": "2' $status && grep -q '"acknowledged": "2' $status && exit
    sleep 0.1
done
exit 1
