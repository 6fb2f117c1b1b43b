use clap::Args;

use crate::cli::context::Context;
use crate::cli::federation::status::state;
use crate::cli::names;
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};
use crate::wire::admin_v1::{InjectFaultV1, InjectableFaultV1, LinkStatusV1};

/// On the replica that answers; over by itself, or with --clear.
#[derive(Debug, Args)]
pub(crate) struct FaultArgs {
    /// The peer's name, or the link's id
    peer: String,
    /// What goes wrong
    #[arg(value_enum, required_unless_present = "clear", conflicts_with = "clear")]
    fault: Option<InjectableFaultV1>,
    /// delay: how much longer the peer takes
    #[arg(long, value_name = "MILLISECONDS")]
    delay_ms: Option<u64>,
    /// stall: bytes of an answer that come before the silence
    #[arg(long, value_name = "BYTES")]
    after_bytes: Option<u64>,
    /// Seconds until it is over by itself
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 60)]
    for_s: u64,
    /// End it now
    #[arg(long)]
    clear: bool,
    /// Whose link, when several people have one to this peer
    #[arg(long, value_name = "USER")]
    user: Option<String>,
}

impl FaultArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let node = context.admin()?;
        let link = names::link(&node, &self.peer, self.user.as_deref()).await?;
        let path = Path::admin(["links", &link.id.to_string(), "faults"]);
        let status: LinkStatusV1 = match self.fault {
            Some(fault) => {
                let (delay_ms, after_bytes) = (self.delay_ms, self.after_bytes);
                node.post(&path, &InjectFaultV1 { fault, for_s: self.for_s, delay_ms, after_bytes }).await?
            }
            None => node.delete(&path).await?,
        };
        Ok(Outcome::new(&status, format!("{}: {}\n", status.peer, state(&status.health))))
    }
}
