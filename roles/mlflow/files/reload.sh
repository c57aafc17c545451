#!/bin/sh
# Made by mlfleet. Makes uvicorn, which MLflow starts, replace its server processes one after another, and waits until the
# old ones have answered their requests.
set -e
# The children of a process that have this word in their command line.
children() {
    for child in $(cat /proc/"$1"/task/*/children); do
        ! grep --quiet "$2" "/proc/$child/cmdline" || echo "$child"
    done
}
uvicorn=$(children "$MAINPID" uvicorn)
former=$(children "$uvicorn" spawn_main)
kill -HUP "$uvicorn"
# Another process may get its number meanwhile, but is not a child of uvicorn. systemd kills a process that does not end.
for process in $former; do
    while children "$uvicorn" spawn_main | grep --quiet --line-regexp "$process"; do sleep 0.5; done
done
