//! gRPC with the library that most services use, on both sides: every kind of call, with TLS outside and h2c inside.
use super::compare::{Dressing, differences};
use super::stage::{App, Stage, run};
use crate::harness::{Bundle, Gateway};
use std::process::Command;

/// Metadata is compared by the driver, which knows what the profile adds.
const DRESSING: Dressing = Dressing { wears: &[], hides: &[], cookies: &[], readable: &[], gaps: &[] };

fn start(stage: &Stage) -> App {
    App::start(Command::new(stage.driver_python()).arg(stage.source().join("server.py")), "serving on 127.0.0.1:", None)
}

/// A server pair of the test's authority without addresses: gRPC's BoringSSL refuses a chain that constrains those.
fn certify_names_only(bundle: &Bundle) {
    let openssl = |line: &str| run(Command::new("openssl").current_dir(bundle.path("certs")).args(line.split(' ')));
    bundle.write("certs/dev/names.ext", "subjectAltName = DNS:acme.localhost\nextendedKeyUsage = serverAuth\n");
    openssl(
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj / -keyout localhost.key -out dev/names.csr",
    );
    openssl(
        "x509 -req -in dev/names.csr -CA dev/ca.crt -CAkey dev/ca.key -CAcreateserial -extfile dev/names.ext -days 30 -out localhost.crt",
    );
}

#[test]
fn grpc_calls_of_every_kind_notice_nothing() {
    let stage = Stage::of("grpc");
    let direct = stage.visit(start(&stage).port);
    let app = start(&stage);
    let bundle = stage.bundle(app.port);
    certify_names_only(&bundle);
    let through = stage.visit_through(&Gateway::start_blocking(bundle));
    let found = differences(&direct, &through, &DRESSING);
    assert!(found.is_empty(), "{}", found.join("\n"));
}
