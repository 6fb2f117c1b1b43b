//! What a hop to an actor costs: a message and its answer, by a mailbox of the same thread and of another one.

use std::sync::mpsc;

use actix::{Actor, Addr, Context, Handler, Message};
use tokio::time::Instant;

use crate::Effort;
use crate::case::{Row, Target as Promise};

struct Echo;

#[derive(Message)]
#[rtype(result = "u64")]
struct Say(u64);

impl Actor for Echo {
    type Context = Context<Self>;
}

impl Handler<Say> for Echo {
    type Result = u64;

    fn handle(&mut self, Say(number): Say, _: &mut Self::Context) -> u64 {
        number
    }
}

pub(crate) async fn hops(effort: Effort) -> Vec<Row> {
    let count = effort.pick(20_000, 200_000);
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        actix::System::new().block_on(async {
            let actor = Echo.start();
            let near = micros(&actor, count).await;
            tell.send((actor, near)).expect("whoever started it waits");
            std::future::pending::<()>().await;
        });
    });
    let (actor, near) = told.recv().expect("the actor's thread measures");
    let far = micros(&actor, count).await;
    vec![
        Row::alone("hop_same_thread", near, "µs", Promise::None).with_note("a message to an actor and its answer"),
        Row::alone("hop_other_thread", far, "µs", Promise::None)
            .with_note("the same, nothing else waiting: two wake-ups"),
    ]
}

/// Of one message after the other.
async fn micros(actor: &Addr<Echo>, count: u64) -> f64 {
    let start = Instant::now();
    for number in 0..count {
        assert_eq!(actor.send(Say(number)).await.expect("the actor lives"), number);
    }
    start.elapsed().as_secs_f64() * 1e6 / count as f64
}
