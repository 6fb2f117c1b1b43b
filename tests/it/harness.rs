//! What the tests stand on: nodes, clients, sites joined by a link, and peers that misbehave.

pub(crate) mod api;
pub(crate) mod asker;
pub(crate) mod authority;
pub(crate) mod hostile;
pub(crate) mod node;
pub(crate) mod search;
pub(crate) mod sites;
pub(crate) mod step_ca;
pub(crate) mod wait;
pub(crate) mod wire;

/// Ports that were free a moment ago, for a program that cannot be told to choose its own.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let listeners: [std::net::TcpListener; N] =
        std::array::from_fn(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("its address").port())
}

/// This moment: the tests' certificates are valid around it.
#[expect(clippy::disallowed_methods, reason = "a test is outside of the program and its clock")]
pub(crate) fn now() -> time::OffsetDateTime {
    time::OffsetDateTime::now_utc()
}

/// A number that the environment sets, for longer or repeated runs.
#[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
pub(crate) fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}
