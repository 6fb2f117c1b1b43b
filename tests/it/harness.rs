//! What the tests stand on: nodes, clients, sites joined by a link, and peers that misbehave.

pub(crate) mod api;
pub(crate) mod asker;
pub(crate) mod hostile;
pub(crate) mod node;
pub(crate) mod sites;
pub(crate) mod wait;

/// Ports that were free a moment ago, for a program that cannot be told to choose its own.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let listeners: [std::net::TcpListener; N] =
        std::array::from_fn(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("its address").port())
}
