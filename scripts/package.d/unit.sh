# The units of systemd: verified, their exposure bounded, and the gateway run under what they allow.
# shellcheck shell=bash

scripts/install systemd-analyze:systemd setpriv:util-linux mandb:man-db
dpkg -s python3-seccomp >/dev/null 2>&1 || scripts/install :python3-seccomp
binary=$(build dynamic)

# The program stands where the unit looks for it, in a root of its own.
units=$(fresh)
mkdir -p "$units"/{usr/bin,etc/systemd/system,usr/share/man/man1,usr/share/man/man5}
install -m 755 "$binary" "$units/usr/bin/moat"
cp contrib/systemd/moat.service contrib/systemd/moat.socket "$units/etc/systemd/system/"
sed "s,/usr/bin/moat,$units&," contrib/systemd/moat.service >"$units/moat.service"
cp contrib/systemd/moat.socket "$units/"
complaints=$(systemd-analyze verify --man=no --recursive-errors=no "$units/moat.service" "$units/moat.socket" 2>&1) || true
[ -z "$complaints" ] || fail "systemd-analyze verify: $complaints"

# The figure of systemd-analyze: 0 is safe, 10 is not. A change that raises it is a change of the promise.
exposure() {
  systemd-analyze security --offline=true "$1" | sed -n 's/.*exposure level for [^:]*: \([0-9.]*\) .*/\1/p'
}
bounded() { # WHAT FILE MOST
  local level
  level=$(exposure "$2")
  awk -v a="$level" -v most="$3" 'BEGIN { exit !(a != "" && a <= most) }' || fail "$1: exposure $level, at most $3"
  say "unit: $1: exposure $level of 10"
}
bounded moat.service "$units/moat.service" 1.4
mkdir "$units/moat.service.d"
cp contrib/systemd/socket-only.conf "$units/moat.service.d/"
bounded "moat.service with socket-only.conf" "$units/moat.service" 1.1

# Under the unit's own filters a call outside them ends the process: the demo makes none. It binds 443 and 80, which
# needs the one capability.
state=$(fresh)
chown 65532:65532 "$state"
under() { # UNIT
  rm -rf "${state:?}"/*
  unshare --net --mount -- scripts/package.d/try-demo "$state" "$binary" \
    env AS_UNIT_STRICT=1 TMPDIR="$state" MOAT_PUBLIC=127.0.0.1:443 MOAT_PLAIN=127.0.0.1:80 \
    "$root/scripts/package.d/as-unit" "$1" 65532 "$binary" demo 2>"$units/log"
}
under "$root/contrib/systemd/moat.service" || { tail -20 "$units/log"; fail "the demo does not run under moat.service"; }
# The trial can fail: without the capability, and without the calls of the network.
sed 's/^\(Ambient\|CapabilityBounding\).*/\1=/; s/^CapabilityBounding=/CapabilityBoundingSet=/; s/^Ambient=/AmbientCapabilities=/' \
  contrib/systemd/moat.service >"$units/weak.service"
! under "$units/weak.service" >/dev/null || fail "the demo bound port 443 without the capability"
sed 's/^SystemCallFilter=~/&@network-io /' contrib/systemd/moat.service >"$units/weak.service"
! under "$units/weak.service" >/dev/null || fail "the trial does not apply the filter of calls"
