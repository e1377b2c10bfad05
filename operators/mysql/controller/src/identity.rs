//! Who a member is: in tags, in names, in client tokens.
//!
//! A member is (cluster UID, ordinal); each of its launches adds an incarnation. Names say nothing about identity:
//! people change them.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

/// Tag with the UID of the cluster.
pub const CLUSTER_UID: &str = "mysql.alx.ke/cluster-uid";
/// Tag with the number of the member.
pub const ORDINAL: &str = "mysql.alx.ke/ordinal";
/// Tag with the incarnation of the member.
pub const INCARNATION: &str = "mysql.alx.ke/incarnation";
/// Tag with the operator that an instance belongs to: two operators in one account leave each other's alone.
pub const OPERATOR_ID: &str = "mysql.alx.ke/operator-id";
/// Tag with `<namespace>/<name>` of the cluster, for people.
pub const OWNER: &str = "mysql.alx.ke/owner";

/// Tag of an instance whose cluster was deleted with its instances: the cluster's UID. It is set before the instance is
/// terminated, so that what survives the cluster all the same is known to be unwanted.
pub const TOMBSTONE: &str = "mysql.alx.ke/tombstone";

/// Tag of an instance that was to outlive its cluster: the cluster's UID. It is no orphan, and keeps the other tags so that
/// another cluster can take it over.
pub const RETAINED: &str = "mysql.alx.ke/retained";

/// Tag of an instance that was adopted: the UID of the cluster that launched it, which its server's certificate names.
pub const ORIGIN: &str = "mysql.alx.ke/origin";

/// How our client tokens begin.
const TOKEN_PREFIX: &str = "mc";
/// Length of the digest in a client token: 240 bits. With the prefix it stays below EC2's 64 characters.
const TOKEN_DIGEST: usize = 48;

/// One launch of one member.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// UID of the cluster.
    pub cluster_uid: String,
    /// Number of the member, from 0.
    pub ordinal: i32,
    /// Which launch of it, from 1.
    pub incarnation: i32,
}

impl Identity {
    /// Reads it from an instance's tags; nothing if they do not hold a whole one.
    pub fn from_tags(tags: &BTreeMap<String, String>) -> Option<Self> {
        Some(Self {
            cluster_uid: tags.get(CLUSTER_UID)?.clone(),
            ordinal: tags.get(ORDINAL)?.parse().ok()?,
            incarnation: tags.get(INCARNATION)?.parse().ok()?,
        })
    }

    /// Whether tags name this cluster as the one whose deletion the instance was to end with.
    pub fn is_entombed(&self, tags: &BTreeMap<String, String>) -> bool {
        tags.get(TOMBSTONE) == Some(&self.cluster_uid)
    }

    /// Whether tags name this cluster as the one that the instance was to outlive.
    pub fn is_retained(&self, tags: &BTreeMap<String, String>) -> bool {
        tags.get(RETAINED) == Some(&self.cluster_uid)
    }

    /// The tags that carry it.
    pub fn tags(&self) -> [(String, String); 3] {
        [
            (CLUSTER_UID.to_owned(), self.cluster_uid.clone()),
            (ORDINAL.to_owned(), self.ordinal.to_string()),
            (INCARNATION.to_owned(), self.incarnation.to_string()),
        ]
    }

    /// The client token of this launch.
    ///
    /// It follows from the identity, the subnet and the digest of the launch's parameters, so that whoever repeats
    /// the launch sends the same. The subnet is part of it because EC2 keeps tokens per zone: the same token in
    /// another zone would launch a second instance.
    pub fn token(&self, subnet: &str, params_hash: &str) -> String {
        let text = format!(
            "{}|{}|{}|{subnet}|{params_hash}",
            self.cluster_uid, self.ordinal, self.incarnation
        );
        let digest = base32(&Sha256::digest(text));
        format!("{TOKEN_PREFIX}{}", &digest[..TOKEN_DIGEST])
    }
}

/// Whether a client token has the form of ours. Tags can be copied by hand, a token cannot.
pub fn is_our_token(token: &str) -> bool {
    token.strip_prefix(TOKEN_PREFIX).is_some_and(|rest| {
        rest.len() == TOKEN_DIGEST && rest.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'))
    })
}

/// The name of a member: the cluster's and its number.
pub fn member_name(cluster: &str, ordinal: i32) -> String {
    format!("{cluster}-{ordinal}")
}

/// The name of the Secret that holds the frozen parameters of a launch. Long cluster names are cut and made unique by
/// a digest.
pub fn frozen_name(cluster: &str, ordinal: i32, incarnation: i32) -> String {
    let suffix = format!("-m{ordinal}-{incarnation}-launch");
    let limit = 253 - suffix.len();
    if cluster.len() <= limit {
        return format!("{cluster}{suffix}");
    }
    let digest = base32(&Sha256::digest(cluster));
    format!(
        "{}-{}{suffix}",
        cluster[..limit - 17].trim_end_matches(['-', '.']),
        &digest[..16]
    )
}

/// RFC 4648, lower case, without padding.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut text = String::new();
    let (mut buffer, mut bits) = (0u32, 0u32);
    for byte in bytes {
        buffer = (buffer << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(
                ALPHABET[usize::try_from((buffer >> bits) & 31).unwrap_or_default()],
            ));
        }
    }
    if bits > 0 {
        text.push(char::from(
            ALPHABET[usize::try_from((buffer << (5 - bits)) & 31).unwrap_or_default()],
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identity(ordinal: i32, incarnation: i32) -> Identity {
        Identity {
            cluster_uid: "7a5e".into(),
            ordinal,
            incarnation,
        }
    }

    #[test]
    fn base32_is_the_standards() {
        assert_eq!(base32(b"foobar"), "mzxw6ytboi");
        assert_eq!(base32(b"f"), "my");
    }

    #[test]
    fn everything_that_tells_launches_apart_is_in_the_token() {
        let token = |i: Identity, subnet, hash| i.token(subnet, hash);
        let base = token(identity(0, 1), "subnet-a", "h");
        assert_eq!(base, token(identity(0, 1), "subnet-a", "h"));
        for other in [
            token(identity(1, 1), "subnet-a", "h"),
            token(identity(0, 2), "subnet-a", "h"),
            token(identity(0, 1), "subnet-b", "h"),
            token(identity(0, 1), "subnet-a", "i"),
        ] {
            assert_ne!(base, other);
        }
        assert!(base.len() <= 64 && is_our_token(&base), "{base}");
        assert!(!is_our_token("mcabc") && !is_our_token(&base.to_uppercase()));
    }

    proptest! {
        #[test]
        fn tags_carry_the_whole_identity(uid in "[a-f0-9-]{1,36}", ordinal in 0..9, incarnation in 1..1000) {
            let identity = Identity { cluster_uid: uid, ordinal, incarnation };
            prop_assert_eq!(Identity::from_tags(&identity.tags().into()), Some(identity));
        }

        #[test]
        fn names_of_frozen_launches_fit_and_differ(name in "[a-z][a-z0-9]{0,252}", ordinal in 0..9, incarnation in 1..1000) {
            let frozen = frozen_name(&name, ordinal, incarnation);
            prop_assert!(frozen.len() <= 253);
            prop_assert_ne!(frozen, frozen_name(&name, ordinal, incarnation + 1));
        }
    }
}
