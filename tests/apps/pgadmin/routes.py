"""Writes every route of pgAdmin that can be asked for harmlessly, with values for its variables, as JSON."""

import builtins
import json
import re
import sys

builtins.SERVER_MODE = True
from pgAdmin4 import app  # noqa: E402

# Group, server, data base and schema of the test; everything else does not exist, which is an answer too.
VALUES = {"gid": "1", "sid": "1", "did": sys.argv[1], "scid": "2200", "tid": sys.argv[2]}
# These end the session, the connection or the process, or change who may sign in.
ENDS = ("logout", "shutdown", "kerberos", "oauth2", "disconnect", "close", "password", "login", "mfa", "change", "reset")
# These tell of this very moment.
MOMENT = ("/dashboard/", "/misc/ping", "/static/", "/azure/", "/rds/", "/google/", "/cloud/", "/llm/", "upgrade_check")

routes = set()
for rule in app.url_map.iter_rules():
    if any(word in rule.rule for word in ENDS + MOMENT):
        continue
    path = re.sub(r"<(?:[^:<>]+:)?(\w+)>", lambda variable: VALUES.get(variable[1], "1"), rule.rule)
    for method in rule.methods & {"GET", "POST", "PUT", "DELETE"}:
        routes.add((method, path))
with open(sys.argv[3], "w") as file:
    json.dump(sorted(routes), file)
print(len(routes))
