//! What volumes hold, and what is done to them that must never be done.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// A data folder.
#[derive(Clone, Debug, Default)]
struct Folder {
    /// Nothing until it is filled.
    rows: Option<Vec<String>>,
    /// Where they are; nothing if the first operator has put them there.
    database: Option<String>,
    /// A server has had it.
    served: bool,
    /// It was never looked at: it is the first operator's.
    unseen: bool,
    /// No more rows.
    closed: bool,
    /// How often its server has started again.
    restarts: i32,
}

#[derive(Debug, Default)]
struct Contents {
    /// By UID of the claim.
    folders: HashMap<String, Folder>,
    /// By UID of the claim, in the order in which they were taken.
    backups: HashMap<String, Vec<(String, Vec<String>)>>,
    /// What must never be.
    misdeeds: Vec<String>,
    /// No data volume may go whose rows are in no backup.
    strict: bool,
    /// How often each program has run to its end.
    runs: BTreeMap<String, usize>,
}

/// The volumes of a cluster. They outlive operators and Pods.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disks(Arc<Mutex<Contents>>);

/// The end of a program: its status and its last words.
pub(crate) type End = (i32, Value);

impl Disks {
    /// The restore Job's program.
    pub(crate) fn fill(&self, data: &str, backups: &str, environment: &BTreeMap<String, String>) -> End {
        let mut contents = self.0.lock();
        *contents.runs.entry("restore".into()).or_default() += 1;
        let taken = contents.backups.get(backups).cloned().unwrap_or_default();
        let folder = contents.folders.entry(data.to_owned()).or_default();
        if folder.rows.is_some() {
            let served = folder.served && !std::mem::take(&mut folder.unseen);
            if served {
                contents
                    .misdeeds
                    .push("a restore was begun on a volume that a server has had".into());
            }
            return (0, json!({"origin": "existing"}));
        }
        let from = environment.get("FROM").filter(|id| !id.is_empty());
        let chosen = match environment["POLICY"].as_str() {
            "Never" => None,
            _ => taken
                .iter()
                .rev()
                .find(|(id, _)| from.is_none_or(|from| from == id)),
        };
        let expected = &environment["EXPECTED"];
        let is_there = expected.is_empty() || taken.iter().any(|(id, _)| id == expected);
        let wrong = environment["POLICY"] != "Never" && from.is_none() && !is_there;
        if wrong || chosen.is_none() && (environment["POLICY"] == "Required" || from.is_some()) {
            return (
                64,
                json!({"reason": "BackupMissing", "error": "there is no such backup"}),
            );
        }
        folder.database = Some(environment["DATABASE"].clone());
        folder.rows = Some(chosen.map(|(_, rows)| rows.clone()).unwrap_or_default());
        match chosen {
            Some((id, _)) => {
                let mut words = made(id);
                words["origin"] = json!("backup");
                (0, words)
            }
            None => (0, json!({"origin": "empty"})),
        }
    }

    /// The backup Job's program.
    pub(crate) fn back_up(
        &self,
        data: Option<&str>,
        backups: &str,
        environment: &BTreeMap<String, String>,
    ) -> End {
        let mut contents = self.0.lock();
        *contents.runs.entry("backup".into()).or_default() += 1;
        let folder = data.and_then(|data| contents.folders.get_mut(data));
        let Some(folder) = folder.filter(|folder| folder.served) else {
            return (
                64,
                json!({"reason": "AccessDenied", "error": "there is no server"}),
            );
        };
        if environment["FINAL"] == "yes" {
            folder.closed = true;
        }
        let is_elsewhere = folder
            .database
            .as_ref()
            .is_some_and(|database| *database != environment["DATABASE"]);
        let rows = folder.rows.clone().filter(|_| !is_elsewhere).unwrap_or_default();
        let id = environment["BACKUP_ID"].clone();
        let taken = contents.backups.entry(backups.to_owned()).or_default();
        // It is there, and but for the last one of a server that is the end of it.
        if environment["FINAL"] != "yes" && taken.iter().any(|(other, _)| *other == id) {
            return (0, made(&id));
        }
        taken.retain(|(other, _)| *other != id);
        taken.push((id.clone(), rows));
        let keep: usize = environment["KEEP"].parse().unwrap();
        let keep = keep + usize::from(environment["FINAL"] == "yes");
        let surplus = taken.len().saturating_sub(keep);
        let mut place = 0..;
        taken.retain(|(other, _)| place.next() >= Some(surplus) || *other == environment["FROM"]);
        (0, made(&id))
    }

    /// A server starts; false if its first container keeps it from that.
    pub(crate) fn serve(&self, data: &str) -> bool {
        let mut contents = self.0.lock();
        let folder = contents.folders.entry(data.to_owned()).or_default();
        let filled = folder.rows.is_some();
        folder.served |= filled;
        if !filled {
            contents
                .misdeeds
                .push("a server was started on a folder that was not filled".into());
        }
        filled
    }

    /// Data that the kind's first operator, or a person, has put there.
    pub(crate) fn put(&self, data: &str, rows: &[&str]) {
        let rows = rows.iter().map(|row| (*row).to_owned()).collect();
        let folder = Folder {
            rows: Some(rows),
            served: true,
            unseen: true,
            ..Folder::default()
        };
        self.0.lock().folders.insert(data.to_owned(), folder);
    }

    /// The server of this volume starts again: whatever has closed it is forgotten.
    pub(crate) fn restart(&self, data: &str) {
        let mut contents = self.0.lock();
        let folder = contents.folders.get_mut(data).unwrap();
        folder.closed = false;
        folder.restarts += 1;
    }

    pub(crate) fn restarts(&self, data: &str) -> i32 {
        let contents = self.0.lock();
        contents.folders.get(data).map_or(0, |folder| folder.restarts)
    }

    /// Whether the server of this volume is closed to writes.
    pub(crate) fn is_closed(&self, data: &str) -> bool {
        let contents = self.0.lock();
        contents.folders.get(data).is_some_and(|folder| folder.closed)
    }

    /// A client writes a row; false if the server is closed.
    pub(crate) fn write(&self, data: &str, row: &str) -> bool {
        let mut contents = self.0.lock();
        let folder = contents
            .folders
            .get_mut(data)
            .filter(|folder| folder.served && !folder.closed);
        let rows = folder.and_then(|folder| folder.rows.as_mut());
        rows.map(|rows| rows.push(row.to_owned())).is_some()
    }

    pub(crate) fn rows(&self, data: &str) -> Option<Vec<String>> {
        self.0.lock().folders.get(data)?.rows.clone()
    }

    pub(crate) fn backups(&self, claim: &str) -> Vec<String> {
        let contents = self.0.lock();
        let taken = contents.backups.get(claim);
        taken.into_iter().flatten().map(|(id, _)| id.clone()).collect()
    }

    /// Another volume is in the place of the one with the backups: nothing is on it.
    pub(crate) fn forget(&self, claim: &str) {
        self.0.lock().backups.remove(claim);
    }

    /// What each backup holds, the oldest first.
    pub(crate) fn contents(&self, claim: &str) -> Vec<Vec<String>> {
        let contents = self.0.lock();
        let taken = contents.backups.get(claim);
        taken
            .into_iter()
            .flatten()
            .map(|(_, rows)| rows.clone())
            .collect()
    }

    /// What the newest backup holds.
    pub(crate) fn newest(&self, claim: &str) -> Vec<String> {
        let contents = self.0.lock();
        let taken = contents.backups.get(claim).and_then(|taken| taken.last());
        taken.map(|(_, rows)| rows.clone()).unwrap_or_default()
    }

    /// From now on no data volume may go whose rows are in no backup.
    pub(crate) fn be_strict(&self) {
        self.0.lock().strict = true;
    }

    /// A volume is gone with its claim.
    pub(crate) fn lose(&self, data: &str) {
        let mut contents = self.0.lock();
        let rows = contents
            .folders
            .remove(data)
            .and_then(|folder| folder.rows)
            .unwrap_or_default();
        let safe = !contents.strict
            || rows.is_empty()
            || contents
                .backups
                .values()
                .flatten()
                .any(|(_, backup)| *backup == rows);
        if !safe {
            contents
                .misdeeds
                .push(format!("a data volume went, and {rows:?} are in no backup"));
        }
    }

    /// Notes what must never be.
    pub(crate) fn accuse(&self, what: &str) {
        self.0.lock().misdeeds.push(what.to_owned());
    }

    pub(crate) fn misdeeds(&self) -> Vec<String> {
        self.0.lock().misdeeds.clone()
    }

    pub(crate) fn runs(&self, program: &str) -> usize {
        self.0.lock().runs.get(program).copied().unwrap_or_default()
    }
}

fn made(id: &str) -> Value {
    json!({"id": id, "time": Timestamp::now().to_string(), "bytes": 42, "sha256": "00ff", "version": "9.7.4"})
}
