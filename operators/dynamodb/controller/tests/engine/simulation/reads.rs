//! What reading costs, and how much of it the table grants.

use serde_json::{Value, json};

use super::{Simulation, TABLE};

impl Simulation {
    /// A page of items that each cost as much to delete as the layout says.
    pub(super) fn charge(&self, mut page: Value) -> Value {
        let kilobytes = page["Count"].as_f64().unwrap() * self.0.layout.wcu;
        let units = (kilobytes / 4.0).ceil().max(1.0) / 2.0;
        self.0.state.lock().read_units.0 -= units;
        page["ConsumedCapacity"] = json!({"TableName": TABLE, "CapacityUnits": units});
        page
    }

    /// Whether the table is not in debt: what a read costs is known when it is done.
    pub(super) fn has_read_units(&self) -> bool {
        let (rate, now) = (self.0.layout.reads, self.0.origin.elapsed());
        let (units, at) = &mut self.0.state.lock().read_units;
        *units = (*units + now.saturating_sub(*at).as_secs_f64() * rate).min(rate);
        *at = now;
        *units > 0.0
    }
}
