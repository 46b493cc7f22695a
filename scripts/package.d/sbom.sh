# The list of what is linked in, in two formats, held against their schemas; and the licences of it.
# shellcheck shell=bash

checkers=$(venv sbom 'cyclonedx-python-lib[json-validation]==11.12.0' spdx-tools==0.8.5)
say "sbom: $(scripts/package.d/sbom "$dist")"
"$checkers/bin/python" - "$dist/moat.cdx.json" <<'END'
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())
sys.exit(f"moat.cdx.json: {wrong}" if wrong else 0)
END
"$checkers/bin/pyspdxtools" -i "$dist/moat.spdx.json" >"$scratch/spdx" || { cat "$scratch/spdx"; fail "moat.spdx.json"; }
# No licence that the rules of the project (deny.toml) do not know, and a hash for everything that was fetched.
python3 - "$dist/moat.cdx.json" <<'END'
import json, re, sys, tomllib
rules = tomllib.load(open("deny.toml", "rb"))["licenses"]
known = {*rules["allow"], *(name for e in rules["exceptions"] for name in e["allow"])}
for c in json.load(open(sys.argv[1]))["components"]:
    expression = c["licenses"][0]["expression"]
    # Of alternatives one is enough, of a conjunction each counts.
    for clause in re.split(r" AND ", expression):
        if not known & {name.strip(" ()") for name in clause.split(" OR ")}:
            sys.exit(f"{c['name']}: {expression}")
END
