//! Words of bootstrap data that look like secrets.
//!
//! A guess, and meant as one: versions, host names, paths and kubeadm's own words stay readable, for they are what an
//! event is for.

/// Shortest word that is taken for a secret by its looks.
const SHORTEST: usize = 8;
/// Shortest value that is taken for a secret by the name before it.
const SHORTEST_VALUE: usize = 6;
/// Longest part of a name, digits and letters mixed, that is none: `k8s`, `x7k2p`.
const LONGEST_PART: usize = 5;
/// What names of secrets contain.
const NAMES: [&str; 5] = ["passw", "secret", "token", "credential", "apikey"];
/// What follows such a name without being one.
const HARMLESS: [&str; 8] = [
    "generic",
    "opaque",
    "system",
    "kubeadm",
    "kubelet",
    "default",
    "bootstrap",
    "service",
];

/// The words of `text` that look like secrets, some of them twice.
pub(super) fn secret_looking(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| {
        let mut named = false;
        words(line).filter(move |word| {
            let is_value = std::mem::replace(&mut named, is_name(word));
            (is_value && is_valuable(word)) || is_mixed(word)
        })
    })
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| c.is_whitespace() || "\"'`=:,;()[]{}<>|&".contains(c);
    line.split(ends).filter(|word| !word.is_empty())
}

fn is_name(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    NAMES.iter().any(|name| lower.contains(name))
}

fn is_valuable(word: &str) -> bool {
    word.len() >= SHORTEST_VALUE
        && !word.starts_with(['/', '-', '$'])
        && !is_name(word)
        && !HARMLESS.contains(&word.to_ascii_lowercase().as_str())
}

/// Digits and letters mixed as in no name that people choose.
fn is_mixed(word: &str) -> bool {
    let mixed = |part: &str| {
        part.len() > LONGEST_PART
            && part.contains(|c: char| c.is_ascii_digit())
            && part.contains(|c: char| c.is_ascii_alphabetic())
    };
    let version = |part: &str| part.starts_with("v1") || part.starts_with("v2");
    word.len() >= SHORTEST
        && !word.starts_with('/')
        && word
            .split(|c: char| !c.is_ascii_alphanumeric())
            .any(|part| mixed(part) && !version(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_from_names() {
        for (text, found) in [
            ("password: hunter", vec!["hunter"]),
            ("--bearer-token=abcdefgh", vec!["abcdefgh"]),
            ("DB_PASSWORD='tr0ub4dor&3'", vec!["tr0ub4dor"]),
            (
                "key 550e8400-e29b-41d4-a716-446655440000",
                vec!["550e8400-e29b-41d4-a716-446655440000"],
            ),
            ("tokenFile: /etc/token12345", vec![]),
            ("type: kubernetes.io/service-account-token kubeadm", vec![]),
            ("image: registry.k8s.io/kube-apiserver:v1.34.4", vec![]),
            ("apiVersion: kubelet.config.k8s.io/v1beta1", vec![]),
            ("name: c1-md-0-abcde-x7k2p", vec![]),
        ] {
            assert_eq!(secret_looking(text).collect::<Vec<_>>(), found, "{text}");
        }
    }
}
