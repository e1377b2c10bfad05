//! The only seam to EC2.

use std::{collections::BTreeMap, future::Future};

use jiff::Timestamp;
use reconcile::fence::{Fence, LeaseLost};

use crate::{
    identity::{Identity, OPERATOR_ID, is_our_token},
    parameters::LaunchParameters,
};

/// A state of an instance, as EC2 names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InstanceState {
    /// Accepted, not booted.
    Pending,
    /// It runs.
    Running,
    /// On its way to terminated.
    ShuttingDown,
    /// Gone for good.
    Terminated,
    /// On its way to stopped.
    Stopping,
    /// At rest.
    Stopped,
}

impl InstanceState {
    /// EC2's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::ShuttingDown => "shutting-down",
            Self::Terminated => "terminated",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [
            Self::Pending,
            Self::Running,
            Self::ShuttingDown,
            Self::Terminated,
            Self::Stopping,
            Self::Stopped,
        ];
        all.into_iter().find(|state| state.as_str() == name)
    }
}

/// An instance as the cloud shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// `i-…`.
    pub id: String,
    /// Its state.
    pub state: InstanceState,
    /// Why it has this state, for a state that somebody or something brought about:
    /// `Client.UserInitiatedShutdown`.
    pub reason: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The token that it was launched with.
    pub client_token: Option<String>,
    /// Its zone.
    pub zone: Option<String>,
    /// Its address inside the VPC.
    pub private_ip: Option<String>,
    /// The subnet that it is in.
    pub subnet: Option<String>,
    /// When it was launched.
    pub launched_at: Option<Timestamp>,
}

impl Instance {
    /// The member that its tags say it is.
    pub fn identity(&self) -> Option<Identity> {
        Identity::from_tags(&self.tags)
    }

    /// Whether this operator launched it: our id in its tags and a token of ours. Tags alone can be copied.
    pub fn is_ours(&self, operator_id: &str) -> bool {
        self.tags.get(OPERATOR_ID).is_some_and(|id| id == operator_id)
            && self.client_token.as_deref().is_some_and(is_our_token)
    }

    /// Whether it is neither terminated nor about to be.
    pub fn is_live(&self) -> bool {
        !matches!(
            self.state,
            InstanceState::ShuttingDown | InstanceState::Terminated
        )
    }
}

/// What was made along with an instance and may outlive it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartKind {
    /// A volume.
    Volume,
    /// A network interface.
    Interface,
}

/// A volume or network interface that carries a cluster's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub kind: PartKind,
    /// `vol-…` or `eni-…`.
    pub id: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The instance that it is attached to.
    pub attached_to: Option<String>,
    /// The snapshot that it was made from. The data volume of a member is made from none.
    pub snapshot: Option<String>,
}

impl Part {
    /// The member that it was launched with: nothing else gives a volume or an interface a whole identity.
    pub fn identity(&self) -> Option<Identity> {
        Identity::from_tags(&self.tags)
    }
}

/// A subnet, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// `subnet-…`.
    pub id: String,
    /// Its zone.
    pub zone: String,
}

/// A call to the cloud that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{action}: {}{message}", code.as_ref().map(|code| format!("{code}: ")).unwrap_or_default())]
pub struct CloudError {
    /// The action, such as `RunInstances`.
    pub action: &'static str,
    /// EC2's error code; nothing if there was no answer.
    pub code: Option<String>,
    /// Whether the answer was that the request is at fault, and not EC2: HTTP 4xx.
    pub declined: bool,
    /// The message, without anything that differs from call to call.
    pub message: String,
}

/// The code of an answer that is of no use, because it comes from another account.
const ANOTHER_ACCOUNT: &str = "AnotherAccount";
/// The code of a call that was not sent, because the lease was lost before.
const NOT_SENT: &str = "LeaseLost";

impl CloudError {
    /// A call that is not sent, because somebody else may be acting.
    pub fn unsent(action: &'static str, lost: &LeaseLost) -> Self {
        Self {
            action,
            code: Some(NOT_SENT.to_owned()),
            declined: false,
            message: lost.to_string(),
        }
    }

    /// EC2 does not know the subnet that a cluster was launched in: what it does not show need not be gone.
    pub fn foreign(subnet: &str) -> Self {
        Self {
            action: "DescribeSubnets",
            code: Some(ANOTHER_ACCOUNT.to_owned()),
            declined: false,
            message: format!(
                "EC2 shows neither the cluster's instances nor {subnet}, the subnet that they were launched in, so that they do not count as gone: give the operator credentials of the account that they are in"
            ),
        }
    }

    /// Whether the lease was lost before the call was sent.
    pub fn is_unsent(&self) -> bool {
        self.code.as_deref() == Some(NOT_SENT)
    }

    /// Whether the cloud said that the instance does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self.code.as_deref(),
            Some("InvalidInstanceID.NotFound" | "InvalidInstanceID.Malformed")
        )
    }

    /// Whether the cloud said that the subnet does not exist.
    pub fn is_subnet_not_found(&self) -> bool {
        self.code.as_deref() == Some("InvalidSubnetID.NotFound")
    }

    /// Whether the cloud said that the volume or interface does not exist.
    pub fn is_part_not_found(&self) -> bool {
        matches!(
            self.code.as_deref(),
            Some("InvalidVolume.NotFound" | "InvalidNetworkInterfaceID.NotFound")
        )
    }

    /// Whether the cloud said that the volume or interface is attached to an instance, or about to be or no longer to be.
    pub fn is_part_in_use(&self) -> bool {
        let in_use = matches!(
            self.code.as_deref(),
            Some("VolumeInUse" | "IncorrectState" | "InvalidNetworkInterface.InUse")
        );
        in_use || self.code.as_deref() == Some("InvalidParameterValue") && self.message.contains("in use")
    }

    /// Whether an instance is protected against termination.
    pub fn is_protected(&self) -> bool {
        self.code.as_deref() == Some("OperationNotPermitted")
    }
}

/// What the operator asks of EC2.
///
/// # Assumptions about implementations
/// - A method makes one attempt; what to repeat, and when, is decided here.
/// - A call that was given up may still have taken effect.
/// - What changes something is sent only if the fence that it is given is open at that very moment, however long the
///   call has waited for its turn before; else it fails as [`CloudError::unsent`].
pub trait Instances: Send + Sync + 'static {
    /// Launches one instance with these parameters and this client token. Repeating a call with the same token and
    /// parameters returns the same instance.
    fn launch(
        &self,
        parameters: &LaunchParameters,
        token: Option<&str>,
        fence: &Fence,
    ) -> impl Future<Output = Result<Instance, CloudError>> + Send;

    /// Every instance of a region that carries our operator id, in any state, all pages. May lag.
    fn list(
        &self,
        region: &str,
        operator_id: &str,
    ) -> impl Future<Output = Result<Vec<Instance>, CloudError>> + Send;

    /// One instance by its id. May lag: an unknown id is an error ([`CloudError::is_not_found`]).
    fn get(&self, region: &str, id: &str) -> impl Future<Output = Result<Instance, CloudError>> + Send;

    /// The instances that were launched with this token, in any zone. May lag.
    fn with_token(
        &self,
        region: &str,
        token: &str,
    ) -> impl Future<Output = Result<Vec<Instance>, CloudError>> + Send;

    /// Terminates one instance. Repeating it is harmless.
    fn terminate(
        &self,
        region: &str,
        id: &str,
        fence: &Fence,
    ) -> impl Future<Output = Result<(), CloudError>> + Send;

    /// Starts one stopped instance. Repeating it is harmless.
    fn start(
        &self,
        region: &str,
        id: &str,
        fence: &Fence,
    ) -> impl Future<Output = Result<(), CloudError>> + Send;

    /// Gives instances, volumes and interfaces these tags, in place of those of the same keys. All or none.
    fn tag(
        &self,
        region: &str,
        ids: &[String],
        tags: &BTreeMap<String, String>,
        fence: &Fence,
    ) -> impl Future<Output = Result<(), CloudError>> + Send;

    /// Takes the tombstone off an instance.
    fn release(
        &self,
        region: &str,
        id: &str,
        fence: &Fence,
    ) -> impl Future<Output = Result<(), CloudError>> + Send;

    /// The volumes and network interfaces that carry our operator id and a cluster's UID, but those that are being deleted;
    /// all pages. May lag.
    fn parts(
        &self,
        region: &str,
        operator_id: &str,
        cluster_uid: &str,
    ) -> impl Future<Output = Result<Vec<Part>, CloudError>> + Send;

    /// Deletes a volume or a network interface that is attached to nothing.
    fn discard(
        &self,
        region: &str,
        part: &Part,
        fence: &Fence,
    ) -> impl Future<Output = Result<(), CloudError>> + Send;

    /// What a machine has printed on its console, as far as EC2 has it yet; nothing if it has none.
    fn console(
        &self,
        region: &str,
        id: &str,
    ) -> impl Future<Output = Result<Option<String>, CloudError>> + Send;

    /// Device names of the volumes in an image that outlive an instance of it, unless its launch says otherwise.
    fn kept_devices(
        &self,
        region: &str,
        image: &str,
    ) -> impl Future<Output = Result<Vec<String>, CloudError>> + Send;

    /// The zones of those of these subnets that there are.
    fn subnets(
        &self,
        region: &str,
        ids: &[String],
    ) -> impl Future<Output = Result<Vec<Subnet>, CloudError>> + Send;
}
