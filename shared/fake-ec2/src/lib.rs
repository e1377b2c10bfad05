//! A server of the EC2 Query protocol with EC2's semantics, for tests of software that launches machines.
//!
//! It speaks to any EC2 SDK. What it adds to a mock is what makes EC2 hard: idempotency tokens with a ledger per
//! zone, reads that lag behind writes, states that take their time, capacity that runs out, quotas, request rates,
//! permissions, and calls that take effect although their answer is lost.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use fake_ec2::{FakeEc2, Options};
//!
//! let ec2 = FakeEc2::start(&Options::default())?;
//! // … aws_sdk_ec2 with endpoint_url(ec2.endpoint()), any region of the account and any credentials …
//! assert_eq!(ec2.world().audit().len(), 0);
//! # Ok(()) }
//! ```
//!
//! # Guarantees
//! - [`World::audit`] holds every call, in the order in which calls took effect, with its outcome.
//! - The same options, faults and sequence of calls at the same moments give the same answers, ids included.
//! - Time goes through one [`reconcile::clock::Clock`]: a machine that boots in 20 s does so in 20 ms at ×1000.
//! - Nothing is accepted and ignored: a parameter that is not implemented is answered `UnknownParameter`.
//! - The server has a thread of its own and ends when dropped, its connections with it.
//!
//! # What it knows
//! RunInstances, DescribeInstances, DescribeInstanceStatus, DescribeInstanceAttribute, ModifyInstanceAttribute,
//! StartInstances, StopInstances, TerminateInstances, GetConsoleOutput, CreateTags, DeleteTags, DescribeTags,
//! DescribeVolumes, DeleteVolume, DescribeNetworkInterfaces, DeleteNetworkInterface, DescribeSubnets,
//! DescribeImages, DescribeSecurityGroups, DescribeAvailabilityZones.
//!
//! With Docker [`Machines`] boots what is launched: a container for each instance, with its address and user data.
//!
//! # Caveats
//! - Signatures are not verified; the access key and the region are read from the `Authorization` header.
//! - Spot instances, launch templates, fleets, snapshots and secondary interfaces are not implemented.
//! - Where AWS documents no number (boot time, lag) the default is a plausible one and an option.
//!
//! # Sources
//! Behaviour is taken from AWS's documentation of the EC2 API: *Ensuring idempotency* (zonal and regional tokens),
//! *Eventual consistency*, *Request throttling* (buckets), *Error codes* and *Instance lifecycle* (states; a
//! terminated instance stays visible for about an hour). Error wordings are those that EC2 was seen to answer.

mod account;
mod action;
mod audit;
mod authority;
mod bucket;
mod error;
mod faults;
mod filter;
mod history;
mod instance;
mod launch;
mod machines;
mod page;
mod query;
mod server;
mod storage;
mod tag;
mod token;
mod world;
mod xml;

pub use account::{Account, Image, ImageState, Region, SecurityGroup, Subnet};
pub use audit::{Call, Outcome};
pub use error::ApiError;
pub use faults::{Effect, Faults, ParseError};
pub use history::Moment;
pub use instance::{InstanceView, State, StateReason};
pub use machines::{LABEL, MachineError, MachineOptions, Machines};
pub use server::{FakeEc2, Options, StartError};
pub use world::{Limits, Timings, World};
