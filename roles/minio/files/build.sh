#!/bin/sh
# Builds MinIO on the controller, once for all inventories, and installs it as $PROGRAM: build.sh [begin]
# With begin, it checks for causes of a failure that are visible in advance, and starts the build in a separate process. The
# call without begin, before the program is needed, waits for that process.
set -eu
WAIT_SECONDS=1800
fail() {
    echo "$1" >&2
    exit 1
}

programs=$(dirname "$GOBIN")
cached=$GOBIN/minio
log=$programs/minio.log
mkdir -p "$GOBIN"
cd /  # Go looks for a module in the directory that it is started in, and above
exec 9>"$programs/minio.lock"

build() {
    # Left out: DWARF, which -s and -w drop anyway, and Google's gRPC transports, as MinIO speaks HTTP to its storage.
    nice "$GO" install -trimpath -tags disable_grpc_modules -gcflags=all=-dwarf=false \
        -ldflags "-s -w -X github.com/minio/minio/cmd.ReleaseTag=$RELEASE -X github.com/minio/minio/cmd.Version=$BUILT" "$MODULE"
}

if [ "${1:-}" = begin ]; then
    if [ -e "$cached" ] || ! flock --nonblock 9; then
        exit 0  # it exists, or is under way
    fi
    command -v "$GO" >/dev/null || fail "minio_go: there is no $GO"
    manifest=$("$GO" list -m -f '{{.GoMod}}' "$MODULE")
    needs=$(sed -n 's/^go //p' "$manifest")
    has=$("$GO" env GOVERSION)
    printf '%s\n%s\n' "$needs" "${has#go}" | sort --check=quiet --version-sort ||
        fail "minio_go: $GO is $has, and MinIO needs Go $needs"
    for directory in "$("$GO" env GOCACHE)" "$("$GO" env GOMODCACHE)" "$programs"; do
        mkdir -p "$directory"
        [ "$(df -Pk "$directory" | awk 'END { print $4 }')" -ge 3000000 ] ||
            fail "$directory: less than 3 GB are free on its file system, which the build of MinIO may need"
    done
    (trap '' HUP && build) >"$log" 2>&1 </dev/null &  # it holds the lock
    echo begun
    exit
fi

flock --timeout "$WAIT_SECONDS" 9 || fail "a build of MinIO has not ended in half an hour: see $log"
if [ ! -e "$cached" ]; then
    build
    echo built
fi
if [ ! -e "$PROGRAM" ]; then
    builds=$(dirname "$(dirname "$PROGRAM")")
    rm -rf "$builds"/minio-*
    mkdir -p "$(dirname "$PROGRAM")"
    ln "$cached" "$PROGRAM" || { cp "$cached" "$PROGRAM.new" && mv "$PROGRAM.new" "$PROGRAM"; }
fi
