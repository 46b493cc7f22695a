# The Debian package, made with dpkg-deb alone, read by lintian, and lived with in a root of its own.
# shellcheck shell=bash

scripts/install dpkg-deb:dpkg dpkg-shlibdeps:dpkg-dev lintian:lintian debootstrap:debootstrap
[ -f "$dist/man/moat.1" ] || part man
[ -f "$dist/moat.cdx.json" ] || part sbom
binary=$(build dynamic)
release=$version-1
package=$dist/moat_${release}_amd64.deb

stage=$(fresh)/moat
install -Dm755 "$binary" "$stage/usr/bin/moat"
install -Dm644 -t "$stage/lib/systemd/system" contrib/systemd/moat.service contrib/systemd/moat.socket
for page in "$dist"/man/*; do
  install -Dm644 "$page" "$stage/usr/share/man/man${page##*.}/${page##*/}"
  gzip -n9 "$stage/usr/share/man/man${page##*.}/${page##*/}"
done
install -Dm644 "$dist/completions/moat.bash" "$stage/usr/share/bash-completion/completions/moat"
install -Dm644 "$dist/completions/_moat" "$stage/usr/share/zsh/vendor-completions/_moat"
install -Dm644 "$dist/completions/moat.fish" "$stage/usr/share/fish/vendor_completions.d/moat.fish"

doc=$stage/usr/share/doc/moat
install -Dm644 -t "$doc" README.md
install -Dm644 -t "$doc/examples" contrib/systemd/socket-only.conf contrib/systemd/moat.sysusers
install -Dm644 -t "$doc" "$dist/moat.cdx.json" "$dist/THIRD-PARTY-LICENSES.txt"
gzip -n9 "$doc/THIRD-PARTY-LICENSES.txt" "$doc/moat.cdx.json"
gzip -n9c CHANGELOG.md >"$doc/changelog.gz"
gzip -n9c >"$doc/changelog.Debian.gz" <<END
moat ($release) unstable; urgency=medium

  * Release $version; what is new is in changelog.gz.

 -- Moat maintainers <maintainers@moat.example>  $(date -Rd "@$SOURCE_DATE_EPOCH")
END
cp contrib/debian/copyright "$doc/copyright"
install -Dm644 contrib/debian/lintian-overrides "$stage/usr/share/lintian/overrides/moat"

# The configuration is what `moat init` writes, on the addresses and in the folders of a server.
"$binary" init "$stage/etc/moat" >/dev/null
rm "$stage/etc/moat/.gitignore"
sed -i -e 's,:-127\.0\.0\.1:8443},:-0.0.0.0:443},; s,:-127\.0\.0\.1:8080},:-0.0.0.0:80},' \
  -e 's,:-state},:-/var/lib/moat},' -e 's, *# 0\.0\.0\.0:\(443\|80\) in production,,' "$stage/etc/moat/gateway.yaml"
grep -q 'address: ${MOAT_PUBLIC:-0.0.0.0:443}' "$stage/etc/moat/gateway.yaml" || fail "gateway.yaml of moat init has changed"
mkdir "$stage/etc/moat/certs"

mkdir "$stage/DEBIAN"
(cd "$stage" && find etc -type f -printf '/%p\n' | sort) >"$stage/DEBIAN/conffiles"
for script in postinst prerm postrm; do install -m755 "contrib/debian/$script" "$stage/DEBIAN/$script"; done
(cd "$stage" && find usr lib etc -type f -printf '%P\0' >/dev/null; find usr lib -type f -print0 | sort -z | xargs -0 md5sum) >"$stage/DEBIAN/md5sums"
work=$(fresh)
mkdir "$work/debian"
printf 'Source: moat\n\nPackage: moat\nArchitecture: amd64\n' >"$work/debian/control"
libraries=$(cd "$work" && dpkg-shlibdeps -O --ignore-missing-info "$binary" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
[ -n "$libraries" ] || fail "dpkg-shlibdeps found no libraries"
cat >"$stage/DEBIAN/control" <<END
Package: moat
Version: $release
Architecture: amd64
Maintainer: Moat maintainers <maintainers@moat.example>
Installed-Size: $(du -k -s --apparent-size --exclude=DEBIAN "$stage" | cut -f1)
Depends: $libraries, adduser, init-system-helpers (>= 1.54~)
Recommends: ca-certificates
Section: httpd
Priority: optional
Description: reverse-proxy security gateway for multi-tenant applications
 Moat stands in front of applications and, for every request, terminates TLS,
 verifies the session, binds it to its tenant, checks the permission that the
 route requires, counts it against its limits, forwards it with a verified
 identity, hardens the response and writes an entry into a log that shows when
 somebody changed it.
 .
 What is not configured is refused: the service is neither enabled nor started
 until there are certificates in /etc/moat/certs and \`moat check\` is content.
END
find "$stage" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group -Zxz --build "$stage" "$package" >/dev/null

# A debug build is large and knows the places of this machine; what lintian says of the rest is the same.
said=$(lintian --allow-root --fail-on none --display-info "$package")
errors=$(grep -c '^E:' <<<"$said" || true) warnings=$(grep -c '^W:' <<<"$said" || true)
printf '%s\n' "$said" | sed '/^$/d; s/^/   lintian: /'
[ "$errors$warnings" = 00 ] || fail "lintian: $errors errors, $warnings warnings"
say "deb: lintian: $errors errors, $warnings warnings; $(stat -c %s "$package") bytes"

scripts/package.d/try-deb "$package" "$tools" "$scratch"
