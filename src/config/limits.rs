//! Every limit of a node: its name with the unit, its default, what it may be set to, and why.
//!
//! The table below is the only place: the struct [`Limits`], the reader of the configuration, the sample file and the
//! documentation are made from it.

use std::num::NonZeroU32;
use std::time::Duration;

/// What a limit's number counts, and so the type of its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Milliseconds,
    Seconds,
    Bytes,
    Mebibytes,
    /// Rows of one answer.
    Rows,
    /// Things that wait or run at the same time.
    Slots,
    Count,
}

impl Unit {
    /// What the key ends with; counts have no unit.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Milliseconds => "_ms",
            Self::Seconds => "_s",
            Self::Bytes => "_bytes",
            Self::Mebibytes => "_mib",
            Self::Rows | Self::Slots | Self::Count => "",
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitSpec {
    /// Under which heading it stands.
    pub group: &'static str,
    /// Below `[limits]` in the file, `MOSAIC_LIMITS_…` in the environment.
    pub key: &'static str,
    pub unit: Unit,
    pub default: u64,
    pub least: u64,
    pub most: u64,
    pub reason: &'static str,
}

macro_rules! unit {
    (ms) => {
        Unit::Milliseconds
    };
    (s) => {
        Unit::Seconds
    };
    (bytes) => {
        Unit::Bytes
    };
    (mib) => {
        Unit::Mebibytes
    };
    (rows) => {
        Unit::Rows
    };
    (slots) => {
        Unit::Slots
    };
    (count) => {
        Unit::Count
    };
}

macro_rules! type_of {
    (ms) => {
        Duration
    };
    (s) => {
        Duration
    };
    (bytes) => {
        usize
    };
    (mib) => {
        u32
    };
    (rows) => {
        NonZeroU32
    };
    (slots) => {
        usize
    };
    (count) => {
        u32
    };
}

macro_rules! value {
    (ms, $raw:expr) => {
        Duration::from_millis($raw)
    };
    (s, $raw:expr) => {
        Duration::from_secs($raw)
    };
    (bytes, $raw:expr) => {
        usize::try_from($raw).unwrap_or(usize::MAX)
    };
    (slots, $raw:expr) => {
        usize::try_from($raw).unwrap_or(usize::MAX)
    };
    (rows, $raw:expr) => {
        NonZeroU32::new(u32::try_from($raw).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN)
    };
    ($other:ident, $raw:expr) => {
        u32::try_from($raw).unwrap_or(u32::MAX)
    };
}

macro_rules! limits {
    ($($group:literal { $($field:ident: $unit:ident = $default:literal in $least:literal ..= $most:literal, $key:literal, $reason:literal;)* })*) => {
        /// Every limit, read and within its range.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Limits {
            $($(#[doc = $reason] pub $field: type_of!($unit),)*)*
        }

        impl Limits {
            /// Every row, in the order of the documentation.
            pub const TABLE: &'static [LimitSpec] = &[
                $($(LimitSpec {
                    group: $group, key: $key, unit: unit!($unit), default: $default, least: $least, most: $most, reason: $reason,
                },)*)*
            ];

            /// The limits whose numbers `read` gives, row by row; it returns the default for what is not set.
            pub(super) fn from_table(mut read: impl FnMut(&'static LimitSpec) -> u64) -> Self {
                let mut rows = Self::TABLE.iter();
                let mut next = || read(rows.next().expect("invariant: the table has a row per field"));
                Self { $($($field: value!($unit, next()),)*)* }
            }
        }
    };
}

impl Limits {
    /// Connections to the database that no pool holds: the authority feed, migrations, probes, a person with psql.
    pub const CONNECTIONS_BESIDE_POOLS: usize = 8;

    /// Connections that read local rows, beside `sessions_pool` others: a question authenticates on one and reads on another.
    #[must_use]
    pub(crate) fn row_connections(sessions_pool: usize) -> usize {
        sessions_pool.div_ceil(2)
    }

    /// Most connections that the pools hold together.
    #[must_use]
    pub(crate) fn pooled_connections(&self) -> usize {
        let peers = PeerConnections::of(self.peers_pool, self.workers_here());
        self.sessions_pool + Self::row_connections(self.sessions_pool) + peers.all()
    }

    /// Threads of a listener on this machine: more than cores only cost memory.
    #[must_use]
    pub fn workers_here(&self) -> usize {
        std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get).min(self.workers)
    }
}

/// How `peers_pool` is divided: at most half of it writes, and everybody who needs a connection has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerConnections {
    /// That serve peers.
    pub(crate) threads: usize,
    /// For what peers ask to be changed: certificates are renewed rarely.
    pub(crate) changes: usize,
    /// For events, of each thread and of everybody else: one for the append under way and, where there is room, one for the append
    /// that follows one that hangs.
    pub(crate) events: usize,
    /// For rows, of each thread.
    pub(crate) rows: usize,
}

impl PeerConnections {
    const CHANGES: usize = 2;
    const EVENTS: usize = 2;

    pub(crate) fn of(peers_pool: usize, threads: usize) -> Self {
        let (threads, most) = (threads.max(1), peers_pool / 2);
        let changes = Self::CHANGES.min(most).max(1);
        let events = Self::EVENTS.min(most.saturating_sub(changes) / (threads + 1)).max(1);
        let rows = (peers_pool.saturating_sub(changes + events * (threads + 1)) / threads).max(1);
        Self { threads, changes, events, rows }
    }

    /// More than `peers_pool` where that is too few for one each.
    pub(crate) fn all(self) -> usize {
        self.changes + self.events * (self.threads + 1) + self.rows * self.threads
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::from_table(|spec| spec.default)
    }
}

limits! {
    "Questions of sessions" {
        request_deadline: ms = 5_000 in 100..=120_000, "request_deadline_ms",
            "a query without deadline_ms ends then: a person still waits, and every healthy source is long back";
        request_deadline_max: ms = 30_000 in 100..=120_000, "request_deadline_max_ms",
            "most that deadline_ms may ask for: a longer one would hold connections of every source";
        page_default: rows = 50 in 1..=1_000, "page_default", "rows of a page when limit is not given: a screen or two";
        page_cap: rows = 200 in 1..=1_000, "page_cap", "most rows of a page; a larger limit is capped and says _truncated";
        query_body: bytes = 65_536 in 4_096..=1_048_576, "query_body_bytes", "a query with a long filter is a few KiB";
        queries_in_flight: slots = 256 in 1..=100_000, "queries_in_flight",
            "queries of all sessions at once; the next is refused at once instead of slowing all";
        session_cursor: bytes = 32_768 in 1_024..=262_144, "session_cursor_bytes",
            "a cursor holds a position per source, each with the peer's own cursor inside";
        row_body: bytes = 262_144 in 4_096..=4_194_304, "row_body_bytes",
            "one written row: 64 KiB of text, with room for JSON escapes";
        import_line: bytes = 262_144 in 4_096..=4_194_304, "import_line_bytes", "one row of an import, as row_body_bytes";
        import: bytes = 67_108_864 in 65_536..=1_073_741_824, "import_bytes",
            "one import: it is read whole before anything is written, so this much memory each";
        imports_in_flight: slots = 4 in 1..=1_000, "imports_in_flight",
            "imports at once, each read whole before it is written; the next is refused at once";
        import_rows: count = 100_000 in 1..=10_000_000, "import_rows", "rows of one import: minutes, not hours";
        import_batch: slots = 500 in 1..=10_000, "import_batch", "rows written together: the round trip stops mattering";
        import_total: ms = 300_000 in 1_000..=3_600_000, "import_total_ms", "reading and writing of one import; 64 MiB over a slow line";
        import_idle: ms = 10_000 in 100..=300_000, "import_idle_ms", "a sender that pauses longer is gone";
    }
    "Filters and cursors" {
        page: bytes = 3_670_016 in 65_536..=67_108_864, "page_bytes",
            "a page with more ends early and says so: below what an asking site reads of one answer, 4 MiB";
        filter: bytes = 8_192 in 256..=65_536, "filter_bytes", "where, as canonical JSON; it is also sent to every peer";
        filter_conditions: slots = 16 in 1..=100, "filter_conditions", "comparisons of one where; each is a bound parameter";
        filter_values: slots = 100 in 1..=1_000, "filter_values", "values of one in: [...]";
        filter_text: slots = 1_000 in 1..=10_000, "filter_text_chars", "characters of one text value";
        peer_cursor: bytes = 2_048 in 256..=8_192, "peer_cursor_bytes",
            "a cursor that a peer hands out: a time, an id of 200 characters and a tag";
    }
    "Asking peers" {
        peer_budget: ms = 3_000 in 100..=60_000, "peer_budget_ms",
            "most time for one peer, within the query's own deadline: local rows are never held longer";
        peer_first_byte: ms = 2_000 in 50..=60_000, "peer_first_byte_ms", "a peer that accepts and stays silent is as good as down";
        peer_idle: ms = 1_000 in 50..=60_000, "peer_idle_ms", "longest pause between bytes: dripping costs others nothing";
        peer_connect: ms = 1_000 in 50..=30_000, "peer_connect_ms", "a TCP handshake around the world takes 0.3 s";
        peer_tls: ms = 2_000 in 50..=30_000, "peer_tls_ms", "a TLS handshake is two round trips and one signature";
        peer_answer: bytes = 4_194_304 in 65_536..=67_108_864, "peer_answer_bytes",
            "a peer's answer is hostile until parsed; 200 rows of 20 KiB fit";
        peer_head: bytes = 4_096 in 2_048..=262_144, "peer_head_bytes",
            "the head of a peer's answer, as nginx takes it from a server behind it; ours has under 1 KiB, and an open connection keeps room for two";
        peer_answer_depth: slots = 32 in 4..=128, "peer_answer_depth", "nesting of a peer's JSON: more is an attack on the parser";
        peer_connections: slots = 8 in 1..=256, "peer_connections", "per link; as many as the owner answers at once";
        peer_connection_idle: s = 60 in 1..=3_600, "peer_connection_idle_s", "kept open between a person's questions";
        peer_connection_age: s = 3_600 in 10..=86_400, "peer_connection_age_s", "addresses and routes change behind a name";
        own_calls: slots = 16 in 1..=10_000, "own_calls",
            "calls that links make by themselves at once (capabilities, opening watches): a node with a thousand links starts without a storm of handshakes";
        peer_keepalive: ms = 15_000 in 500..=600_000, "peer_keepalive_ms",
            "the kernel asks after a connection that was quiet for so long: a peer whose machine vanished sends no FIN";
        peer_unacknowledged: ms = 30_000 in 500..=600_000, "peer_unacknowledged_ms",
            "the kernel ends a connection on which bytes or questions were not acknowledged for so long";
        peer_in_flight: slots = 32 in 1..=1_024, "peer_in_flight", "questions per link at once; the next is refused, not queued";
    }
    "Fault injection" {
        fault_injection: s = 3_600 in 1..=86_400, "fault_injection_s",
            "longest time for which an admin may make a link go wrong: it must end by itself when the game day does";
    }
    "Watching grants" {
        watch_heartbeat: ms = 15_000 in 100..=600_000, "watch_heartbeat_ms",
            "how often an owner says on a watch that it is there: below what routers in between forget a quiet connection after";
        watch_silence: ms = 120_000 in 200..=3_600_000, "watch_silence_ms", "a watch on which nothing was said for so long is down: eight heartbeats";
        watch_retry: ms = 1_000 in 10..=600_000, "watch_retry_ms",
            "before the first try and after a watch that ended, spread over its double, so that a restarted owner is not stormed; it doubles";
        watch_retry_max: ms = 120_000 in 10..=3_600_000, "watch_retry_max_ms",
            "longest such pause, and the one for a peer without watch: the link learns from answers meanwhile";
        watches: slots = 4_096 in 1..=1_000_000, "watches", "of all grants, and never more than half of the connections of the listener; a quiet connection of about 40 KiB each. The next gets 429";
        watches_per_grant: slots = 4 in 1..=256, "watches_per_grant",
            "a watch for each replica of the asking site; one more takes the place of the oldest";
        watch_receipt: ms = 5_000 in 100..=60_000, "watch_receipt_ms",
            "how long a watch of a grant that ended stays open for its holder to acknowledge";
    }
    "Circuit breaker of a link" {
        breaker_failures: count = 3 in 1..=100, "breaker_failures", "opens after this many failures in a row";
        breaker_calls: count = 5 in 1..=1_000, "breaker_calls", "also opens when half of the calls of the window failed, and there were at least so many";
        breaker_window: s = 30 in 1..=600, "breaker_window_s", "how far back that half is counted";
        breaker_open: s = 15 in 1..=3_600, "breaker_open_s", "first pause; it doubles with every failed probe";
        breaker_open_max: s = 300 in 1..=86_400, "breaker_open_max_s", "longest pause: a peer that is back is found within minutes";
    }
    "Being asked by peers" {
        grant_requests: count = 10 in 1..=100_000, "grant_requests_per_second", "sustained, per grant, unless the grant says otherwise";
        grant_burst: count = 50 in 1..=1_000_000, "grant_burst", "a session that pages quickly is not refused";
        grant_concurrent: count = 8 in 1..=10_000, "grant_concurrent", "requests of one grant at once";
        federation_body: bytes = 65_536 in 4_096..=1_048_576, "federation_body_bytes", "a question is small; a CSR is a few KiB";
        federation_connections: slots = 1_024 in 1..=100_000, "federation_connections", "open connections of all peers; per listener and worker";
        handshakes: slots = 64 in 1..=10_000, "handshakes", "TLS handshakes at once per worker: each is a millisecond of signing";
        tls_handshake: ms = 3_000 in 100..=60_000, "tls_handshake_ms", "a client that stalls in the handshake is cut";
        handshake_events_address: count = 5 in 0..=100_000, "handshake_events_per_address",
            "refused handshakes of one address that the audit holds one by one, per window; more are counted";
        handshake_events: count = 100 in 0..=100_000, "handshake_events",
            "the same of all addresses together, and once more of those that showed a certificate of this site's: what a stranger can write costs him nothing";
        handshake_addresses: slots = 100 in 1..=100_000, "handshake_addresses",
            "addresses that are counted apart, per window: each leaves one event with its count";
        handshake_window: s = 60 in 1..=86_400, "handshake_window_s", "how long refused handshakes are counted before the count is written down";
        request_head: ms = 5_000 in 100..=60_000, "request_head_ms", "time to send the request's head";
        request_body: ms = 10_000 in 100..=60_000, "request_body_ms", "time to send the body, from the head on";
        write_stall: ms = 15_000 in 100..=300_000, "write_stall_ms", "a reader that takes nothing for so long is cut";
        keep_alive: s = 75 in 1..=3_600, "keep_alive_s", "an idle connection; longer than an asker keeps it, so that the asker closes first";
    }
    "Shared limits (Redis or Valkey)" {
        redis_answer: ms = 25 in 1..=1_000, "redis_answer_ms",
            "a count in the same network takes under one; then the request goes on by this replica's own count";
        redis_retry: ms = 1_000 in 50..=60_000, "redis_retry_ms",
            "pause before dialling Redis again, and between two looks whether it still answers; no request waits for either";
    }
    "Enrolment" {
        invite_lifetime: s = 900 in 60..=86_400, "invite_lifetime_s", "time to paste an invite on the other side";
        invite_lifetime_max: s = 86_400 in 60..=86_400, "invite_lifetime_max_s", "most that a grant's creator may ask for";
        enroll_failures: count = 5 in 1..=1_000, "enroll_failures_per_minute", "per address, then 429: tokens cannot be guessed, noise can be bounded";
        enroll_addresses: slots = 10_000 in 100..=1_000_000, "enroll_addresses", "addresses whose failures are remembered";
        enroll_body: bytes = 16_384 in 4_096..=65_536, "enroll_body_bytes", "a CSR of the largest sensible key is 4 KiB";
        enroll_connections: slots = 128 in 1..=10_000, "enroll_connections", "enrolling happens once per link";
        enroll: ms = 10_000 in 1_000..=60_000, "enroll_ms", "the whole conversation of an asker with the owner's enrolment listener";
    }
    "Certificates" {
        client_certificate: s = 86_400 in 300..=7_776_000, "client_certificate_s", "short, because renewal is automatic and a lost key ends by itself";
        renewal_overlap: s = 600 in 1..=3_600, "renewal_overlap_s",
            "a renewed certificate's predecessor is valid so long, unless the new one is used earlier: an answer may get lost";
        certificates_per_hour: count = 60 in 2..=100_000, "certificates_per_hour",
            "per grant; a link renews once in 16 hours, an admin now and then, and retries come minutes apart";
        renewal: ms = 10_000 in 1_000..=60_000, "renewal_ms", "one renewal from the dial to the answer: the owner's CA signs in between";
        renewal_retry: s = 5 in 1..=3_600, "renewal_retry_s", "first pause after a failed renewal; it doubles";
        renewal_retry_max: s = 120 in 1..=3_600, "renewal_retry_max_s",
            "longest such pause: several tries fit into the overlap, should only the answer have been lost";
        ca_request: ms = 5_000 in 100..=60_000, "ca_request_ms",
            "one request to step-ca: it is on the same network and signs in milliseconds, and an asker waits meanwhile";
        server_certificate: s = 604_800 in 3_600..=7_776_000, "server_certificate_s", "of the federation and enrolment listeners";
        crl: s = 86_400 in 3_600..=604_800, "crl_s", "a CRL is valid so long and re-signed at half of it";
    }
    "Database" {
        sessions_pool: slots = 16 in 1..=1_000, "sessions_pool", "connections for sessions, admins and housekeeping; half as many more read local rows";
        peers_pool: slots = 16 in 1..=1_000, "peers_pool", "connections for peers, apart, so that peers cannot starve local users; at least two for each of `workers` and two more";
        pool_wait: ms = 1_000 in 10..=60_000, "pool_wait_ms", "for a free connection; longer only hides that there are too few";
        database_connect: ms = 3_000 in 100..=60_000, "database_connect_ms", "dialling, TLS and login";
        database_check: ms = 1_000 in 50..=60_000, "database_check_ms", "a rested connection that does not answer within this is replaced";
        statement: ms = 30_000 in 100..=600_000, "statement_ms", "no statement runs longer; questions set the deadline they have";
        authority_heartbeat: ms = 200 in 50..=10_000, "authority_heartbeat_ms",
            "how often a replica asks whether rights changed, behind LISTEN; with authority_answer_ms below the second in which a revocation counts";
        authority_answer: ms = 700 in 50..=10_000, "authority_answer_ms", "no answer within this: rights are unknown, peers get 503";
        reconnect: ms = 100 in 10..=10_000, "reconnect_ms", "first pause before dialling the database again; it doubles";
        reconnect_max: ms = 2_000 in 100..=60_000, "reconnect_max_ms", "longest such pause: a database that is back is found at once";
        clock_skew: ms = 5_000 in 100..=60_000, "clock_skew_ms", "between this machine and its database, before doctor warns";
    }
    "Master secret" {
        secrets_reread: ms = 2_000 in 50..=10_000, "secrets_reread_ms", "between two looks at master_secret_file and at which secret seals; a rotation waits for two of them";
    }
    "Embedded database (tier local)" {
        embedded_connections: count = 60 in 20..=1_000, "embedded_connections", "both pools, the watchers, and a person with psql";
        embedded_buffers: mib = 32 in 8..=16_384, "embedded_buffers_mib", "shared_buffers: a small machine next to the node";
        embedded_start: s = 60 in 5..=3_600, "embedded_start_s", "crash recovery of a busy database included";
        embedded_stop: s = 10 in 1..=600, "embedded_stop_s", "a fast shutdown writes what is in memory; then it becomes an immediate one";
        embedded_restart: ms = 100 in 10..=60_000, "embedded_restart_ms", "first pause before a crashed server is started again; it doubles";
        embedded_restart_max: ms = 10_000 in 100..=600_000, "embedded_restart_max_ms", "longest such pause";
    }
    "Audit" {
        audit_batch: slots = 512 in 1..=10_000, "audit_batch", "events of one commit: the more wait, the fewer commits";
        audit_seal: ms = 10_000 in 50..=3_600_000, "audit_seal_ms",
            "between two rounds of sealing: what is younger has its digest and its number, but no seal yet";
        audit_seal_batch: slots = 4_096 in 1..=65_536, "audit_seal_batch", "events of one seal, which are read and hashed together";
        audit_hot: s = 7_776_000 in 86_400..=315_360_000, "audit_hot_s",
            "a month of the audit that ended so long ago moves to a colder table, which lists look at when they name a time: 90 days";
        audit_queue: slots = 4_096 in 1..=1_000_000, "audit_queue", "events that wait; the next request gets 503, never an answer without its event";
    }
    "Administration" {
        admin_body: bytes = 262_144 in 4_096..=4_194_304, "admin_body_bytes", "a scope with hundreds of teams";
        admin_page: rows = 50 in 1..=1_000, "admin_page", "entries of a list when limit is not given";
        admin_page_cap: rows = 500 in 1..=10_000, "admin_page_cap", "most entries of a list";
        session_token: s = 2_592_000 in 60..=31_536_000, "session_token_s", "lifetime of a session token when none is asked for: 30 days";
        session_token_max: s = 31_536_000 in 60..=31_536_000, "session_token_max_s", "a year: a token that nobody renews is forgotten";
        grant_lifetime: s = 7_776_000 in 300..=157_680_000, "grant_lifetime_s", "of a grant when none is asked for: 90 days";
        change_reach: ms = 2_000 in 50..=30_000, "change_reach_ms",
            "how long the answer to a change waits until this replica decides by it; then it says that it does not yet";
        crl_publish: ms = 5_000 in 100..=60_000, "crl_publish_ms", "how long a revocation's answer waits for the new list";
        preview_rows: slots = 10_000 in 100..=1_000_000, "preview_rows", "rows that a preview counts per resource; then it says 'at least'";
        preview_first: slots = 5 in 0..=100, "preview_first", "rows that a preview names per resource";
        grant_lifetime_max: s = 157_680_000 in 300..=157_680_000, "grant_lifetime_max_s", "five years: what outlives that was forgotten";
    }
    "Process" {
        api_connections: slots = 1_024 in 1..=100_000, "api_connections", "open connections of sessions and admins, per worker";
        workers: slots = 4 in 1..=64, "workers", "threads per listener, at most one per core: more only cost memory";
        backlog: count = 1_024 in 16..=65_535, "backlog", "connections that the kernel holds while all workers are busy";
        drain: s = 10 in 1..=300, "drain_s", "at shutdown, for requests in flight; then they are cut";
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_limit_has_a_name_with_its_unit_a_default_in_range_and_a_reason() {
        let mut keys = BTreeSet::new();
        for spec in Limits::TABLE {
            assert!(keys.insert(spec.key), "{} stands twice", spec.key);
            assert!(spec.key.ends_with(spec.unit.suffix()), "{} lacks its unit", spec.key);
            assert!((spec.least..=spec.most).contains(&spec.default), "{} is out of range", spec.key);
            assert!(spec.reason.len() > 15, "{} has no reason", spec.key);
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let limits = Limits::default();
        assert_eq!(limits.request_deadline, Duration::from_secs(5));
        // A replica whose news fell silent knows it before the second is over in which a revocation counts.
        assert!(limits.authority_heartbeat + limits.authority_answer < Duration::from_secs(1));
        assert_eq!(limits.request_deadline_max, Duration::from_secs(30));
        assert_eq!(limits.peer_budget, Duration::from_secs(3));
        assert_eq!((limits.peer_first_byte, limits.peer_idle), (Duration::from_secs(2), Duration::from_secs(1)));
        assert_eq!((limits.peer_connect, limits.peer_tls), (Duration::from_secs(1), Duration::from_secs(2)));
        assert_eq!((limits.page_default.get(), limits.page_cap.get()), (50, 200));
        assert_eq!((limits.grant_requests, limits.grant_burst, limits.grant_concurrent), (10, 50, 8));
        assert_eq!((limits.peer_answer, limits.federation_body), (4 * 1024 * 1024, 64 * 1024));
        assert_eq!(limits.drain, Duration::from_secs(10));
    }

    #[test]
    fn everybody_who_needs_a_connection_has_one_and_half_of_a_pool_that_suffices_is_for_rows() {
        for threads in [1, 2, 4, 16, 64] {
            for pool in [1, 2, 5, 16, 64, 1_000] {
                let parts = PeerConnections::of(pool, threads);
                assert!(parts.changes > 0 && parts.events > 0 && parts.rows > 0, "{parts:?}");
                let least = 2 * threads + 2;
                assert!(
                    parts.all() <= pool.max(least + threads),
                    "{pool} connections for {threads} threads: {parts:?}"
                );
                if pool >= 4 * least {
                    assert!(
                        parts.rows * threads * 2 >= pool - 2 * threads,
                        "{pool} connections for {threads} threads: {parts:?}"
                    );
                }
            }
        }
        let usual = PeerConnections { threads: 2, changes: 2, events: 2, rows: 4 };
        assert_eq!((PeerConnections::of(16, 2), usual.all()), (usual, 16));
    }
}
