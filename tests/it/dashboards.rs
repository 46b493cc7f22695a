//! Dashboards against Grafana's own types: what those do not know, Grafana would not show.
use crate::harness::tool;
use std::path::Path;
use std::process::Command;

/// Reads each dashboard into Grafana's types and writes it again; prints what was lost on the way.
const ROUND_TRIP: &str = r#"
import json, sys
from grafana_foundation_sdk.cog import encoder, plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
plugins.register_default_plugins()
def lost(before, after, path):
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before:
            if key in after: lost(before[key], after[key], path + "." + key)
            else: print(path + "." + key)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for one, other in zip(before, after): lost(one, other, path + "[]")
    elif before != after: print(path, before, after)
for name in sys.argv[1:]:
    board = json.load(open(name))
    lost(board, json.loads(encoder.JSONEncoder().encode(Dashboard.from_json(board))), "")
"#;

/// What belongs to the Prometheus plug-in and not to the schema of dashboards.
const PLUGIN: [&str; 4] = [
    ".templating.list[].definition",
    ".annotations.list[].titleFormat",
    ".annotations.list[].textFormat",
    ".annotations.list[].step",
];

#[test]
fn dashboards_are_what_grafana_knows() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/grafana");
    let output = Command::new("python3")
        .args(["-c", ROUND_TRIP, "moat-overview.json", "moat-security.json"])
        .current_dir(folder)
        .env("PYTHONPATH", tool("grafana"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let lost: Vec<&str> = said.lines().filter(|line| !PLUGIN.contains(line)).collect();
    assert!(lost.is_empty(), "{lost:#?}");
    assert!(!said.is_empty(), "the fields of the plug-in were not even looked at");
}
