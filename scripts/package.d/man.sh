# Manual pages and completions, from the definitions that parse the command line. `man` and the shells check them.
# shellcheck shell=bash

scripts/install man:man-db bash:bash zsh:zsh fish:fish
binary=$(build dynamic)
rm -rf "$dist/man" "$dist/completions"
"$binary" man "$dist/man"
for page in "$dist"/man/*; do
  # Warnings of the formatter are mistakes in the page.
  warned=$(MANWIDTH=120 man --warnings=w -E UTF-8 -l "$page" 2>&1 >/dev/null)
  [ -z "$warned" ] || fail "$page: $warned"
done
mkdir -p "$dist/completions"
"$binary" completions bash >"$dist/completions/moat.bash"
"$binary" completions zsh >"$dist/completions/_moat"
"$binary" completions fish >"$dist/completions/moat.fish"

# Each completes a word as its user would see it.
offered=$(bash -euc '. "$1"; COMP_WORDS=(moat ex) COMP_CWORD=1; _moat moat ex moat; echo "${COMPREPLY[*]}"' - "$dist/completions/moat.bash")
[ "$offered" = explain ] || fail "bash completes \`moat ex\` with \`$offered\`"
zsh -n "$dist/completions/_moat"
offered=$(XDG_CONFIG_HOME=$(fresh) HOME=$(fresh) fish -c 'source $argv[1]; complete --do-complete "moat ex"' "$dist/completions/moat.fish" | cut -f1)
[ "$offered" = explain ] || fail "fish completes \`moat ex\` with \`$offered\`"
say "man: $(find "$dist/man" -type f | wc -l) pages; completions for bash, zsh and fish"
