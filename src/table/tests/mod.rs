//! The table by itself, with one and with several attachments to the memory.

mod basics;
mod deaths;
mod figures;
mod past;
mod speed;

use std::sync::Arc;

use super::{Cargo, Expect, How, Plan, Table, View, Wrote};
use crate::id::ObjectId;
use crate::mm::{Memory, MemoryConfig, Object};

/// A table that one process has open, by the simplest calls.
struct Desktop {
    memory: Arc<Memory>,
    table: Option<Table>,
}

impl Desktop {
    fn new(shards: usize, limit: u64) -> Desktop {
        let memory = Memory::create(&MemoryConfig::default()).unwrap();
        Desktop::within(memory, shards, limit)
    }

    fn within(memory: Arc<Memory>, shards: usize, limit: u64) -> Desktop {
        let plan = Plan { label: 1, shards, limit, history: false, seed: 7, upper: [0; 8] };
        let table = Some(Table::create(&memory, &plan).unwrap());
        Desktop { memory, table }
    }

    /// The same table in another process, as far as the memory can tell.
    fn another(&self) -> Desktop {
        let place = self.memory.reserve_process().unwrap();
        let memory = Memory::attach(self.memory.descriptor().try_clone_to_owned().unwrap(), place).unwrap();
        let table = Some(Table::open(&memory, self.id()).unwrap());
        Desktop { memory, table }
    }

    fn table(&self) -> &Table {
        self.table.as_ref().unwrap()
    }

    fn id(&self) -> ObjectId {
        self.table().object().id()
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Wrote {
        self.put_as(key, value, &how(0)).unwrap()
    }

    fn put_as(&self, key: &[u8], value: &[u8], how: &How) -> Result<Wrote, super::TableError> {
        let key = self.table().key(key);
        let fill = |space: &mut [u8]| space.copy_from_slice(value);
        self.table().put(self.table().shard_of(&key), &key, how, value.len(), &mut Cargo::new(), fill, |_| ())
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.get_at(key, 0)
    }

    fn get_at(&self, key: &[u8], at: u32) -> Option<Vec<u8>> {
        let key = self.table().key(key);
        let shard = self.table().shard_of(&key);
        let mut value = None;
        let take = |bytes: &[u8]| value = Some(bytes.to_vec());
        self.table().get(shard, &key, View::up_to(at), &mut Cargo::new(), take).unwrap();
        value
    }

    fn remove(&self, key: &[u8]) -> bool {
        self.remove_as(key, &how(0))
    }

    fn remove_as(&self, key: &[u8], how: &How) -> bool {
        let key = self.table().key(key);
        let removed = self.table().remove(self.table().shard_of(&key), &key, how, &mut Cargo::new());
        removed.unwrap() != Wrote::Refused
    }

    fn len(&self) -> u64 {
        (0..self.table().shards()).map(|shard| self.table().tally(shard).entries).sum()
    }

    fn bytes(&self) -> u64 {
        (0..self.table().shards()).map(|shard| self.table().tally(shard).bytes).sum()
    }

    fn trim(&self) {
        (0..self.table().shards()).for_each(|shard| self.table().trim(shard));
    }

    fn in_use(&self) -> u64 {
        self.memory.heap_stats().in_use_bytes
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        if let Some(remains) = self.table.take().map(Table::into_object).and_then(Object::release) {
            super::bury(&remains);
        }
    }
}

fn how(at: u32) -> How {
    How { view: View::up_to(at), floor: at, kept: false, cargo: false, expect: Expect::Any, gate: 0 }
}
