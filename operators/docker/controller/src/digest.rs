//! Short digests for names and markers; not for secrecy.

/// The 64-bit FNV-1a hash of `bytes`: stable over versions and platforms, unlike the standard library's.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Ten hexadecimal digits that depend on all of `bytes`.
pub fn short_digest(bytes: &[u8]) -> String {
    format!("{:010x}", fnv1a(bytes) & 0xff_ffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_never_changes_between_releases() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(short_digest(b"foobar"), "71f73967e8");
    }
}
