#!/bin/sh
# Starts the agent anew when the server has handed something out. Stand-in of the Rocksalt lab.
cd "$(dirname "$0")" || exit 1
echo "$(date) $0 $1 $2 $3 $4 $5" >>../../logs/active-responses.log
systemctl restart ossec-agent.target
