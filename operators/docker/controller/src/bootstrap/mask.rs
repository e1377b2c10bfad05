//! Output of a node's bootstrap, made fit for events and conditions.
//!
//! # Guarantees
//! - No line that contains a line of the bootstrap data, or of a file in it (base64 and gzip taken off), a bootstrap token,
//!   a digest, a certificate key or a PEM block comes out as it was: what matches is replaced by `[masked]`.
//! - Nor does a word of the data that looks like a secret.
//! - Where the files are too large to be looked into, nothing comes out.
//! - The result has at most the asked-for number of lines, each at most 200 characters.

mod content;
mod words;

use std::collections::BTreeSet;

use crate::cloud_config;

/// Shortest line of bootstrap data that is searched for: shorter ones are words like `true`.
const SHORTEST: usize = 12;
const LONGEST_LINE: usize = 200;
const MASK: &str = "[masked]";

/// The last `count` lines of `output` that say something, masked.
pub fn tail(output: &[String], data: &str, count: usize) -> String {
    let Some(pieces) = pieces(data) else {
        return MASK.to_owned();
    };
    let mut in_pem = false;
    let mut lines = Vec::new();
    for line in output
        .iter()
        .map(|line| line.trim_end())
        .filter(|line| !line.is_empty())
    {
        let begins = line.contains("-----BEGIN");
        if begins {
            in_pem = true;
            lines.push(MASK.to_owned());
        } else if !in_pem {
            lines.push(mask(line, &pieces));
        }
        if line.contains("-----END") {
            in_pem = false;
        }
    }
    let skip = lines.len().saturating_sub(count);
    lines.split_off(skip).join("\n")
}

/// As much of the end of `text` as has at most `budget` bytes, from the beginning of a line where there is one.
pub fn end(text: &str, budget: usize) -> &str {
    if text.len() <= budget {
        return text;
    }
    let cut = text.ceil_char_boundary(text.len() - budget);
    let rest = &text[cut..];
    match rest.find('\n') {
        _ if text[..cut].ends_with('\n') => rest,
        Some(line) => &rest[line + 1..],
        None => rest,
    }
}

/// What of the bootstrap data must not come out, the longest first: a part of it would leave the rest unmasked. Nothing if
/// that is too much to look for.
fn pieces(data: &str) -> Option<Vec<String>> {
    let config = cloud_config::parse(data, "").unwrap_or_default();
    let mut texts = content::texts(&config.files)?;
    texts.push(data.to_owned());
    let mut pieces = BTreeSet::new();
    for text in texts {
        let lines = text.lines().map(str::trim);
        pieces.extend(lines.filter(|line| line.len() >= SHORTEST).map(str::to_owned));
        pieces.extend(words::secret_looking(&text).map(str::to_owned));
    }
    let mut pieces: Vec<_> = pieces.into_iter().collect();
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.len()));
    Some(pieces)
}

fn mask(line: &str, pieces: &[String]) -> String {
    let mut masked = line.to_owned();
    for piece in pieces {
        if masked.contains(piece.as_str()) {
            masked = masked.replace(piece.as_str(), MASK);
        }
    }
    let words: Vec<_> = masked
        .split(' ')
        .map(|word| if is_secret(word) { MASK } else { word })
        .collect();
    words.join(" ").chars().take(LONGEST_LINE).collect()
}

fn is_secret(word: &str) -> bool {
    let word = word
        .rsplit(['=', '"'])
        .find(|part| !part.is_empty())
        .unwrap_or(word);
    let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '/' && c != '+');
    is_token(word) || is_digest(word) || is_blob(word)
}

/// kubeadm's bootstrap tokens: `abcdef.0123456789abcdef`.
fn is_token(word: &str) -> bool {
    word.split_once('.').is_some_and(|(id, secret)| {
        let plain = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)
    })
}

/// Certificate keys, and digests of the cluster's certificate (`sha256:…`).
fn is_digest(word: &str) -> bool {
    let digits = word.rsplit(':').next().unwrap_or(word);
    digits.len() >= 32 && digits.chars().all(|c| c.is_ascii_hexdigit())
}

fn is_blob(word: &str) -> bool {
    let base64 = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/' || c == '=';
    word.len() >= 40
        && word.chars().all(base64)
        && word.chars().any(|c| c.is_ascii_uppercase())
        && !word.starts_with('/')
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn secrets_do_not_come_out() {
        let output = lines(
            "kubeadm join 10.0.0.1:6443 --token abcdef.0123456789abcdef \\\n\t--discovery-token-ca-cert-hash sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n--certificate-key=0123456789abcdef0123456789abcdef\nset password correct horse battery\n-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----\ndata: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSURB\nerror: cannot connect to /var/run/containerd/containerd.sock after 10s",
        );
        let told = tail(&output, "x\ncorrect horse battery\n", 20);
        for secret in ["abcdef.0", "0123456789abcdef", "battery", "MIIEow", "LS0t"] {
            assert!(!told.contains(secret), "{secret} in {told}");
        }
        assert!(
            told.contains("kubeadm join 10.0.0.1:6443 --token [masked]"),
            "{told}"
        );
        assert!(
            told.contains("/var/run/containerd/containerd.sock after 10s"),
            "{told}"
        );
    }

    #[test]
    fn what_a_file_holds_does_not_come_out_whatever_its_encoding() {
        let inside = "server = db.example.com\npassword = correcthorse\nsalt Xy7battery9\n";
        let data = |encoding: &str, content: &[u8]| {
            format!(
                "#cloud-config\nwrite_files:\n- path: /a\n  encoding: {encoding}\n  content: {}\n- path: /b\n  content: |\n    token: stapler-staple\nruncmd:\n- [login, --password, hunter2hunter2]\n",
                STANDARD.encode(content)
            )
        };
        let mut zip = GzEncoder::new(Vec::new(), Compression::default());
        zip.write_all(inside.as_bytes()).unwrap();
        let zipped = zip.finish().unwrap();
        let output = lines(
            "cannot read: server = db.example.com\nlogin as correcthorse refused\nbad salt (Xy7battery9)\nsent \"stapler-staple\"\nusage: login hunter2hunter2 [flags]\n[ERROR FileAvailable--etc-kubernetes-kubelet.conf]: /etc/kubernetes/kubelet.conf already exists",
        );
        for data in [data("base64", inside.as_bytes()), data("gz+b64", &zipped)] {
            let told = tail(&output, &data, 20);
            for secret in ["db.example", "correcthorse", "battery", "staple", "hunter2"] {
                assert!(!told.contains(secret), "{secret} in {told}");
            }
            assert!(
                told.ends_with("[ERROR FileAvailable--etc-kubernetes-kubelet.conf]: /etc/kubernetes/kubelet.conf already exists"),
                "{told}"
            );
        }
    }

    #[test]
    fn of_data_that_is_too_much_to_look_for_nothing_comes_out() {
        let mut zip = GzEncoder::new(Vec::new(), Compression::fast());
        zip.write_all(&vec![0; 32 << 20]).unwrap();
        let packed = STANDARD.encode(zip.finish().unwrap());
        let data =
            format!("#cloud-config\nwrite_files:\n- {{path: /a, encoding: gzip, content: {packed}}}\n");
        assert_eq!(tail(&lines("one\ntwo"), &data, 20), MASK);
    }

    #[test]
    fn what_kubeadm_says_of_its_configuration_stays_readable() {
        let data = "#cloud-config\nwrite_files:\n- path: /run/kubeadm/kubeadm.yaml\n  content: |\n    apiVersion: kubeadm.k8s.io/v1beta4\n    kind: InitConfiguration\n    nodeRegistration:\n      name: c1-control-plane-x7k2p\n    bootstrapTokens:\n    - token: abcdef.0123456789abcdef\n      description: kubeadm bootstrap token\nruncmd: ['kubeadm init --config /run/kubeadm/kubeadm.yaml']\n";
        let line = "error: node c1-control-plane-x7k2p: /run/kubeadm/kubeadm.yaml: kubeadm.k8s.io/v1beta4 InitConfiguration: 172.18.0.5:6443 of v1.34.4 refused";
        assert_eq!(tail(&[line.to_owned()], data, 1), line);
    }

    #[test]
    fn the_end_of_a_text_begins_with_a_line_where_there_is_one() {
        assert_eq!(end("one\ntwo\nthree", 9), "two\nthree");
        assert_eq!(end("one\ntwo\nthree", 8), "three");
        assert_eq!(end("one\ntwo", 7), "one\ntwo");
        assert_eq!(end("één", 3), "én");
        assert_eq!(end("é", 1), "");
    }

    #[test]
    fn only_the_end_is_told_and_long_lines_are_cut() {
        let output: Vec<_> = (0..50)
            .map(|i| format!("line {i} {}", "x ".repeat(200)))
            .collect();
        let told = tail(&output, "", 3);
        assert!(told.starts_with("line 47") && told.lines().count() == 3);
        assert!(told.lines().all(|line| line.len() <= LONGEST_LINE));
    }
}
