//! After a death: every channel of the node becomes whole again, and the dead one's memory comes back.

use std::{collections::HashSet, sync::Arc};

use super::{Chain, Channel, cargo, layout};
use crate::id::{ObjectId, ProcId};
use crate::mm::{Kind, Memory};

/// What a death had left in channels.
#[derive(Debug, Default)]
pub(crate) struct Repairs {
    /// Messages that the dead had begun to receive, and that are ready again.
    pub(crate) readied: Vec<(ObjectId, u64)>,
    /// Slots that it had begun to fill.
    pub(crate) voided: u64,
    /// Blocks that it held.
    pub(crate) blocks: u64,
}

/// Mends all that `dead` had in its hands, in this order: first the rings, so that it is settled which
/// messages there are; then the blocks, of which those in messages stay; then the objects that only it had
/// open; and last everybody is woken, to see it.
///
/// To be called between `Memory::begin_recovery` and `Memory::end_recovery`. Whoever takes over from a process that died
/// in here calls it again from the start.
pub(crate) fn repair(memory: &Arc<Memory>, dead: ProcId) -> Repairs {
    let mut repairs = Repairs::default();
    let mut referenced = HashSet::new();
    // Opened, so that none ends under our hands.
    let open = |(id, _)| Channel::open(memory, id).ok();
    let channels: Vec<Channel> = memory.objects(Kind::Channel).into_iter().filter_map(open).collect();
    for channel in &channels {
        let unstuck = channel.0.ring.unstick(dead);
        mark!("channel.repair.unstuck");
        channel.count_death(dead, unstuck.voided.len());
        repairs.voided += unstuck.voided.len() as u64;
        repairs.readied.extend(unstuck.readied.into_iter().map(|position| (channel.id(), position)));
        referenced.extend(layout::pending_blocks(&channel.0.ring));
    }
    mark!("channel.repair.collected");
    cargo::sweep(memory, dead);
    repairs.blocks = memory.reclaim_blocks(dead, &referenced).blocks;
    mark!("channel.repair.reclaimed");
    memory.release_objects_of(dead).into_iter().for_each(cargo::bury);
    mark!("channel.repair.released");
    for channel in &channels {
        channel.0.shared.readers().heal();
        channel.0.shared.writers().heal();
        if let Some(tally) = channel.tally() {
            tally.settle(dead);
            tally.cell().heal();
        }
    }
    for (id, _) in memory.objects(Kind::Chain) {
        if let Ok(chain) = Chain::open(memory, id) {
            chain.mend(dead);
        }
    }
    mark!("channel.repair.healed");
    repairs
}
