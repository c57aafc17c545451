#!/bin/sh
# Builds MinIO on the controller, once for all inventories, and has it at $PROGRAM: build.sh [begin]
# With begin it looks for all that would make the build fail, and leaves the build to a process of its own: the one that needs the
# program waits for that, or builds it and tells why it cannot.
set -eu
fail() {
    echo "$1" >&2
    exit 1
}

programs=$(dirname "$GOBIN")
cached=$GOBIN/minio
builds=$(dirname "$(dirname "$PROGRAM")")
mkdir -p "$GOBIN"

if [ "${1:-}" = begin ] && [ ! -e "$cached" ]; then
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
    setsid nice sh "$0" >/dev/null 2>&1 </dev/null &
    echo begun
    exit
fi

exec 9>"$programs/minio.lock"
flock 9
[ ! -e "$PROGRAM" ] || exit 0
if [ ! -e "$cached" ]; then
    "$GO" install -trimpath -gcflags=all=-dwarf=false \
        -ldflags "-s -w -X github.com/minio/minio/cmd.ReleaseTag=$RELEASE -X github.com/minio/minio/cmd.Version=$BUILT" "$MODULE"
    echo built
fi
rm -rf "$builds"/minio-*
mkdir -p "$(dirname "$PROGRAM")"
ln "$cached" "$PROGRAM" || { cp "$cached" "$PROGRAM.new" && mv "$PROGRAM.new" "$PROGRAM"; }
