//! What survives the operator: the ledger and the frozen parameters, as an API server keeps them.

use std::{collections::BTreeMap, sync::Arc};

use mysql_api::cluster::{Launch, LaunchPhase};
use mysql_controller::{ledger::Ledger, parameters::Frozen, records::Records};
use parking_lot::Mutex;
use reconcile::{Class, ReconcileError};

use crate::chance::Chance;

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Broken(&'static str);

impl ReconcileError for Broken {
    fn class(&self) -> Class {
        Class::Transient
    }

    fn reason(&self) -> &'static str {
        "Broken"
    }
}

#[derive(Default)]
struct Pages {
    ledger: Vec<Launch>,
    frozen: BTreeMap<(i32, i32), Vec<u8>>,
}

/// The records of one cluster. Clones are the same.
#[derive(Clone)]
pub(crate) struct Notebook {
    pages: Arc<Mutex<Pages>>,
    chance: Chance,
}

impl Notebook {
    pub(crate) fn new(chance: Chance) -> Self {
        Self {
            pages: Arc::default(),
            chance,
        }
    }

    pub(crate) fn ledger(&self) -> Ledger {
        Ledger::new(self.pages.lock().ledger.clone())
    }

    /// Another version of the operator has decided the last launch of a member, and kept its parameters in other words.
    pub(crate) fn rewrite(&self, ordinal: i32, word: &str) {
        let mut pages = self.pages.lock();
        let Pages { ledger, frozen } = &mut *pages;
        let launch = ledger
            .iter_mut()
            .find(|launch| launch.ordinal == ordinal)
            .unwrap();
        let kept = frozen.get_mut(&(ordinal, launch.incarnation)).unwrap();
        let mut text: serde_json::Value = serde_json::from_slice(kept).unwrap();
        text[word] = true.into();
        *kept = serde_json::to_vec(&text).unwrap();
        launch.params_hash = Frozen::read(kept.clone()).unwrap().digest();
    }

    /// Somebody removes what a launch is repeated with.
    pub(crate) fn lose(&self, ordinal: i32, incarnation: i32) {
        let lost = self.pages.lock().frozen.remove(&(ordinal, incarnation));
        assert!(lost.is_some(), "it was not there");
    }

    /// Whether a launch with this token was recorded and is not over.
    pub(crate) fn is_decided(&self, token: &str) -> bool {
        let pages = self.pages.lock();
        pages
            .ledger
            .iter()
            .any(|launch| launch.token == token && launch.phase != LaunchPhase::Over)
    }
}

impl Records for Notebook {
    type Error = Broken;

    async fn freeze(&self, ordinal: i32, incarnation: i32, wanted: &Frozen) -> Result<Frozen, Broken> {
        let kept = self.chance.request(|| {
            let mut pages = self.pages.lock();
            pages
                .frozen
                .entry((ordinal, incarnation))
                .or_insert_with(|| wanted.bytes().to_vec())
                .clone()
        });
        Ok(Frozen::read(kept.await.map_err(Broken)?).unwrap())
    }

    async fn frozen(&self, ordinal: i32, incarnation: i32) -> Result<Option<Frozen>, Broken> {
        let found = self
            .chance
            .request(|| self.pages.lock().frozen.get(&(ordinal, incarnation)).cloned());
        let found = found.await.map_err(Broken)?;
        Ok(found.map(|kept| Frozen::read(kept).unwrap()))
    }

    async fn discard(&self, ordinal: i32, incarnation: i32) -> Result<(), Broken> {
        let gone = self.chance.request(|| {
            let mut pages = self.pages.lock();
            let kept = |launch: &Launch| {
                (launch.ordinal, launch.incarnation) == (ordinal, incarnation)
                    && launch.phase != LaunchPhase::Over
            };
            assert!(
                !pages.ledger.iter().any(kept),
                "what a launch is repeated with is discarded"
            );
            pages.frozen.remove(&(ordinal, incarnation));
        });
        gone.await.map_err(Broken)
    }

    async fn write(&self, ledger: &Ledger) -> Result<(), Broken> {
        let written = self.chance.request(|| {
            let mut pages = self.pages.lock();
            pages.ledger = ledger.entries().to_vec();
        });
        written.await.map_err(Broken)
    }
}
