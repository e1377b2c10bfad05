//! One file in a tar archive: the form in which Docker takes and gives files of a container.
//!
//! # Caveats
//! Paths are at most 100 bytes, files at most a few megabytes: enough for configuration files, and nothing else is
//! sent this way.

const BLOCK: usize = 512;

/// An archive with one regular file; `path` is relative to where it will be unpacked.
pub fn pack(path: &str, mode: u32, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; BLOCK];
    put(&mut header, 0, path.trim_start_matches('/').as_bytes());
    put(&mut header, 100, format!("{mode:07o}").as_bytes());
    put(&mut header, 108, b"0000000");
    put(&mut header, 116, b"0000000");
    put(&mut header, 124, format!("{:011o}", content.len()).as_bytes());
    put(&mut header, 136, b"00000000000");
    header[156] = b'0';
    put(&mut header, 257, b"ustar\x0000");
    // The checksum is computed with its own field full of spaces.
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    put(&mut header, 148, format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    archive
}

fn put(header: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    for (slot, byte) in header.iter_mut().skip(at).zip(bytes) {
        *slot = *byte;
    }
}

/// The content of the first regular file in `archive`; nothing if there is none, or if it is cut off.
pub fn unpack(archive: &[u8]) -> Option<Vec<u8>> {
    let mut rest = archive;
    loop {
        let header = rest.get(..BLOCK)?;
        if header.iter().all(|byte| *byte == 0) {
            return None;
        }
        let digits = header.get(124..136)?;
        let digits = std::str::from_utf8(digits).ok()?.trim_matches(['\0', ' ']);
        let size = usize::from_str_radix(digits, 8).ok()?;
        if matches!(header[156], b'0' | 0) {
            return rest.get(BLOCK..BLOCK + size).map(<[u8]>::to_vec);
        }
        // An entry of another type, such as the extended header that precedes some files.
        rest = rest.get(BLOCK + size.next_multiple_of(BLOCK)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_again() {
        for content in [&b""[..], b"x", &[7; 512], &[8; 1300]] {
            assert_eq!(unpack(&pack("a/b", 0o644, content)).as_deref(), Some(content));
        }
        assert_eq!(unpack(&[0; 1024]), None);
        assert_eq!(unpack(&pack("a", 0o644, &[1; 600])[..700]), None);
    }

    #[test]
    fn tar_itself_can_read_it() {
        use std::io::Write as _;
        let mut tar = std::process::Command::new("tar")
            .args(["-xOf", "-", "etc/haproxy.cfg"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        tar.stdin
            .take()
            .unwrap()
            .write_all(&pack("/etc/haproxy.cfg", 0o644, b"hello"))
            .unwrap();
        let output = tar.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout, b"hello");
    }
}
