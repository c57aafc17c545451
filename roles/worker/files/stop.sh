#!/bin/sh
# Made by mlfleet. Ends a worker after its job. A worker without a job that does not end, because it cannot sign off at a
# Redis that is stopped or has switched TLS, gets a second signal, on which RQ ends at once.
[ -n "$MAINPID" ] || exit 0
kill -TERM "$MAINPID"
idle_seconds=0
while sleep 1 && kill -0 "$MAINPID" 2>/dev/null; do
    if [ -n "$(cat /proc/"$MAINPID"/task/*/children 2>/dev/null)" ]; then
        idle_seconds=0
    else
        idle_seconds=$((idle_seconds + 1))
    fi
    [ "$idle_seconds" -lt "$1" ] || kill -TERM "$MAINPID"
done
exit 0
