#!/bin/sh
# Makes a package grafana of the files beside this one, and prints its path and its SHA-256. The version may be given.
set -eu
version=${1:-12.0.0}
here=$(realpath "$(dirname "$0")")
made=$(realpath "$here/../../..")/.cache/grafana
mkdir -p "$made"
root=$(mktemp -d "$made/XXXXXX")
trap 'rm -rf "$root"' EXIT
chmod 0755 "$root"
install -D -m 0755 "$here/grafana.py" "$root/usr/share/grafana/bin/grafana"
install -D -m 0644 "$here/grafana-server.service" "$root/usr/lib/systemd/system/grafana-server.service"
install -D -m 0644 /dev/null "$root/etc/default/grafana-server"
install -D -m 0755 "$here/postinst" "$root/DEBIAN/postinst"
install -m 0755 "$here/prerm" "$root/DEBIAN/prerm"
echo /etc/default/grafana-server >"$root/DEBIAN/conffiles"
sed "s/@VERSION@/$version/" "$here/control" >"$root/DEBIAN/control"
# The same bytes each time.
SOURCE_DATE_EPOCH=1700000000 dpkg-deb --root-owner-group --build "$root" "$root.deb" >/dev/null
mv "$root.deb" "$made/grafana_$version.deb"
sha256sum "$made/grafana_$version.deb" | awk '{ print $2, $1 }'
