#!/bin/sh
# Made by mlfleet. Ends a worker after its job. One that has no job but does not end, because it cannot say goodbye to a
# Redis that is gone or speaks otherwise now, is told a second time, on which RQ ends at once.
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
