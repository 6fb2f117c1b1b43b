use std::time::Duration;

use actix::Message;
use tokio::sync::oneshot;

use crate::domain::fault::Fault;
use crate::domain::identity::LinkId;
use crate::domain::link::Link;
use crate::ports::peer_transport::{InjectedFault, PeerAnswer, PeerAsk, PeerNews};

/// Ask the peer. `caller_left` completes when nobody waits for the answer any more.
#[derive(Message)]
#[rtype(result = "Result<PeerAnswer, Fault>")]
pub(crate) struct Ask {
    pub(crate) ask: PeerAsk,
    pub(crate) caller_left: oneshot::Receiver<()>,
}

/// The link's row changed.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct UpdateLink(pub(crate) Box<Link>);

/// Fetch the capabilities anew if they may be outdated.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RefreshCapabilities;

/// Let the next call probe, and make one.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ProbeNow;

/// Make calls go wrong like this for so long; `None` ends it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Inject(pub(crate) Option<(InjectedFault, Duration)>);

/// The peer itself was heard from: if the breaker is open, probe.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct PeerSpoke;

/// Something was said on the watch that has this number.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Heard {
    pub(crate) watch: u64,
    pub(crate) news: PeerNews,
}

/// Renew the certificate now, due or not; answers when that has ended.
#[derive(Message)]
#[rtype(result = "Result<(), Fault>")]
pub(crate) struct RenewNow;

/// Refuse new asks and answer when the last one under way has ended.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Drain;

/// End the link; calls under way are dropped with it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Stop;

/// Somebody found the link's actor gone.
#[derive(Message, Debug, Clone, Copy)]
#[rtype(result = "()")]
pub(crate) struct LinkDied(pub(crate) LinkId);
