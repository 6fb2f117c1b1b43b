//! What the actors' tests put behind the ports.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use crate::domain::answer::{Capabilities, Page, RowIndex};
use crate::domain::catalog::ResourceName;
use crate::domain::fault::{Fault, FaultKind, Stage};
use crate::domain::identity::{GrantId, LinkId, RequestId, Serial, SiteName, UserId};
use crate::domain::link::{Link, LinkCredentials, LinkState};
use crate::domain::query::{Position, ReadRight, RowId};
use crate::ports::PortFuture;
use crate::ports::clock::Clock;
use crate::ports::link_store::{LinkStore, Renewed};
use crate::ports::local_rows::{ListRows, LocalRows};
use crate::ports::peer_transport::{
    PeerAnswer, PeerAsk, PeerDialer, PeerNews, PeerQuestion, PeerTransport, Standing, WatchEar,
};

/// 2026-01-01, the moment at which every test begins.
pub(crate) const EPOCH: OffsetDateTime = time::macros::datetime!(2026-01-01 00:00 UTC);

/// A wall clock that moves with tokio's, so that paused tests decide about both.
pub(crate) struct VirtualClock(Instant);

impl VirtualClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Instant::now()))
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> OffsetDateTime {
        EPOCH + self.0.elapsed()
    }
}

pub(crate) fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(n))
}

pub(crate) fn team(n: u128) -> crate::domain::identity::TeamId {
    crate::domain::identity::TeamId(Uuid::from_u128(n))
}

pub(crate) fn site(name: &str) -> SiteName {
    SiteName::parse(name).unwrap()
}

pub(crate) fn resource(name: &str) -> ResourceName {
    ResourceName::parse(name).unwrap()
}

pub(crate) fn rows(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

/// A link of `user(1)`, active, with a certificate for a day.
pub(crate) fn link(peer: &str) -> Link {
    Link {
        id: LinkId::new(),
        peer: site(peer),
        owner: user(1),
        shared_with: Vec::new(),
        state: LinkState::Active,
        grant: GrantId(Uuid::from_u128(7)),
        federation_url: format!("https://{peer}.example:8643").into(),
        allow_private: false,
        credentials: LinkCredentials {
            serial: Serial::from_bytes(&[1]).unwrap(),
            not_before: EPOCH,
            not_after: EPOCH + time::Duration::days(1),
            certificate_chain: Vec::new(),
            sealed_key: Vec::new(),
            key_version: 1,
            pinned_root: Vec::new(),
        },
        created_at: EPOCH,
    }
}

pub(crate) fn fault(kind: FaultKind) -> Fault {
    Fault::new(kind, Stage::FirstByte)
}

pub(crate) fn capabilities(resources: &[&str]) -> Capabilities {
    Capabilities {
        protocol: 1,
        site: "peer".to_owned(),
        resources: resources.iter().map(|&name| name.to_owned()).collect(),
        excluded_resources: Vec::new(),
        max_rows_per_query: 100,
        supported_verbs: ["capabilities", "list", "get"].map(str::to_owned).into(),
        grant_expires_at: EPOCH + time::Duration::days(1),
        cache_max_age: 30,
    }
}

/// A page of rows, each with its second after [`EPOCH`] and its id.
pub(crate) fn page(rows: &[(i64, &str)], more: bool, owner: Option<UserId>) -> Page {
    let mut json = String::new();
    let mut index = Vec::new();
    for (second, id) in rows {
        if !json.is_empty() {
            json.push(',');
        }
        let start = json.len();
        json.push_str(&format!(r#"{{"id":"{id}"}}"#));
        index.push(RowIndex {
            position: Position { created_at: EPOCH + time::Duration::seconds(*second), id: RowId::parse(id).unwrap() },
            range: start..json.len(),
            owner,
            team: None,
        });
    }
    Page { json: Bytes::from(json), rows: index, more }
}

/// The links of a site, in memory.
#[derive(Default)]
pub(crate) struct FakeLinks {
    pub(crate) links: Arc<Mutex<Vec<Link>>>,
    pub(crate) recorded: Mutex<Vec<(LinkId, LinkState)>>,
    pub(crate) fails: Mutex<bool>,
    pub(crate) loads: AtomicUsize,
}

impl FakeLinks {
    pub(crate) fn of(links: impl IntoIterator<Item = Link>) -> Arc<Self> {
        Arc::new(Self { links: Arc::new(Mutex::new(links.into_iter().collect())), ..Self::default() })
    }

    fn read<T: Send + 'static>(&self, value: T) -> PortFuture<Result<T, Fault>> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let failed = *self.fails.lock().unwrap();
        let result = if failed { Err(Fault::new(FaultKind::Unavailable, Stage::Database)) } else { Ok(value) };
        Box::pin(async { result })
    }
}

impl LinkStore for FakeLinks {
    fn load_all(&self) -> PortFuture<Result<Vec<Link>, Fault>> {
        self.read(self.links.lock().unwrap().clone())
    }

    fn load(&self, link: LinkId) -> PortFuture<Result<Option<Link>, Fault>> {
        self.read(self.links.lock().unwrap().iter().find(|known| known.id == link).cloned())
    }

    fn record_state(&self, link: LinkId, state: LinkState) -> PortFuture<Result<(), Fault>> {
        if !*self.fails.lock().unwrap() {
            self.recorded.lock().unwrap().push((link, state));
        }
        self.read(())
    }

    fn renew(
        &self,
        link: LinkId,
        current: Serial,
        renewal: PortFuture<Result<LinkCredentials, Fault>>,
    ) -> PortFuture<Result<Renewed, Fault>> {
        let known = self.of_id(link);
        match known {
            None => Box::pin(async { Err(Fault::new(FaultKind::NotFound, Stage::Database)) }),
            Some(known) if known.credentials.serial != current => {
                Box::pin(async { Ok(Renewed::Elsewhere(Box::new(known))) })
            }
            Some(known) => {
                let links = Arc::clone(&self.links);
                Box::pin(async move {
                    let credentials = renewal.await?;
                    for stored in links.lock().unwrap().iter_mut().filter(|stored| stored.id == known.id) {
                        stored.credentials = credentials.clone();
                    }
                    Ok(Renewed::Here(Box::new(credentials)))
                })
            }
        }
    }
}

impl FakeLinks {
    fn of_id(&self, link: LinkId) -> Option<Link> {
        self.links.lock().unwrap().iter().find(|known| known.id == link).cloned()
    }
}

type Behaviour = Arc<dyn Fn(PeerAsk) -> PortFuture<Result<PeerAnswer, Fault>> + Send + Sync>;

/// A peer that does what the test says.
pub(crate) struct FakePeer {
    behaviour: Mutex<Behaviour>,
    /// Calls for rows.
    pub(crate) calls: AtomicUsize,
    /// Calls for capabilities.
    pub(crate) capability_calls: AtomicUsize,
    /// Calls whose future was dropped before it ended.
    pub(crate) dropped: Arc<AtomicUsize>,
    pub(crate) capabilities: Mutex<Result<Capabilities, Fault>>,
    /// What every watch ends with at once; `None` lets it be open.
    pub(crate) refuses_watch: Mutex<Option<Fault>>,
    /// The watches that were opened, in order.
    pub(crate) watches: Mutex<Vec<FakeWatch>>,
    /// Tries to watch.
    pub(crate) watch_calls: AtomicUsize,
}

/// The peer's end of a watch. Dropping it breaks the connection.
pub(crate) struct FakeWatch {
    pub(crate) news: mpsc::Sender<PeerNews>,
    pub(crate) acknowledged: mpsc::Receiver<u64>,
    _ends: oneshot::Sender<()>,
}

impl FakeWatch {
    pub(crate) fn says(&self, number: u64, standing: Standing) {
        self.news.try_send(PeerNews::Grant { number, standing }).unwrap();
    }
}

impl FakePeer {
    /// `behaviour` answers everything but capabilities.
    pub(crate) fn new<F>(behaviour: impl Fn(PeerAsk) -> F + Send + Sync + 'static) -> Arc<Self>
    where
        F: Future<Output = Result<PeerAnswer, Fault>> + Send + 'static,
    {
        Arc::new(Self {
            behaviour: Mutex::new(Arc::new(move |ask| Box::pin(behaviour(ask)))),
            calls: AtomicUsize::new(0),
            capability_calls: AtomicUsize::new(0),
            dropped: Arc::default(),
            capabilities: Mutex::new(Ok(capabilities(&["tasks"]))),
            refuses_watch: Mutex::new(Some(fault(FaultKind::Incompatible))),
            watches: Mutex::default(),
            watch_calls: AtomicUsize::new(0),
        })
    }

    /// Lets links watch.
    pub(crate) fn watchable(self: Arc<Self>) -> Arc<Self> {
        *self.refuses_watch.lock().unwrap() = None;
        self
    }

    pub(crate) fn becomes<F>(&self, behaviour: impl Fn(PeerAsk) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<PeerAnswer, Fault>> + Send + 'static,
    {
        *self.behaviour.lock().unwrap() = Arc::new(move |ask| Box::pin(behaviour(ask)));
    }

    /// Answers every list with these rows, all of them.
    pub(crate) fn with_rows(rows: &'static [(i64, &'static str)]) -> Arc<Self> {
        Self::new(move |_| async move { Ok(PeerAnswer::Rows { page: page(rows, false, None), next_cursor: None }) })
    }

    pub(crate) fn failing(kind: FaultKind) -> Arc<Self> {
        let peer = Self::new(move |_| async move { Err(fault(kind)) });
        *peer.capabilities.lock().unwrap() = Err(fault(kind));
        peer
    }

    /// Accepts everything and says nothing.
    pub(crate) fn silent() -> Arc<Self> {
        Self::new(|_| std::future::pending())
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl PeerTransport for FakePeer {
    fn ask(&self, ask: PeerAsk) -> PortFuture<Result<PeerAnswer, Fault>> {
        if matches!(ask.question, PeerQuestion::Capabilities) {
            self.capability_calls.fetch_add(1, Ordering::SeqCst);
            let answer = self.capabilities.lock().unwrap().clone();
            return Box::pin(async { answer.map(PeerAnswer::Capabilities) });
        }
        self.calls.fetch_add(1, Ordering::SeqCst);
        let guard = Dropped(Arc::clone(&self.dropped));
        let answer = (self.behaviour.lock().unwrap())(ask);
        Box::pin(async move {
            let answer = answer.await;
            std::mem::forget(guard);
            answer
        })
    }

    fn watch(&self, ear: WatchEar) -> PortFuture<Fault> {
        self.watch_calls.fetch_add(1, Ordering::SeqCst);
        if let Some(fault) = self.refuses_watch.lock().unwrap().clone() {
            return Box::pin(async { fault });
        }
        let (ends, end) = oneshot::channel();
        let WatchEar { news, acknowledged } = ear;
        self.watches.lock().unwrap().push(FakeWatch { news, acknowledged, _ends: ends });
        Box::pin(async {
            let _broken = end.await;
            fault(FaultKind::Unreachable)
        })
    }
}

/// A transport of its own for every time that the peer is dialled.
struct Dialled(Arc<FakePeer>);

impl PeerTransport for Dialled {
    fn ask(&self, ask: PeerAsk) -> PortFuture<Result<PeerAnswer, Fault>> {
        self.0.ask(ask)
    }

    fn watch(&self, ear: WatchEar) -> PortFuture<Fault> {
        self.0.watch(ear)
    }
}

/// Finds peers by name.
#[derive(Default)]
pub(crate) struct FakeDialer {
    pub(crate) peers: Mutex<HashMap<SiteName, Arc<FakePeer>>>,
    pub(crate) dialled: AtomicUsize,
    /// Serials of the certificates that were asked to be renewed, in order.
    pub(crate) renewals: Mutex<Vec<Serial>>,
    /// What each renewal fails with.
    pub(crate) refuses: Mutex<Option<Fault>>,
    /// The only sealed key that opens, if not all do.
    pub(crate) opens: Mutex<Option<Vec<u8>>>,
}

impl FakeDialer {
    pub(crate) fn of<'a>(peers: impl IntoIterator<Item = (&'a str, Arc<FakePeer>)>) -> Arc<Self> {
        let peers = peers.into_iter().map(|(name, peer)| (site(name), peer)).collect();
        Arc::new(Self { peers: Mutex::new(peers), ..Self::default() })
    }
}

impl PeerDialer for FakeDialer {
    fn transport(&self, link: &Link) -> Result<Arc<dyn PeerTransport>, Fault> {
        self.dialled.fetch_add(1, Ordering::SeqCst);
        if self.opens.lock().unwrap().as_ref().is_some_and(|opens| *opens != link.credentials.sealed_key) {
            return Err(Fault::new(FaultKind::Internal, Stage::Tls));
        }
        let peer = self.peers.lock().unwrap().get(&link.peer).cloned();
        peer.map(|peer| Arc::new(Dialled(peer)) as Arc<dyn PeerTransport>).ok_or_else(|| fault(FaultKind::Internal))
    }

    /// A day's certificate from where the old one is renewed at two thirds, with the next number as its serial.
    fn renew(&self, link: &Link, _: Instant) -> PortFuture<Result<LinkCredentials, Fault>> {
        let old = link.credentials.clone();
        self.renewals.lock().unwrap().push(old.serial.clone());
        if let Some(fault) = self.refuses.lock().unwrap().clone() {
            return Box::pin(async { Err(fault) });
        }
        let key_version = old.key_version + 1;
        let not_before = old.not_before + (old.not_after - old.not_before) * 2 / 3;
        let renewed = LinkCredentials {
            serial: Serial::from_bytes(&[u8::try_from(key_version).unwrap()]).unwrap(),
            not_before,
            not_after: not_before + time::Duration::days(1),
            key_version,
            ..old
        };
        Box::pin(async { Ok(renewed) })
    }
}

/// A question of one's own to a link, with two seconds to go.
pub(crate) fn list_ask(limit: u32) -> PeerAsk {
    PeerAsk {
        question: PeerQuestion::List { resource: resource("tasks"), limit: rows(limit), cursor: None, filter: None },
        deadline: Instant::now() + Duration::from_secs(2),
        request: RequestId::new(),
        traceparent: None,
        injected: None,
    }
}

/// Rows in `created_at` descending, `id` descending, as a database or a peer keeps them; everything belongs to `user(1)`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shelf {
    rows: Vec<(i64, String)>,
}

impl Shelf {
    pub(crate) fn insert(&mut self, second: i64, id: String) {
        let at = self.rows.partition_point(|row| *row > (second, id.clone()));
        self.rows.insert(at, (second, id));
    }

    pub(crate) fn remove(&mut self, index: usize) -> Option<String> {
        (index < self.rows.len()).then(|| self.rows.remove(index).1)
    }

    /// At most `limit` rows behind `after`, and whether there are more.
    pub(crate) fn page(&self, after: Option<(i64, &str)>, limit: usize, owner: Option<UserId>) -> Page {
        let rows = self.rows.iter().map(|(second, id)| (*second, id.as_str()));
        let mut behind: Vec<_> = rows.filter(|row| after.is_none_or(|after| *row < after)).collect();
        let more = behind.len() > limit;
        behind.truncate(limit);
        page(&behind, more, owner)
    }
}

/// Own rows on a shelf, answered at once.
#[derive(Default)]
pub(crate) struct FakeRows {
    pub(crate) shelf: Mutex<Shelf>,
    pub(crate) fails: Mutex<Option<FaultKind>>,
    /// Never answers.
    pub(crate) hangs: Mutex<bool>,
}

impl LocalRows for FakeRows {
    fn list(&self, right: ReadRight, query: ListRows, _: Instant) -> PortFuture<Result<Page, Fault>> {
        if *self.hangs.lock().unwrap() {
            return Box::pin(std::future::pending());
        }
        if let Some(kind) = *self.fails.lock().unwrap() {
            return Box::pin(async move { Err(Fault::new(kind, Stage::Database)) });
        }
        let after = query.after.as_ref().map(|after| ((after.created_at - EPOCH).whole_seconds(), after.id.as_str()));
        let page = self.shelf.lock().unwrap().page(after, query.limit.get() as usize, Some(right.subject()));
        Box::pin(async { Ok(page) })
    }

    fn get(&self, right: ReadRight, id: RowId, _: Instant) -> PortFuture<Result<Page, Fault>> {
        let shelf = self.shelf.lock().unwrap();
        let found: Vec<_> = shelf.rows.iter().filter(|row| row.1 == id.as_str()).map(|row| (row.0, &*row.1)).collect();
        let page = page(&found, false, Some(right.subject()));
        Box::pin(async { Ok(page) })
    }

    fn exists(&self, _: ReadRight, id: RowId, _: Instant) -> PortFuture<Result<bool, Fault>> {
        let found = self.shelf.lock().unwrap().rows.iter().any(|row| row.1 == id.as_str());
        Box::pin(async move { Ok(found) })
    }
}

/// Runs one case of a property test in an actix system of its own, on paused time.
pub(crate) fn on_virtual_time<T>(case: impl Future<Output = T>) -> T {
    actix::System::new().block_on(async {
        tokio::time::pause();
        case.await
    })
}

/// To the nearest ten milliseconds: tokio's timers are up to one late, also on paused time.
pub(crate) fn rounded(duration: Duration) -> Duration {
    Duration::from_millis((duration.as_millis() as u64 + 5) / 10 * 10)
}

/// Waits until `condition` holds, for at most ten seconds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
