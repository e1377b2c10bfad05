//! What a deletion is going to take: bounds that follow from sizes alone, before anything is deleted.
//!
//! A deletion costs the item's size in KB, rounded up per item, and as much again for each index entry that it
//! removes. From the number of items and their bytes alone, both ends of that are known.

use std::ops::RangeInclusive;

use dynamodb_api::DeletionPlan;

use super::table::{Table, WriteLimit};

/// What measuring the partition found, and what follows from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Items; a lower bound if not `complete`.
    pub items: u64,
    /// Their bytes, rounded up to capacity units; a lower bound if not `complete`.
    pub bytes: u64,
    /// Whether everything was counted.
    pub complete: bool,
    /// Lower bound of the WCU.
    pub wcu_min: u64,
    /// Upper bound of the WCU, indexes included.
    pub wcu_max: u64,
    /// Lower bound of the price, in millionths of a US dollar.
    pub cost_micro_usd_min: u64,
    /// Upper bound of the price, in millionths of a US dollar, replicas included.
    pub cost_micro_usd_max: u64,
    /// Seconds at the rate that the table or the limit allows.
    pub estimated_seconds: u64,
    /// What a person should know before.
    pub warnings: Vec<String>,
}

/// List price of a million write request units, in US dollars (us-east-1, on demand), as a fraction.
const USD_PER_MILLION_WRITES: (u64, u64) = (625, 1000);
/// What a physical partition takes.
const PARTITION_WCU: u64 = 1000;
/// What a new on-demand table takes at once.
const ON_DEMAND_WCU: u64 = 4000;

impl Plan {
    /// The plan for deleting `items` items from `table`. `bytes` bounds their size: reads are charged in units, so that
    /// it is never known to the byte.
    pub fn new(
        table: &Table,
        items: u64,
        bytes: RangeInclusive<u64>,
        complete: bool,
        max_wcu: Option<u32>,
    ) -> Self {
        let (least, bytes) = bytes.into_inner();
        let kilobytes = bytes.div_ceil(1024);
        // One entry per index at most: indexes may be sparse, so the lower bound knows of none.
        let entries = 1 + u64::try_from(table.indexes.len()).unwrap_or(0);
        let wcu_min = items.max(least.div_ceil(1024));
        let wcu_max = items.saturating_add(kilobytes).saturating_mul(entries);
        let copies = 1 + u64::try_from(table.replicas).unwrap_or(0);
        let price = |wcu: u64| wcu.saturating_mul(USD_PER_MILLION_WRITES.0) / USD_PER_MILLION_WRITES.1;
        let rate = expected_rate(table, max_wcu);
        Self {
            items,
            bytes,
            complete,
            wcu_min,
            wcu_max,
            cost_micro_usd_min: price(wcu_min),
            cost_micro_usd_max: price(wcu_max).saturating_mul(copies),
            estimated_seconds: u64::midpoint(wcu_min, wcu_max).div_ceil(rate),
            warnings: warnings(table, complete),
        }
    }

    /// How many items there are in all, if they were counted whole: nothing can be a share of a lower bound.
    pub fn total(&self) -> Option<u64> {
        self.complete.then_some(self.items)
    }

    /// WCU that deleting an item of the mean size takes, in thousandths, indexes left out.
    pub fn item_wcu_milli(&self) -> u64 {
        self.bytes
            .div_ceil(self.items.max(1))
            .div_ceil(1024)
            .max(1)
            .saturating_mul(1000)
    }

    /// The plan as the status shows it.
    pub fn to_status(&self, table: &Table) -> DeletionPlan {
        let int = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        DeletionPlan {
            items: int(self.items),
            bytes: int(self.bytes),
            complete: self.complete,
            wcu_min: int(self.wcu_min),
            wcu_max: int(self.wcu_max),
            cost_micro_usd_min: int(self.cost_micro_usd_min),
            cost_micro_usd_max: int(self.cost_micro_usd_max),
            estimated_seconds: int(self.estimated_seconds),
            indexes: table.indexes.clone(),
            warnings: self.warnings.clone(),
        }
    }

    /// The plan that a status shows.
    pub fn from_status(plan: &DeletionPlan) -> Self {
        let uint = |value: i64| u64::try_from(value).unwrap_or(0);
        Self {
            items: uint(plan.items),
            bytes: uint(plan.bytes),
            complete: plan.complete,
            wcu_min: uint(plan.wcu_min),
            wcu_max: uint(plan.wcu_max),
            cost_micro_usd_min: uint(plan.cost_micro_usd_min),
            cost_micro_usd_max: uint(plan.cost_micro_usd_max),
            estimated_seconds: uint(plan.estimated_seconds),
            warnings: plan.warnings.clone(),
        }
    }
}

/// What the table takes, if nothing else bounds it.
fn of_itself(table: &Table) -> u64 {
    table.provisioned_wcu.or(table.warm_wcu).unwrap_or(ON_DEMAND_WCU)
}

/// The least of what bounds the writes besides, if that is less.
fn tightest(table: &Table) -> Option<&WriteLimit> {
    let limits = table.write_limits.iter();
    limits
        .filter(|limit| limit.wcu < of_itself(table))
        .min_by_key(|limit| limit.wcu)
}

fn expected_rate(table: &Table, max_wcu: Option<u32>) -> u64 {
    let granted = tightest(table).map_or_else(|| of_itself(table), |limit| limit.wcu);
    let granted = if table.has_local_index() {
        granted.min(PARTITION_WCU)
    } else {
        granted
    };
    max_wcu
        .map_or(granted, |limit| granted.min(u64::from(limit)))
        .max(1)
}

fn warnings(table: &Table, complete: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if !complete {
        warnings.push("the partition is so large that counting it was stopped: items, bytes and the estimates are lower bounds".to_owned());
    }
    if table.streams {
        warnings.push(
            "the table has a stream: consumers see a REMOVE record for each item, not marked as TTL"
                .to_owned(),
        );
    }
    if table.replicas > 0 {
        warnings.push(format!(
            "the table has {} replicas: each deletion is replicated and charged there too",
            table.replicas
        ));
    }
    if table.has_local_index() {
        warnings.push(
            "the table has a local index: the partition cannot be deleted faster than 1,000 WCU per second"
                .to_owned(),
        );
    }
    if let Some(WriteLimit { index, wcu }) = tightest(table) {
        warnings.push(index.as_ref().map_or_else(
            || format!("the table's on-demand maximum is {wcu} write units per second: it is not exceeded"),
            |name| format!("the global index {name} takes {wcu} write units per second: items that it holds are not deleted faster"),
        ));
    }
    let global: Vec<_> = table
        .indexes
        .iter()
        .filter(|index| !index.local)
        .map(|index| index.name.as_str())
        .collect();
    if !global.is_empty() {
        let mut names = global.join(", ");
        if names.len() > 300 {
            names = format!("{} indexes", global.len());
        }
        warnings.push(format!("each deletion also writes to the global indexes ({names}): one with too little capacity slows it down"));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use dynamodb_api::{AttributeType, IndexSummary};
    use proptest::prelude::*;

    use super::*;
    use crate::partition::table::KeyAttribute;

    fn table(indexes: usize) -> Table {
        Table {
            name: "T".into(),
            id: String::new(),
            partition_key: KeyAttribute {
                name: "pk".into(),
                kind: AttributeType::S,
            },
            sort_key: None,
            indexes: (0..indexes)
                .map(|i| IndexSummary {
                    name: format!("i{i}"),
                    local: false,
                })
                .collect(),
            streams: true,
            replicas: 1,
            provisioned_wcu: Some(500),
            warm_wcu: None,
            write_limits: Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn the_true_cost_lies_within_the_bounds(sizes in proptest::collection::vec(1u64..20_000, 0..50), indexes in 0usize..4, entries in 0u64..=4, page in 1usize..20) {
            let true_cost: u64 = sizes.iter().map(|size| size.div_ceil(1024)).sum();
            let with_indexes = true_cost * (1 + entries.min(indexes as u64));
            // As pages are charged: each rounded up to 4 KB, an empty one as well.
            let charged: u64 = sizes.chunks(page).map(|page| page.iter().sum::<u64>().div_ceil(4096).max(1) * 4096).sum();
            let pages = sizes.chunks(page).count() as u64;
            let bytes = charged.saturating_sub(4096 * pages)..=charged;
            let plan = Plan::new(&table(indexes), sizes.len() as u64, bytes, true, None);
            prop_assert!(plan.wcu_min <= true_cost);
            prop_assert!(with_indexes <= plan.wcu_max);
            prop_assert!(plan.cost_micro_usd_min <= plan.cost_micro_usd_max);
        }
    }

    #[test]
    fn the_estimate_follows_the_tightest_limit() {
        let at = |max| Plan::new(&table(0), 1000, 0..=0, true, max).estimated_seconds;
        assert_eq!(at(None), 2, "500 provisioned units");
        assert_eq!(at(Some(10)), 100);
        assert_eq!(at(Some(9999)), 2);
        assert_eq!(Plan::new(&table(0), 0, 0..=0, true, None).estimated_seconds, 0);
        let limit = |index: Option<&str>, wcu| WriteLimit {
            index: index.map(str::to_owned),
            wcu,
        };
        let bounded = |limits: &[WriteLimit], words: &str| {
            let mut table = table(0);
            table.write_limits = limits.to_vec();
            let plan = Plan::new(&table, 1000, 0..=0, true, None);
            let told = plan.warnings.iter().any(|warning| warning.contains(words));
            (plan.estimated_seconds, told)
        };
        let limits = [
            limit(None, 100),
            limit(Some("by-date"), 5),
            limit(Some("by-name"), 50),
        ];
        assert_eq!(bounded(&limits, "index by-date takes 5 write units"), (200, true));
        assert_eq!(bounded(&limits[..1], "maximum is 100 write units"), (10, true));
        let wide = [limit(Some("by-date"), 5000)];
        assert_eq!(bounded(&wide, "by-date"), (2, false), "it bounds nothing");
    }

    #[test]
    fn a_plan_survives_the_status() {
        let plan = Plan::new(&table(2), 123, 40_000..=45_678, false, None);
        assert_eq!(Plan::from_status(&plan.to_status(&table(2))), plan);
        assert_eq!(plan.warnings.len(), 4);
        assert!(plan.warnings.iter().all(|warning| warning.len() <= 512));
    }
}
