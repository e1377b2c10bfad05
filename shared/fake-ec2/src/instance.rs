//! An instance: its states in time, and how EC2 describes it.

mod console;
mod description;

use std::fmt;

pub(crate) use console::Console;
pub(crate) use description::{Context, describe, write_groups, write_state, write_tags};

use crate::{
    error::ApiError,
    history::{History, Moment},
    tag::{TagLog, Tags},
};

/// A state of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Accepted, not booted.
    Pending,
    /// It runs; what is on it may still be starting.
    Running,
    /// On its way to `terminated`.
    ShuttingDown,
    /// Gone for good; visible for about an hour more.
    Terminated,
    /// On its way to `stopped`.
    Stopping,
    /// At rest; its volumes exist.
    Stopped,
}

impl State {
    /// EC2's number for it.
    pub fn code(self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Running => 16,
            Self::ShuttingDown => 32,
            Self::Terminated => 48,
            Self::Stopping => 64,
            Self::Stopped => 80,
        }
    }

    /// EC2's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::ShuttingDown => "shutting-down",
            Self::Terminated => "terminated",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }

    /// Whether it is neither terminated nor about to be.
    pub fn is_live(self) -> bool {
        !matches!(self, Self::ShuttingDown | Self::Terminated)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why an instance changed its state, as EC2 reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateReason {
    /// Such as `Client.UserInitiatedShutdown`.
    pub code: String,
    /// In words.
    pub message: String,
}

impl StateReason {
    /// A reason whose message repeats its code, as EC2's do.
    pub fn new(code: &str, message: &str) -> Self {
        Self {
            code: code.to_owned(),
            message: format!("{code}: {message}"),
        }
    }

    pub(crate) fn by_user() -> Self {
        Self::new("Client.UserInitiatedShutdown", "User initiated shutdown")
    }
}

/// A state together with its reason.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    pub(crate) state: State,
    pub(crate) reason: Option<StateReason>,
}

/// What a launch asked for and what never changes afterwards.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) image: String,
    pub(crate) kind: String,
    pub(crate) vcpus: u32,
    pub(crate) architecture: String,
    pub(crate) region: String,
    pub(crate) zone: String,
    pub(crate) subnet: String,
    pub(crate) vpc: String,
    pub(crate) groups: Vec<(String, String)>,
    pub(crate) key: Option<String>,
    pub(crate) profile: Option<String>,
    pub(crate) user_data: Option<String>,
    pub(crate) client_token: Option<String>,
    pub(crate) root_device: String,
    pub(crate) http_tokens: String,
    pub(crate) hop_limit: u32,
    pub(crate) ebs_optimized: bool,
    pub(crate) monitoring: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) id: String,
    pub(crate) reservation: String,
    pub(crate) index: u32,
    pub(crate) launched: Moment,
    pub(crate) shape: Shape,
    pub(crate) address: String,
    pub(crate) phases: History<Phase>,
    pub(crate) tags: TagLog,
    pub(crate) protected: bool,
    pub(crate) shutdown_behavior: String,
    /// Device name, volume, whether it goes with the instance.
    pub(crate) devices: Vec<(String, String, bool)>,
    pub(crate) interface: String,
    pub(crate) impaired: bool,
    pub(crate) console: Console,
}

/// An instance as the world's owner sees it: no lag, no permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceView {
    /// `i-…`.
    pub id: String,
    /// Its region.
    pub region: String,
    /// Its zone.
    pub zone: String,
    /// Its state now.
    pub state: State,
    /// Its tags now.
    pub tags: Tags,
    /// The token that it was launched with.
    pub client_token: Option<String>,
    /// Its private address.
    pub address: String,
    /// When it was launched.
    pub launched: Moment,
    /// When it first ran, or will.
    pub running: Option<Moment>,
    /// When it was, or will be, terminated, if that is decided.
    pub terminated: Option<Moment>,
    /// Its user data, decoded.
    pub user_data: Option<Vec<u8>>,
}

impl Instance {
    pub(crate) fn state(&self, at: Moment) -> State {
        self.phases.at(at).state
    }

    /// When it was, or will be, terminated.
    pub(crate) fn terminated_at(&self) -> Option<Moment> {
        self.phases.first(|phase| phase.state == State::Terminated)
    }

    /// Changes state now and, after a while, once more.
    pub(crate) fn transit(
        &mut self,
        now: Moment,
        passing: State,
        after: Moment,
        last: State,
        reason: &StateReason,
    ) {
        self.phases.cancel(now);
        let phase = |state| Phase {
            state,
            reason: Some(reason.clone()),
        };
        self.phases.push(now, phase(passing));
        self.phases.push(now + after, phase(last));
    }

    /// The values of a filter's field; what is terminated has lost most of them.
    pub(crate) fn field(&self, name: &str, at: Moment) -> Vec<String> {
        let state = self.state(at);
        let alive = state != State::Terminated;
        let one = |text: &str| vec![text.to_owned()];
        match name {
            "instance-id" => one(&self.id),
            "instance-state-name" => one(state.name()),
            "instance-state-code" => vec![state.code().to_string()],
            "client-token" => self.shape.client_token.clone().into_iter().collect(),
            "availability-zone" => one(&self.shape.zone),
            "image-id" => one(&self.shape.image),
            "instance-type" => one(&self.shape.kind),
            "key-name" => self.shape.key.clone().into_iter().collect(),
            "reservation-id" => one(&self.reservation),
            "subnet-id" if alive => one(&self.shape.subnet),
            "vpc-id" if alive => one(&self.shape.vpc),
            "private-ip-address" if alive => one(&self.address),
            "instance.group-id" if alive => self.shape.groups.iter().map(|(id, _)| id.clone()).collect(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn view(&self, now: Moment) -> InstanceView {
        use base64::{Engine as _, prelude::BASE64_STANDARD};
        InstanceView {
            id: self.id.clone(),
            region: self.shape.region.clone(),
            zone: self.shape.zone.clone(),
            state: self.state(now),
            tags: self.tags.at(now).clone(),
            client_token: self.shape.client_token.clone(),
            address: self.address.clone(),
            launched: self.launched,
            running: self.phases.first(|phase| phase.state == State::Running),
            terminated: self.terminated_at(),
            user_data: self
                .shape
                .user_data
                .as_ref()
                .and_then(|text| BASE64_STANDARD.decode(text).ok()),
        }
    }
}

/// The names of the filters that [`Instance::field`] knows.
pub(crate) const FILTERS: &[&str] = &[
    "instance-id",
    "instance-state-name",
    "instance-state-code",
    "client-token",
    "availability-zone",
    "image-id",
    "instance-type",
    "key-name",
    "reservation-id",
    "subnet-id",
    "vpc-id",
    "private-ip-address",
    "instance.group-id",
];

/// Fails for what cannot be an instance's id.
pub(crate) fn well_formed(id: &str) -> Result<(), ApiError> {
    if is_id(id, "i-") {
        return Ok(());
    }
    let message = format!("Invalid id: \"{id}\"");
    Err(ApiError::new("InvalidInstanceID.Malformed", message))
}

/// Whether `id` is the prefix and 8 or 17 hexadecimal digits.
pub(crate) fn is_id(id: &str, prefix: &str) -> bool {
    id.strip_prefix(prefix)
        .is_some_and(|rest| matches!(rest.len(), 8 | 17) && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The error for ids that nobody knows.
pub(crate) fn not_found(ids: &[&str]) -> ApiError {
    let message = match ids {
        [id] => format!("The instance ID '{id}' does not exist"),
        ids => format!("The instance IDs '{}' do not exist", ids.join(", ")),
    };
    ApiError::new("InvalidInstanceID.NotFound", message)
}
