//! What the process itself is set to: what only a restart can change, and what a reload of listeners, `tls`, `audit` and
//! `logs` lets through that was kept out before.
use super::Lines;
use crate::config::settings::{
    Audit, Durability, Listener, ListenerKind, Redis, Revocation, Server, SessionTickets, Snapshot,
};
use std::sync::Arc;

/// Keys whose values are fixed when the process starts and differ. Any of them refuses a reload: a value that is in the
/// file and not in force would be a silent failure.
pub fn needs_restart(old: &Snapshot, new: &Snapshot) -> Vec<&'static str> {
    let Server {
        worker_threads,
        state_dir,
        instance,
        reuse_port,
        zone: _,
        drain_timeout: _,
        drain_delay: _,
        max_connections: _,
        requests_under_way: _,
        unread_answers: _,
    } = &old.server;
    let server = &new.server;
    let differs = [
        (*worker_threads != server.worker_threads, "server.worker_threads"),
        (*state_dir != server.state_dir, "server.state_dir"),
        (*instance != server.instance, "server.instance"),
        (*reuse_port != server.reuse_port, "server.reuse_port"),
        (old.admin.address != new.admin.address, "admin.address"),
        (old.admin.status_page != new.admin.status_page, "admin.status_page"),
        (old.embedded != new.embedded, "storage.embedded.path"),
        (keeper(old) != keeper(new), "storage.redis"),
        (old.postgres != new.postgres, "storage.postgres"),
        (old.audit.directory != new.audit.directory, "audit.directory"),
        (old.audit.key != new.audit.key, "audit.chain.checkpoint.key"),
    ];
    differs.into_iter().filter(|(differs, _)| *differs).map(|(_, key)| key).collect()
}

/// The Redis, where it keeps more than counts of limits: where sessions are is not changed under them.
fn keeper(snapshot: &Snapshot) -> Option<&Redis> {
    snapshot.redis.as_ref().filter(|redis| !redis.keeps.is_empty())
}

pub(super) fn loosened(old: &Snapshot, new: &Snapshot, lines: &mut Lines) {
    revocation(&old.revocation, &new.revocation, lines);
    for listener in &new.listeners {
        let name = &listener.name;
        match old.listeners.iter().find(|other| other.name == *name) {
            Some(before) => compare_listeners(before, listener, lines),
            None => lines.when(true, || match listener.kind {
                ListenerKind::Plaintext => format!("listener `{name}` is new and without TLS, on {}", listener.address),
                ListenerKind::Tls { .. } | ListenerKind::Redirect { .. } => {
                    format!("listener `{name}` is new, on {}", listener.address)
                }
            }),
        }
    }
    audit(&old.audit, &new.audit, lines);
}

fn compare_listeners(old: &Arc<Listener>, new: &Arc<Listener>, lines: &mut Lines) {
    let name = &new.name;
    lines.when(old.address != new.address, || {
        format!("listener `{name}` is on {} instead of {}", new.address, old.address)
    });
    match (&old.kind, &new.kind) {
        (
            ListenerKind::Tls { profile: before, tickets: held, protocols: _ },
            ListenerKind::Tls { profile: after, tickets: holds, protocols: _ },
        ) => {
            let period = |tickets: &Option<Arc<SessionTickets>>| tickets.as_ref().map(|tickets| tickets.rotate_s);
            lines.when(period(holds) > period(held), || {
                format!("sessions of listener `{name}` can be resumed for longer, or elsewhere (`tls.session_tickets`)")
            });
            lines.when(after.tls12 && !before.tls12, || format!("listener `{name}` accepts TLS 1.2 too"));
            lines.when(after.groups.iter().any(|group| !before.groups.contains(group)), || {
                format!("listener `{name}` accepts more key exchange groups")
            });
            lines.when(after.ciphers.iter().any(|cipher| !before.ciphers.contains(cipher)), || {
                format!("listener `{name}` accepts more cipher suites")
            });
        }
        (ListenerKind::Tls { .. } | ListenerKind::Redirect { .. }, ListenerKind::Plaintext) => {
            lines.when(true, || format!("listener `{name}` serves without TLS"));
        }
        (ListenerKind::Redirect { .. }, ListenerKind::Tls { .. })
        | (ListenerKind::Tls { .. } | ListenerKind::Redirect { .. }, ListenerKind::Redirect { .. })
        | (ListenerKind::Plaintext, _) => {}
    }
    let outside = |net: &ipnet::IpNet| !old.trusted.iter().any(|known| known.contains(net));
    lines.when(new.trusted.iter().any(outside), || format!("listener `{name}` believes more hops"));
    if let Some(before) = &old.edge {
        let wider = |new: &crate::config::settings::Edge| {
            let outside = |net: &ipnet::IpNet| !before.ranges.iter().any(|known| known.contains(net));
            new.ranges.iter().any(outside) || before.header != new.header
        };
        lines.when(new.edge.as_deref().is_none_or(wider), || {
            format!("listener `{name}` may be reached from more addresses, or believes another header")
        });
        lines.when(
            before.certificate.is_some() && new.edge.as_ref().is_none_or(|new| new.certificate != before.certificate),
            || format!("listener `{name}` asks the edge for another certificate, or for none"),
        );
    }
    lines.when(old.proxy_protocol && !new.proxy_protocol, || {
        format!("listener `{name}` takes connections that no balancer introduces")
    });
    lines.when(old.client_header != new.client_header, || {
        format!("listener `{name}` reads the client's address from another header")
    });
    let more = new.head.bytes > old.head.bytes || new.head.count > old.head.count || new.head.line > old.head.line;
    let longer = new.header_timeout > old.header_timeout
        || new.idle_timeout > old.idle_timeout
        || new.handshake_timeout > old.handshake_timeout
        || new.stall_timeout > old.stall_timeout;
    let wider = new.connections_per_ip > old.connections_per_ip
        || new.handshakes_per_second > old.handshakes_per_second
        || new.h2_concurrent_streams > old.h2_concurrent_streams
        || new.h2_resets_per_second > old.h2_resets_per_second
        || new.h2_control_frames_per_second > old.h2_control_frames_per_second
        || new.h2_window_updates_per_second > old.h2_window_updates_per_second
        || new.h2_stall_timeout > old.h2_stall_timeout;
    lines.when(more || longer || wider, || format!("listener `{name}` has higher limits"));
}

fn revocation(old: &Revocation, new: &Revocation, lines: &mut Lines) {
    let (before, after) = (old.listen, new.listen);
    let fewer = (before.admin && !after.admin)
        || (before.users && !after.users)
        || (before.caep && !after.caep)
        || (before.back_channel_logout && !after.back_channel_logout);
    lines.when(fewer, || "fewer may end sessions (`sessions.revocation.listen`)".to_owned());
    let stale = new.max_staleness > old.max_staleness
        || (old.deny_stale && !new.deny_stale)
        || (old.deny_stale_sensitive && !new.deny_stale_sensitive);
    lines.when(stale, || "a replica that hears of no revocations serves for longer, or more".to_owned());
    let sooner = new.keep_s < old.keep_s || new.clock_tolerance_s < old.clock_tolerance_s;
    lines.when(sooner, || "revocations are forgotten sooner, or tolerate less (`sessions.revocation`)".to_owned());
}

fn audit(old: &Audit, new: &Audit, lines: &mut Lines) {
    let strength = |durability: Durability| match durability {
        Durability::Os => 0,
        Durability::Batch => 1,
        Durability::Each => 2,
    };
    lines.when(strength(new.durability) < strength(old.durability), || {
        "the audit log is synced less often (`audit.durability`)".to_owned()
    });
    lines.when(new.retain.is_some_and(|new| old.retain.is_none_or(|old| new < old)), || {
        "audit entries are kept for a shorter time".to_owned()
    });
    let fewer = |old: u32, new: u32| new < old;
    let (before, after) = (&old.fold, &new.fold);
    let sooner = fewer(before.after, after.after)
        || fewer(before.per_second, after.per_second)
        || fewer(before.in_all_per_second, after.in_all_per_second);
    lines.when(sooner, || "refused requests share audit entries sooner (`audit.fold`)".to_owned());
    lines.when(new.checkpoint_every > old.checkpoint_every || new.checkpoint_entries > old.checkpoint_entries, || {
        "heads of the audit log are signed less often".to_owned()
    });
}
