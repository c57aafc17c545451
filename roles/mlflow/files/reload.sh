#!/bin/sh
# Made by mlfleet. Has uvicorn, which MLflow starts, replace its server processes one after another, and waits until the
# former ones have answered what they were asked.
set -e
# Those children of a process that were started with this word.
children() {
    for child in $(cat /proc/"$1"/task/*/children); do
        ! grep --quiet "$2" "/proc/$child/cmdline" || echo "$child"
    done
}
uvicorn=$(children "$MAINPID" uvicorn)
former=$(children "$uvicorn" spawn_main)
kill -HUP "$uvicorn"
for process in $former; do
    while [ -e "/proc/$process" ]; do sleep 0.5; done
done
