//! Somebody else, who writes to the partition.

use std::sync::Arc;

use futures::future::BoxFuture;
use testkit::dynamodb::{Fill, faults::Hook};

use crate::bed::{Bed, VICTIM};

/// Runs what cannot move between threads on one.
pub fn aside<F: Future<Output = ()>>(work: impl FnOnce() -> F + Send + 'static) -> BoxFuture<'static, ()> {
    let runtime = tokio::runtime::Handle::current();
    Box::pin(async move {
        tokio::task::spawn_blocking(move || runtime.block_on(work()))
            .await
            .unwrap();
    })
}

/// Writes these items of the victim.
pub fn writer(bed: &Bed, items: std::ops::Range<u64>) -> Hook {
    let (server, table) = (bed.server.clone(), bed.table.clone());
    let fill = Fill::new(bed.key_type.value(VICTIM), items);
    Arc::new(move || {
        let (server, table, fill) = (server.clone(), table.clone(), fill.clone());
        aside(move || async move { server.fill(&table, &fill).await.unwrap() })
    })
}
