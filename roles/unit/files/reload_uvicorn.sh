#!/bin/sh
# Made by mlfleet. Has uvicorn, or that which the program has started, replace its server processes one after another, and
# waits until the former ones have answered what they were asked.
set -e
# Those children of a process that were started with this word.
children() {
    for child in $(cat /proc/"$1"/task/*/children); do
        ! grep --quiet "$2" "/proc/$child/cmdline" || echo "$child"
    done
}
uvicorn=$(children "$MAINPID" uvicorn)
uvicorn=${uvicorn:-$MAINPID}
former=$(children "$uvicorn" spawn_main)
kill -HUP "$uvicorn"
# A process of another may have its number meanwhile, and is no child of uvicorn. systemd ends what does not end. With
# --quiet, grep would end before all is written.
for process in $former; do
    while children "$uvicorn" spawn_main | grep --line-regexp "$process" >/dev/null; do sleep 0.5; done
done
