//! Output of a node's bootstrap, made fit for events and conditions.
//!
//! # Guarantees
//! - No line that contains a line of the bootstrap data, a bootstrap token, a digest, a certificate key or a PEM
//!   block comes out as it was: what matches is replaced by `[masked]`.
//! - The result has at most the asked-for number of lines, each at most 200 characters.

/// Shortest piece of bootstrap data that is searched for: shorter ones are words like `true`.
const SHORTEST: usize = 12;
const LONGEST_LINE: usize = 200;
const MASK: &str = "[masked]";

/// The last `count` lines of `output` that say something, masked.
pub fn tail(output: &[String], data: &str, count: usize) -> String {
    let pieces: Vec<_> = data
        .lines()
        .map(str::trim)
        .filter(|line| line.len() >= SHORTEST)
        .collect();
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

fn mask(line: &str, pieces: &[&str]) -> String {
    let mut masked = line.to_owned();
    for piece in pieces {
        if masked.contains(piece) {
            masked = masked.replace(piece, MASK);
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
    fn only_the_end_is_told_and_long_lines_are_cut() {
        let output: Vec<_> = (0..50)
            .map(|i| format!("line {i} {}", "x ".repeat(200)))
            .collect();
        let told = tail(&output, "", 3);
        assert!(told.starts_with("line 47") && told.lines().count() == 3);
        assert!(told.lines().all(|line| line.len() <= LONGEST_LINE));
    }
}
