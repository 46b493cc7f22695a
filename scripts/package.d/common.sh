# What the parts of scripts/package share: names, places, the build, tools that are pinned and fetched once.
# shellcheck shell=bash

root=$PWD
target=${CARGO_TARGET_DIR:-$root/target}
dist=$root/target/dist
tools=$target/tools
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
profile=${MOAT_PROFILE:-dist}
# One time for everything that carries one: that of the last commit.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1767225600)}
export SOURCE_DATE_EPOCH TZ=UTC LC_ALL=C.UTF-8
umask 022

say() { printf '== package: %s\n' "$*"; }
fail() { printf 'scripts/package: %s\n' "$*" >&2; exit 1; }

# shellcheck disable=SC1090
part() {
  mkdir -p "$dist"
  say "$1 ($profile, ${SECONDS}s)"
  . "scripts/package.d/$1.sh"
}

# A Python environment below target/ with exactly these packages: `venv NAME PACKAGE==VERSION…`; prints its folder.
venv() {
  local place=$tools/$1 stamp
  shift
  stamp=$(printf '%s\n' "$@" | sha256sum | cut -c1-16)
  if [ ! -f "$place/.made-$stamp" ]; then
    rm -rf "$place"
    python3 -m venv "$place" >&2
    scripts/again "$place/bin/pip" -q install --disable-pip-version-check "$@" >&2
    touch "$place/.made-$stamp"
  fi
  echo "$place"
}

# Builds `moat` and prints where it is. `build static` links the C library too. Only the last step differs, so both
# share every dependency.
build() {
  local how=$1 flags=() dir=$profile out objcopy=objcopy
  [ "$profile" = dev ] && dir=debug
  out=$target/package/$dir/moat-$how
  mkdir -p "$(dirname "$out")"
  [ "$how" = static ] && flags=(-C target-feature=+crt-static)
  if [ "$profile" != dev ]; then
    # Neither the place of the sources nor that of the registry may be in the binary.
    local prefix="--remap-path-prefix=$root=/moat --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
    export RUSTFLAGS="${RUSTFLAGS:-} $prefix --remap-path-prefix=$target=/target"
    # A profile of real requests, where scripts/pgo has made one.
    if [ -f "$root/target/pgo/moat.profdata" ]; then
      RUSTFLAGS="$RUSTFLAGS -Cprofile-use=$root/target/pgo/moat.profdata"
      # BOLT 22 crashes at a function of the static C library, and without that one its counts are not written.
      if [ "$how" = dynamic ]; then
        flags+=(-C "link-arg=-Wl,--emit-relocs")
        # The one of binutils damages what was laid out.
        objcopy=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/llvm-objcopy
      fi
    fi
    export CFLAGS="${CFLAGS:-} -ffile-prefix-map=$root=/moat -ffile-prefix-map=${CARGO_HOME:-$HOME/.cargo}=/cargo -ffile-prefix-map=$target=/target"
  fi
  nice cargo rustc --quiet --locked --profile "$profile" --bin moat -- "${flags[@]}" >&2
  # The next build of the other kind takes the same place.
  cp -f "$target/$dir/moat" "$out"
  [ "$objcopy" = objcopy ] || scripts/pgo layout "$out" >&2
  # Lines for backtraces are kept beside the binary, not in it.
  "$objcopy" --only-keep-debug "$out" "$out.debug"
  "$objcopy" --strip-debug --strip-unneeded --remove-section=.comment --add-gnu-debuglink="$out.debug" "$out"
  echo "$out"
}

# Each trial has a folder of its own that goes with the script.
scratch=$(mktemp -d)
chmod 755 "$scratch"
fresh() { local made; made=$(mktemp -d "$scratch/XXXXXX"); chmod 755 "$made"; echo "$made"; }
leave() {
  awk -v at="$scratch/" 'index($2, at) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r umount
  rm -rf "$scratch"
}
trap leave EXIT

checksums() {
  (cd "$dist" && find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%P\n' | sort | xargs sha256sum >SHA256SUMS && sha256sum --quiet --check SHA256SUMS)
  say "done (${SECONDS}s)"
  cat "$dist/SHA256SUMS"
}
