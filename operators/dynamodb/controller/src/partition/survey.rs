//! Measuring the partition: how many items, how many bytes, and where to cut it into ranges of about equal size.
//!
//! Both ends are read first; a partition that fits on one page is then known whole. A larger one is counted by
//! several cursors at once. Before a deletion these read keys, as long as there is room to keep them: nobody has to read
//! them again, and they say exactly where to cut. Beyond that pages are only counted. Each ends at a key, and those keys
//! are where to cut: they are true quantiles of the partition, whatever its keys look like.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dynamodb_api::RunMode;
use futures::future::try_join_all;

use super::{
    division::{Edges, Landmarks, Stretch, divide},
    error::{Failure, Problem},
    frontier::Piece,
    pause::pause,
    plan::Plan,
    range::{Bound, SortRange},
    request::{Request, Stage},
    run::{Counters, Run},
    source::{Page, PageQuery},
    stock::{Room, Stock},
};

/// Keys read from either end.
const EDGE: usize = 100;
/// What a page is rounded up to, in bytes.
const READ_UNIT: u64 = 4096;
/// Cursors that count at once.
const CURSORS: u32 = 8;
/// Pages counted at most before a deletion: half a GB, about 65,000 read units. A deletion with limits is counted until
/// these are known to be exceeded.
const PAGES: u64 = 512;
/// A range is worth its own cursor from this many WCU on: a second's work of a physical partition.
const WORTHWHILE: u64 = 1000;
/// Keys on a page that is read to be kept, at most: what parsing it takes for a moment is several times its size.
const KEPT: usize = 8192;
/// Attempts of one read, those aside for which there was no capacity.
const ATTEMPTS: u32 = 10;

/// What was measured.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) plan: Option<Plan>,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) landmarks: Landmarks,
}

/// Measures `range`, or, if the plan is known from an earlier run, only finds out where to cut.
pub(crate) async fn survey(run: &Arc<Run>, range: &SortRange) -> Result<Survey, Failure> {
    let fail = |problem: Problem| problem.into_failure(&run.request.table);
    let forwards = PageQuery {
        limit: Some(EDGE),
        ..PageQuery::of(range.clone())
    };
    let backwards = PageQuery {
        backwards: true,
        ..forwards.clone()
    };
    let (first, last) = futures::future::try_join(read(run, &forwards), read(run, &backwards))
        .await
        .map_err(fail)?;
    // Not before: who may not read is not measuring.
    run.control
        .progress
        .send_modify(|progress| progress.stage = Stage::Planning);
    let edges = |items| Edges::of(&first.keys, &last.keys, items);
    let (Some(outer), true) = (edges(u64::MAX), first.next.is_some()) else {
        return Ok(small(run, first, range));
    };
    {
        let mut alphabet = run.alphabet.lock();
        first
            .keys
            .iter()
            .chain(&last.keys)
            .for_each(|key| alphabet.learn(key));
    }
    if let Some(plan) = run.request.plan.clone() {
        run.expect_wcu_per_key(plan.item_wcu_milli());
        let left = plan
            .items
            .saturating_sub(run.request.earlier.keys_acknowledged)
            .max(WORTHWHILE);
        let edges = edges(left).unwrap_or(outer);
        let stretches = run.request.landmarks.stretches(&edges, left);
        let pieces = divide(
            &run.alphabet.lock(),
            range,
            &edges,
            stretches,
            segments(run, left),
        );
        return Ok(Survey {
            plan: Some(plan),
            pieces,
            ..Survey::default()
        });
    }
    let (stretches, bytes, complete) = count(run, range, &outer).await.map_err(fail)?;
    let items = stretches.iter().map(|stretch| stretch.items).sum();
    let plan = plan(run, items, bytes, stretches.len(), complete);
    run.expect_wcu_per_key(plan.item_wcu_milli());
    let (ranges, edges) = (segments(run, items), edges(items).unwrap_or(outer));
    // One range need not be cut.
    let landmarks = match ranges {
        1 => Landmarks::default(),
        _ => Landmarks::of(&stretches),
    };
    let pieces = divide(&run.alphabet.lock(), range, &edges, stretches, ranges);
    Ok(Survey {
        plan: Some(plan),
        pieces,
        landmarks,
    })
}

/// How long a server may take for a page before others are asked meanwhile. Real time: it is the network's.
const LONG: Duration = Duration::from_secs(1);

/// Reads a page, patiently, for as long as the run is wanted; a place among the process's reads is held only while the
/// request is under way. Lack of capacity is waited out however long it takes: who gave up would have consumed for nothing
/// what was read before, and would lack it again.
pub(crate) async fn read(run: &Run, query: &PageQuery) -> Result<Page, Problem> {
    let cancel = &run.control.cancel;
    let (mut attempt, mut refused) = (0, 0_u32);
    loop {
        let mut place = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Problem::unwanted("Query")),
            place = run.slots.reading() => place,
        };
        let page = run.source.page(query);
        tokio::pin!(page);
        let answer = if let Ok(answer) = tokio::time::timeout(LONG, &mut page).await {
            answer
        } else {
            run.slots.make_way(&mut place);
            page.await
        };
        drop(place);
        let problem = match answer {
            Ok(page) => {
                Counters::add_capacity(&run.totals.rcu_milli, page.rcu);
                return Ok(page);
            }
            Err(problem) => problem,
        };
        let row = if run.note_throttle(&problem) {
            &mut refused
        } else {
            &mut attempt
        };
        *row = row.saturating_add(1);
        let pause = pause(*row);
        if !problem.is_passing() || attempt > ATTEMPTS || run.is_interrupted() {
            return Err(problem);
        }
        tokio::select! {
            () = cancel.cancelled() => return Err(problem),
            () = run.control.clock.sleep(pause) => {}
        }
    }
}

fn small(run: &Run, page: Page, range: &SortRange) -> Survey {
    // The page may hold an item at an end that is left out; nothing is known of its size then.
    let items = u64::try_from(page.keys.len()).unwrap_or(page.count);
    let pages = if items < page.count { usize::MAX } else { 1 };
    let bytes = bytes(page.rcu);
    let plan = run
        .request
        .plan
        .clone()
        .unwrap_or_else(|| plan(run, items, bytes, pages, true));
    let mut piece = Piece::unknown(range.clone());
    if page.next.is_none() && run.request.mode == RunMode::Delete {
        piece.stock = Room::of(&run.slots, EDGE).and_then(|room| Stock::new(page.keys, None, room));
    }
    Survey {
        plan: Some(plan),
        pieces: vec![piece],
        ..Survey::default()
    }
}

/// `bytes` as charged for so many pages, each of which is rounded up.
fn plan(run: &Run, items: u64, bytes: u64, pages: usize, complete: bool) -> Plan {
    let bytes = if items == 0 { 0 } else { bytes };
    let rounded = u64::try_from(pages).unwrap_or(u64::MAX).saturating_mul(READ_UNIT);
    Plan::new(
        run.source.table(),
        items,
        bytes.saturating_sub(rounded)..=bytes,
        complete,
        *run.control.max_wcu.borrow(),
    )
}

/// An eventually consistent read unit is 8 KB of items.
fn bytes(rcu: f64) -> u64 {
    super::run::milli(rcu) * 8192 / 1000
}

/// How many ranges are worth working on at once for so many items.
pub(crate) fn segments(run: &Run, items: u64) -> u64 {
    let table = run.source.table();
    if table.sort_key.is_none() || table.has_local_index() {
        return 1;
    }
    let most = u64::try_from(run.request.tuning.max_segments).unwrap_or(1).max(1);
    let wcu = items as f64 * run.wcu_per_key();
    (super::run::milli(wcu) / 1000 / WORTHWHILE).clamp(1, most)
}

async fn count(
    run: &Arc<Run>,
    range: &SortRange,
    edges: &Edges,
) -> Result<(Vec<Stretch>, u64, bool), Problem> {
    let whole = vec![Stretch::counted(None, u64::from(CURSORS))];
    let parts = divide(&run.alphabet.lock(), range, edges, whole, u64::from(CURSORS));
    let enough = Enough::of(&run.request);
    let counts = try_join_all(parts.into_iter().map(|part| count_part(run, part.range, &enough))).await?;
    let mut stretches = Vec::new();
    let (mut rcu, mut complete) = (0.0, true);
    for (part, consumed, whole) in counts {
        stretches.extend(part);
        rcu += consumed;
        complete &= whole;
    }
    Ok((stretches, bytes(rcu), complete))
}

/// Up to where to count: a dry run is there to know everything, a deletion need not pay for it.
#[derive(Debug)]
struct Enough {
    pages_left: AtomicU64,
    items_left: AtomicU64,
}

impl Enough {
    fn of(request: &Request) -> Self {
        let limit = [request.max_items, request.max_wcu_total]
            .into_iter()
            .flatten()
            .min();
        let (pages, items) = match (request.mode, limit) {
            (RunMode::DryRun, _) => (u64::MAX, u64::MAX),
            (RunMode::Delete, None) => (PAGES, u64::MAX),
            // Each cursor may have counted one item that is not of the range. Deleting an item takes one WCU at least.
            (RunMode::Delete, Some(limit)) => (u64::MAX, limit.saturating_add(u64::from(CURSORS))),
        };
        Self {
            pages_left: AtomicU64::new(pages),
            items_left: AtomicU64::new(items),
        }
    }

    /// Takes note of another page of `items`; whether to stop after it.
    fn is_reached(&self, items: u64) -> bool {
        let take = |left: &AtomicU64, amount| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(amount)
            })
            .is_err()
        };
        take(&self.pages_left, 1) | take(&self.items_left, items)
    }
}

async fn count_part(
    run: &Run,
    range: SortRange,
    enough: &Enough,
) -> Result<(Vec<Stretch>, f64, bool), Problem> {
    let end = range.high.key().cloned();
    let mut query = PageQuery::of(range);
    let (mut stretches, mut rcu) = (Vec::new(), 0.0);
    let mut keeping = run.request.mode == RunMode::Delete && run.request.tuning.keep_keys;
    loop {
        let room = keeping.then(|| Room::of(&run.slots, KEPT)).flatten();
        // Who found no room once goes on counting: a stock begins where its range begins.
        keeping = room.is_some();
        (query.count_only, query.limit) = (!keeping, keeping.then_some(KEPT));
        let page = read(run, &query).await?;
        rcu += page.rcu;
        let (more, next) = (page.next.is_some(), page.next.clone());
        let counted = page.count;
        run.counted.fetch_add(counted, Ordering::Relaxed);
        stretches.push(Stretch::of(page, end.as_ref(), room));
        if !more {
            if let Some(last) = stretches.last_mut().filter(|_| !keeping) {
                last.items = last.items.saturating_sub(beyond(run, &query.range).await?);
            }
            return Ok((stretches, rcu, true));
        }
        if enough.is_reached(counted) || run.is_interrupted() {
            stretches.push(Stretch::counted(end, 0));
            return Ok((stretches, rcu, false));
        }
        query.after = next;
    }
}

/// How many items a count takes in that the range leaves out: a range with two ends is read with both, see
/// [`super::source`], and only who reads keys can drop the upper one again.
async fn beyond(run: &Run, range: &SortRange) -> Result<u64, Problem> {
    let (Some(_), Bound::Excluded(end)) = (range.low.key(), &range.high) else {
        return Ok(0);
    };
    let end = Bound::Included(end.clone());
    let query = PageQuery {
        count_only: true,
        ..PageQuery::of(SortRange {
            low: end.clone(),
            high: end,
        })
    };
    read(run, &query).await.map(|page| page.count)
}
