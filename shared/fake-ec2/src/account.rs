//! What an AWS account holds before anybody launches anything: regions, subnets, images, groups, keys, profiles.

use std::collections::{BTreeMap, BTreeSet};

/// Whether an image can be launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageState {
    /// It can.
    Available,
    /// It is still being registered.
    Pending,
}

/// A machine image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// `ami-…`.
    pub id: String,
    /// Whether it can be launched.
    pub state: ImageState,
    /// `x86_64` or `arm64`.
    pub architecture: String,
    /// Device name of its root volume.
    pub root_device: String,
    /// Size of its root volume in GiB; a launch cannot make it smaller.
    pub root_size: u32,
    /// Whether instances leave their root volume behind, unless their launch says otherwise: the image was registered with
    /// `DeleteOnTermination` false for it.
    pub keeps_root: bool,
}

impl Image {
    /// The snapshot that its root volume is made from.
    pub fn snapshot(&self) -> String {
        self.id.replacen("ami-", "snap-", 1)
    }
}

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// `subnet-…`.
    pub id: String,
    /// Its zone, such as `us-east-1a`.
    pub zone: String,
    /// Its VPC.
    pub vpc: String,
    /// The first three numbers of its addresses, such as `10.0.1`; it is a /24.
    pub prefix: String,
}

/// A security group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroup {
    /// `sg-…`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its VPC.
    pub vpc: String,
}

/// One region of the account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// Its zones.
    pub zones: Vec<String>,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
    /// Its images, shared ones included.
    pub images: Vec<Image>,
    /// Its security groups.
    pub groups: Vec<SecurityGroup>,
    /// Names of its key pairs.
    pub keys: BTreeSet<String>,
}

/// An AWS account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The account's number.
    pub id: String,
    /// Its regions by name.
    pub regions: BTreeMap<String, Region>,
    /// Names of its instance profiles.
    pub profiles: BTreeSet<String>,
    /// Instance types with their vCPUs and architecture.
    pub types: BTreeMap<String, (u32, String)>,
}

impl Account {
    /// An account without regions.
    pub fn empty() -> Self {
        let kinds = [
            ("t2.micro", 1, "x86_64"),
            ("t3.micro", 2, "x86_64"),
            ("t3.small", 2, "x86_64"),
            ("t3.medium", 2, "x86_64"),
            ("t3.large", 2, "x86_64"),
            ("m5.large", 2, "x86_64"),
            ("m5.xlarge", 4, "x86_64"),
            ("r5.large", 2, "x86_64"),
            ("r6g.large", 2, "arm64"),
            ("r6g.xlarge", 4, "arm64"),
        ];
        Self {
            id: "123456789012".into(),
            regions: BTreeMap::new(),
            profiles: BTreeSet::new(),
            types: kinds
                .map(|(name, vcpus, architecture)| (name.into(), (vcpus, architecture.into())))
                .into(),
        }
    }

    /// The account with all of its subnets in `10.<number>.0.0/16`: accounts beside one another have different ones.
    #[must_use]
    pub fn within(mut self, number: u8) -> Self {
        let subnets = self.regions.values_mut().flat_map(|region| &mut region.subnets);
        for (third, subnet) in (0u8..).zip(subnets) {
            subnet.prefix = format!("10.{number}.{third}");
        }
        self
    }

    /// Adds a region with zones `a`, `b` and `c`. Each has a subnet whose id is `subnet-` and the eight digits of
    /// `digits` with the last one counted up; `sg-<digits>` and `ami` exist.
    #[must_use]
    pub fn with_region(mut self, name: &str, digits: &str, ami: &str) -> Self {
        let vpc = format!("vpc-{digits}");
        let number = u32::from_str_radix(digits, 16).unwrap_or_default();
        let octet = self.regions.len();
        let zones: Vec<String> = ["a", "b", "c"].map(|letter| format!("{name}{letter}")).into();
        let subnets = (0u32..)
            .zip(&zones)
            .map(|(index, zone)| Subnet {
                id: format!("subnet-{:08x}", number.wrapping_add(index)),
                zone: zone.clone(),
                vpc: vpc.clone(),
                prefix: format!("10.{octet}.{index}"),
            })
            .collect();
        let region = Region {
            zones,
            subnets,
            images: vec![Image {
                id: ami.into(),
                state: ImageState::Available,
                architecture: "x86_64".into(),
                root_device: "/dev/xvda".into(),
                root_size: 8,
                keeps_root: false,
            }],
            groups: vec![SecurityGroup {
                id: format!("sg-{digits}"),
                name: "mysql".into(),
                vpc,
            }],
            keys: BTreeSet::from(["ops".to_owned()]),
        };
        self.regions.insert(name.into(), region);
        self
    }
}

impl Default for Account {
    /// us-east-1 with `ami-0c02fb55956c7d316`, `subnet-12345678` to `-1234567a` and `sg-12345678`; eu-west-1 with
    /// `ami-0e1111aaaa2222bbb`, `subnet-22345678` and following; the instance profile `mysql`; the key pair `ops`.
    fn default() -> Self {
        let mut account = Self::empty()
            .with_region("us-east-1", "12345678", "ami-0c02fb55956c7d316")
            .with_region("eu-west-1", "22345678", "ami-0e1111aaaa2222bbb");
        account.profiles.insert("mysql".into());
        account
    }
}
