//! What the files of bootstrap data hold once a node has written them.
//!
//! # Guarantees
//! - As much comes out as a node would get to see: of a file that is cut off or damaged, what comes before that.
//! - However much a compressed file unfolds to, no more than [`LIMIT`] is held.

use std::io::Read as _;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use flate2::read::MultiGzDecoder;

use crate::cloud_config::File;

/// What the files may come to together, in bytes. A Secret holds a megabyte, and text shrinks to a tenth when compressed.
const LIMIT: usize = 16 << 20;

/// As a node's `base64 -d` takes it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The contents of `files` as text; nothing if they come to more than [`LIMIT`].
pub(super) fn texts(files: &[File]) -> Option<Vec<String>> {
    let mut left = LIMIT;
    let mut texts = Vec::new();
    for file in files {
        let content = content(file, left + 1);
        left = left.checked_sub(content.len())?;
        texts.push(String::from_utf8_lossy(&content).into_owned());
    }
    Some(texts)
}

/// The first `most` bytes of what `file` holds.
fn content(file: &File, most: usize) -> Vec<u8> {
    if !file.encoding.base64 {
        return file.content.as_bytes().iter().copied().take(most).collect();
    }
    let decoded = decoded(&file.content);
    if !file.encoding.gzip {
        return decoded;
    }
    let mut unfolded = Vec::new();
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    // What came out before an error was written by the node, too.
    let _ = MultiGzDecoder::new(decoded.as_slice())
        .take(most)
        .read_to_end(&mut unfolded);
    unfolded
}

/// What a node's `base64 -d` writes before it stops at what is none.
fn decoded(content: &str) -> Vec<u8> {
    let packed: String = content.split_whitespace().collect();
    let is_other = |c: char| !c.is_ascii_alphanumeric() && !['+', '/', '='].contains(&c);
    let valid = packed.split(is_other).next().unwrap_or_default();
    let part = |digits: &str| {
        let whole = digits.len() - usize::from(digits.len() % 4 == 1);
        BASE64.decode(&digits[..whole]).unwrap_or_default()
    };
    valid.split('=').flat_map(part).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;
    use crate::cloud_config::Encoding;

    fn zipped(content: &[u8]) -> Vec<u8> {
        let mut zip = GzEncoder::new(Vec::new(), Compression::best());
        zip.write_all(content).unwrap();
        zip.finish().unwrap()
    }

    fn file(zipped: &[u8]) -> File {
        File {
            path: "/a".into(),
            content: BASE64.encode(zipped),
            encoding: Encoding {
                base64: true,
                gzip: true,
            },
            owner: "root:root".into(),
            permissions: "0600".into(),
            append: false,
        }
    }

    #[test]
    fn a_compressed_file_is_unfolded_as_far_as_it_goes() {
        let whole = zipped(b"one\n");
        assert_eq!(texts(&[file(&whole)]).unwrap(), ["one\n"]);
        let joined = [whole.clone(), zipped(b"two\n")].concat();
        assert_eq!(
            texts(&[file(&joined)]).unwrap(),
            ["one\ntwo\n"],
            "as gzip does it"
        );
        let damaged = [whole, b"no gzip".to_vec()].concat();
        assert_eq!(texts(&[file(&damaged)]).unwrap(), ["one\n"]);
        let secret = "a secret that stands at the beginning\n".repeat(50_000);
        let cut = &zipped(secret.as_bytes())[..1_000];
        assert!(texts(&[file(cut)]).unwrap()[0].starts_with("a secret that stands"));
    }

    #[test]
    fn base64_is_taken_off_as_far_as_it_goes() {
        for (content, text) in [
            ("YWI=", "ab"),
            ("YW\nI", "ab"),
            ("YQ==YQ==", "aa"),
            ("YWJjZA!!YWI=", "abcd"),
            ("YWJjZ", "abc"),
            ("", ""),
        ] {
            assert_eq!(decoded(content), text.as_bytes(), "{content}");
        }
    }

    #[test]
    fn files_that_unfold_without_end_are_given_up() {
        let quarter = file(&zipped(&vec![b'x'; LIMIT / 4]));
        let mut files = vec![quarter; 4];
        assert_eq!(texts(&files).unwrap().concat().len(), LIMIT);
        files.push(file(&zipped(b"x")));
        assert_eq!(texts(&files), None, "one byte more");
        assert_eq!(texts(&[file(&zipped(&vec![0; 4 * LIMIT]))]), None);
    }
}
