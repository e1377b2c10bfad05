//! From an action's name to its answer.

use std::time::Duration;

use crate::{
    authority::Caller,
    bucket::Shape,
    error::ApiError,
    history::Moment,
    query::Params,
    world::{Estate, Limits, World},
    xml::Xml,
};

mod instances;
mod surroundings;
mod tags;

/// Whether a call changed anything, or why it was refused.
pub(crate) type Answer = Result<bool, ApiError>;

/// A call under way.
pub(crate) struct Request<'a> {
    pub(crate) action: &'a str,
    pub(crate) params: &'a Params,
    pub(crate) region: &'a str,
    pub(crate) now: Moment,
    /// The moment that this call's reads show.
    pub(crate) view: Moment,
    pub(crate) wall: &'a dyn Fn(Moment) -> String,
}

impl Request<'_> {
    /// To be called when all parameters are read and valid, before anything happens: EC2 validates first, then
    /// looks at permissions, then at `DryRun`.
    pub(crate) fn admit(&self, estate: &Estate) -> Result<(), ApiError> {
        let dry_run = self.params.flag("DryRun")?.unwrap_or(false);
        self.params.reject_unknown()?;
        estate.authority.authorize(self.action)?;
        if dry_run { Err(ApiError::dry_run()) } else { Ok(()) }
    }
}

type Handler = fn(&mut Estate, &Request<'_>, &mut Xml) -> Answer;

fn handler(action: &str) -> Option<Handler> {
    Some(match action {
        "RunInstances" => crate::launch::run,
        "DescribeInstances" => instances::describe,
        "DescribeInstanceStatus" => instances::describe_status,
        "DescribeInstanceAttribute" => instances::describe_attribute,
        "ModifyInstanceAttribute" => instances::modify_attribute,
        "StartInstances" => instances::start,
        "StopInstances" => instances::stop,
        "TerminateInstances" => instances::terminate,
        "GetConsoleOutput" => instances::console,
        "CreateTags" => tags::create,
        "DeleteTags" => tags::delete,
        "DescribeTags" => tags::describe,
        "DescribeVolumes" => crate::storage::describe_volumes,
        "DeleteVolume" => crate::storage::delete_volume,
        "DescribeNetworkInterfaces" => crate::storage::describe_interfaces,
        "DeleteNetworkInterface" => crate::storage::delete_interface,
        "DescribeSubnets" => surroundings::subnets,
        "DescribeImages" => surroundings::images,
        "DescribeSecurityGroups" => surroundings::groups,
        "DescribeAvailabilityZones" => surroundings::zones,
        _ => return None,
    })
}

impl World {
    /// Carries out one call; the answer's body and whether it changed anything.
    pub(crate) fn call(
        &self,
        caller: &Caller,
        params: &Params,
        request_id: &str,
    ) -> Result<(String, bool), ApiError> {
        let action = params.text("Action").unwrap_or_default();
        params.text("Version");
        let mut estate = self.estate.lock();
        let now = self.clock.elapsed();
        estate.authority.authenticate(caller)?;
        if !estate.account.regions.contains_key(&caller.region) {
            let message = format!("The region {} is not enabled for this account", caller.region);
            return Err(ApiError::new("AuthFailure", message));
        }
        let Some(handler) = handler(action) else {
            let message = format!("The action {action} is not valid for this web service.");
            return Err(ApiError::new("InvalidAction", message));
        };
        let shape = shape(params);
        if estate.limits == Limits::Documented && !estate.buckets.take(&caller.region, action, shape, now) {
            return Err(ApiError::throttled());
        }
        let limit = now.saturating_sub(estate.timings.token_retention);
        forget_tokens(&mut estate, limit);
        let lag: Duration = estate.lag();
        let request = Request {
            action,
            params,
            region: &caller.region,
            now,
            view: now.saturating_sub(lag),
            wall: &|moment| self.wall(moment),
        };
        let (body, answer) = Xml::response(action, request_id, |xml| handler(&mut estate, &request, xml));
        answer.map(|effective| (body, effective))
    }
}

fn forget_tokens(estate: &mut Estate, limit: Moment) {
    let Estate {
        ledger, instances, ..
    } = estate;
    ledger.forget(limit, |reservation| {
        let members = instances
            .values()
            .filter(|instance| instance.reservation == reservation);
        members
            .map(crate::instance::Instance::terminated_at)
            .max()
            .flatten()
    });
}

/// What a call takes from the token buckets.
fn shape(params: &Params) -> Shape {
    let has = |prefix: &str| params.all().keys().any(|name| name.starts_with(prefix));
    let named = params.members("InstanceId").len().max(1);
    let launched = params.all().get("MaxCount").and_then(|count| count.parse().ok());
    Shape {
        narrowed: has("Filter.") || has("MaxResults"),
        resources: launched.unwrap_or_else(|| u32::try_from(named).unwrap_or(u32::MAX)),
    }
}
