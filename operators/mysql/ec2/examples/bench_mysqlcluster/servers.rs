//! Servers that do at once what they are told, from memory.

use std::collections::HashMap;

use mysql_controller::{
    authority::{APPLICATION, Authority, REPLICATION},
    gtid::GtidSet,
    server::{Address, Change, Replication, ServerError, Servers, Survey},
};
use parking_lot::Mutex;

/// Servers by the names in their certificates.
#[derive(Default)]
pub(crate) struct Memory(Mutex<HashMap<String, Survey>>);

fn fresh(number: usize) -> Survey {
    Survey::fresh(format!("{number:08}-0000-4000-8000-000000000000"))
}

impl Servers for Memory {
    async fn survey(&self, _: &Authority, at: &Address) -> Result<Survey, ServerError> {
        let mut all = self.0.lock();
        let number = all.len();
        Ok(all
            .entry(at.name.clone())
            .or_insert_with(|| fresh(number))
            .clone())
    }

    async fn change(&self, _: &Authority, at: &Address, change: &Change) -> Result<(), ServerError> {
        let mut all = self.0.lock();
        let number = all.len();
        let server = all.entry(at.name.clone()).or_insert_with(|| fresh(number));
        match change {
            Change::CreateAccounts => {
                server.accounts = [REPLICATION, APPLICATION].map(str::to_owned).into();
            }
            Change::Sync => server.syncs = true,
            Change::Acknowledge(how) => server.acknowledgement = *how,
            Change::Open => (server.read_only, server.super_read_only) = (false, false),
            Change::Close => (server.read_only, server.super_read_only) = (true, true),
            Change::Follow(source) => {
                server.acknowledges = true;
                server.replication = Some(Replication {
                    source: source.host.clone(),
                    receives: true,
                    connected: true,
                    applies: true,
                    received: GtidSet::default(),
                    error: String::new(),
                });
                let leader = source.name.clone();
                if let Some(leader) = all.get_mut(&leader) {
                    leader.acknowledging += 1;
                }
            }
            Change::Resume(_) => server.acknowledges = true,
            Change::Lead => server.replication = None,
            Change::Resemble(_) | Change::Copy(_) | Change::Apply | Change::Detach => {}
        }
        Ok(())
    }
}
