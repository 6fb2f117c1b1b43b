//! Every case by name. `make bench-quick CASES=list` runs those whose names begin so.

use crate::case::Case;

mod door;
mod fan_out;
mod growth;
mod hops;
mod mixed;
mod process;
mod revoke;
mod rows;

pub(crate) const ALL: &[Case] = &[
    Case {
        name: "capabilities",
        what: "capabilities over mTLS keep-alive, beside nginx",
        run: |effort| Box::pin(door::capabilities(effort)),
    },
    Case {
        name: "handshakes",
        what: "full mTLS handshakes with revocation lists, beside nginx",
        run: |effort| Box::pin(door::handshakes(effort)),
    },
    Case {
        name: "list",
        what: "list over mTLS, strict audit, beside pgbench, plain tokio-postgres and nginx",
        run: |effort| Box::pin(rows::list(effort)),
    },
    Case { name: "growth", what: "list as the subject's rows grow", run: |effort| Box::pin(growth::growth(effort)) },
    Case {
        name: "fan_out",
        what: "one question to 1, 8, 32 and 128 sites; a black hole; slow ones",
        run: |effort| Box::pin(fan_out::fan_out(effort)),
    },
    Case {
        name: "fdw",
        what: "eight real nodes, beside postgres_fdw over their databases",
        run: |effort| Box::pin(fan_out::beside_fdw(effort)),
    },
    Case {
        name: "revoke",
        what: "revocation to refusal on three replicas, on open connections",
        run: |effort| Box::pin(revoke::revoke(effort)),
    },
    Case {
        name: "start",
        what: "start to ready with a running database",
        run: |effort| Box::pin(process::start(effort)),
    },
    Case {
        name: "memory",
        what: "resident memory at rest, and for each link",
        run: |effort| Box::pin(process::memory(effort)),
    },
    Case {
        name: "hops",
        what: "a message to an actor and back, on one thread and between two",
        run: |effort| Box::pin(hops::hops(effort)),
    },
    Case {
        name: "mixed",
        what: "a steady mix of requests; latencies and memory over time",
        run: |effort| Box::pin(mixed::mixed(effort)),
    },
];

/// The cases whose names begin with one of these; all without one. `list_50` chooses `list`: a case gives several rows.
pub(crate) fn chosen<'a>(names: &'a [String]) -> impl Iterator<Item = &'static Case> + 'a {
    ALL.iter().filter(|case| {
        names.is_empty() || names.iter().any(|name| name.starts_with(case.name) || case.name.starts_with(name.as_str()))
    })
}
