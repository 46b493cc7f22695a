# The static binary: nothing but the kernel is needed. Tried in a root that holds the
# binary, /etc/hosts, /proc and three device nodes.
# shellcheck shell=bash

scripts/install objcopy:binutils file:file curl:curl unshare:util-linux ip:iproute2
binary=$(build static)

file "$binary" | grep -Eq 'static-pie linked|statically linked' || fail "$binary is not static: $(file "$binary")"
! readelf -d "$binary" | grep -q NEEDED || fail "$binary needs libraries"
strings=$(strings -a "$binary" | grep -Fc -e "$root/" -e "${CARGO_HOME:-$HOME/.cargo}/" || true)
[ "$profile" = dev ] || [ "$strings" = 0 ] || fail "$strings places of this machine are in the binary"

name=moat-$version-x86_64-linux
install -m 755 "$binary" "$dist/moat"
install -m 644 "$binary.debug" "$dist/moat.debug"
# The same bytes from the same commit: order, owner and time are fixed.
# shellcheck disable=SC2094
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --transform="s,^,$name/," \
  -C "$dist" -cf - moat -C "$root" README.md LICENSE CHANGELOG.md contrib/systemd | gzip -n9 >"$dist/$name.tar.gz"

# A network of its own, so that the demo's ports are free and nothing outside is reached.
empty=$(fresh)
mkdir "$empty/etc" "$empty/dev" "$empty/proc"
# What every container runtime provides. A static program asks /dev/urandom where others ask the C library.
mknod -m 666 "$empty/dev/null" c 1 3 && mknod -m 666 "$empty/dev/random" c 1 8 && mknod -m 666 "$empty/dev/urandom" c 1 9
# What users unpack is what is tried.
tar -C "$empty" -xf "$dist/$name.tar.gz" --strip-components=1 "$name/moat"
cmp "$empty/moat" "$binary"
echo '127.0.0.1 localhost' >"$empty/etc/hosts"
chown -R 65532:65532 "$empty"
unshare --net --mount -- scripts/package.d/try-demo "$empty" "$binary" \
  env TMPDIR=/ chroot --userspec=65532:65532 "$empty" /moat demo
say "static: $(file -b "$binary" | cut -d, -f1-4), $(stat -c %s "$binary") bytes"

# Names: the C library's own resolver reads /etc/hosts and asks DNS without loading a library, which a static binary
# could not rely on.
cp -r "$empty" "$empty-names"
unshare --net --mount -- scripts/package.d/try-names "$empty-names"
rm -rf "$empty" "$empty-names"
