#!/bin/sh
# make-deb.sh BUILD_DIR - packs BUILD_DIR/merpati as a Debian package: BUILD_DIR/merpati_VERSION_ARCH.deb
set -eu
build=$1
version=$(cat server/VERSION)
arch=$(dpkg --print-architecture)
root=$build/deb
rm -rf "$root"
install -D -m 755 "$build/merpati" "$root/usr/bin/merpati"
install -D -m 644 docs/configuration.md "$root/usr/share/doc/merpati/configuration.md"
install -D -m 644 LICENSE "$root/usr/share/doc/merpati/copyright"
install -D -m 644 server/merpati.conf "$root/etc/merpati/merpati.conf"
mkdir -p "$root/lib/systemd/system" "$root/DEBIAN"
sed 's,/usr/local/,/usr/,g' server/merpati.service >"$root/lib/systemd/system/merpati.service"
echo /etc/merpati/merpati.conf >"$root/DEBIAN/conffiles"

# What the binary links to, as packages; PostgreSQL is run as a program.
mkdir -p "$root/debian"
: >"$root/debian/control"
depends=$(cd "$root" && dpkg-shlibdeps -O usr/bin/merpati 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
rm -r "$root/debian"
cat >"$root/DEBIAN/control" <<CONTROL
Package: merpati
Version: $version
Architecture: $arch
Maintainer: The Merpati developers <merpati@localhost>
Section: mail
Priority: optional
Depends: ${depends:-libc6}, postgresql, adduser, dns-root-data
Description: Groupware server: mail, calendars and contacts over PostgreSQL
 Merpati is a mail transfer agent, mailbox, calendar and contacts server in
 one daemon over one PostgreSQL store.
CONTROL
cat >"$root/DEBIAN/postinst" <<'POSTINST'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
	getent passwd merpati >/dev/null || adduser --system --group --no-create-home --home /var/lib/merpati --quiet merpati
	if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
fi
POSTINST
chmod 755 "$root/DEBIAN/postinst"
dpkg-deb --root-owner-group --build "$root" "$build/merpati_${version}_${arch}.deb"
