//! News of the workers on other nodes: who is lost, and how many ranks are there to work.
//!
//! Each site has one open question, which it answers when there is something. The answers come at a channel and a thread of
//! their own, since they matter also while nobody waits for results: to those who listen to events, and to tasks that wait for
//! a rank.

use std::sync::{Arc, Weak};
use std::thread;

use super::engine::Engine;
use super::message::{News, ResultHead, Status, op, split};
use super::sink::lock;
use super::sites::{CREDIT, Sites};
use crate::channel::{Channel, ChannelError};
use crate::runtime::{Event, NodeId};
use crate::time::Deadline;
use crate::wait::Patience;
use crate::wire;

/// Asks all sites, and starts the thread that listens. Without one there are no news, and everything else goes on.
pub(super) fn listen(engine: &Arc<Engine>, sites: &Sites) {
    let (channel, weak) = (sites.news.clone(), Arc::downgrade(engine));
    match thread::Builder::new().name("dragon-news".into()).spawn(move || run(&channel, &weak)) {
        Ok(_detached) => (1..=sites.list.len()).for_each(|site| ask(sites, site, 0)),
        Err(error) => tracing::error!(%error, "no thread for news of a pool's workers on other nodes"),
    }
}

/// Asks a site to say when something is new, and says how many ranks are known.
fn ask(sites: &Sites, site: usize, ranks: u64) {
    let asked = sites.session(site).ask_for(sites.news.id(), op::NEWS, &ranks.to_le_bytes(), site as u64);
    if let Err(error) = asked {
        tracing::debug!(site, %error, "a site of a pool has no more news");
    }
}

/// Until the pool is dropped, which closes the channel.
fn run(channel: &Channel, engine: &Weak<Engine>) {
    let mut patience = Patience::new();
    loop {
        let message = channel.recv_with(&mut patience, Deadline::Never, &|| false, |_, message| message.to_vec());
        let message = match message {
            Ok(message) => message,
            Err(ChannelError::Closed) => return,
            Err(error) => return tracing::error!(%error, "no more news of a pool's workers on other nodes"),
        };
        let (Some((head, rest)), Some(engine)) = (split::<ResultHead>(&message), engine.upgrade()) else { return };
        // Else the site is gone, which is said elsewhere.
        if head.failed == 0 && head.status == Status::NEWS {
            take(&engine, head.ticket.0 as usize, rest);
        }
    }
}

fn take(engine: &Engine, site: usize, news: &[u8]) {
    let Some(sites) = engine.sites.get().filter(|sites| (1..=sites.list.len()).contains(&site)) else { return };
    match wire::decode(news) {
        Ok(News::Ranks(ranks)) => {
            if let Some(load) = lock(&engine.state).flights.loads.get_mut(site) {
                (load.workers, load.most) = (ranks as usize, ranks as usize * CREDIT);
            }
            // There may be room for whoever waits for some.
            engine.count_landed();
            engine.pump();
            engine.finish_if_done();
            engine.look_again();
        }
        Ok(News::Lost { pid, how, task }) => {
            let node = NodeId::new(sites.session(site).node());
            if let Some(core) = sites.core.upgrade() {
                core.tell(Event::WorkerLost { pid, node, how, task });
            }
        }
        Err(error) => tracing::error!(%error, "news of a site of a pool that nobody understands"),
    }
    let known = lock(&engine.state).flights.loads.get(site).map_or(0, |load| load.workers);
    ask(sites, site, if sites.on_ranks { known as u64 } else { 0 });
}
