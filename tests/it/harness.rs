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

/// Ports that are free, for a program that cannot be told to choose its own. They lie below the range from which the kernel
/// gives ports to connections: one of those would be taken by another test before the program binds it. Each is given out once.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 10_000;
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    // Another run of the tests on this machine begins elsewhere.
    let start = std::process::id().wrapping_mul(101);
    std::array::from_fn(|_| {
        let mut candidates = (0..COUNT).map(|_| {
            let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            u16::try_from(FIRST + start.wrapping_add(next) % COUNT).expect("below 30,000")
        });
        candidates.find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
    })
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
