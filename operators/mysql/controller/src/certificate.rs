//! A member's certificate: made by itself when it first boots, read from its console, pinned.
//!
//! The console is the one channel that nobody but the machine and EC2 can write to. What was read once stays the only
//! thing that is trusted for that instance.

use base64::{Engine as _, prelude::BASE64_STANDARD};

/// What stands before a certificate on the console.
const BEGIN: &str = "MEMBER-CERTIFICATE-BEGIN";
/// What stands after it.
const END: &str = "MEMBER-CERTIFICATE-END";
/// More is no certificate of ours.
const LARGEST: usize = 4096;

/// The certificate that `member` has printed, as PEM; nothing if there is none that is whole. The last one counts:
/// it is printed anew at each boot, and stays the same.
pub fn on_console(console: &str, member: &str) -> Option<String> {
    let printed = console.split(BEGIN).skip(1).filter_map(|rest| {
        let (printed, _) = rest.split_once(END)?;
        let (name, body) = printed.trim().split_once(char::is_whitespace)?;
        let body: String = body.split_whitespace().collect();
        let sound = name == member
            && body.len() <= LARGEST
            && BASE64_STANDARD.decode(&body).is_ok_and(|der| is_der(&der));
        sound.then_some(body)
    });
    printed.last().map(|body| pem(&body))
}

/// Whether this is one ASN.1 sequence and nothing else.
fn is_der(bytes: &[u8]) -> bool {
    match bytes {
        [0x30, 0x82, high, low, rest @ ..] => rest.len() == usize::from(*high) << 8 | usize::from(*low),
        [0x30, 0x81, length, rest @ ..] => rest.len() == usize::from(*length),
        _ => false,
    }
}

fn pem(body: &str) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(member: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![member.to_owned()]).unwrap();
        let der = params.self_signed(&key).unwrap();
        let body = BASE64_STANDARD.encode(der.der());
        (format!("\r\n{BEGIN} {member} {body} {END}\r\n"), body)
    }

    #[test]
    fn it_is_found_between_whatever_else_a_machine_prints() {
        let (line, body) = printed("orders-0");
        let console = format!("[  1.0] Linux\r\n{BEGIN} orders-0 trunc{line}[ OK ] Started MySQL.\r\n");
        let found = on_console(&console, "orders-0").unwrap();
        assert_eq!(
            found
                .lines()
                .filter(|line| !line.starts_with('-'))
                .collect::<String>(),
            body
        );
        assert!(found.lines().all(|line| line.len() <= 64));
    }

    #[test]
    fn neither_anothers_nor_a_broken_one_counts() {
        let (line, body) = printed("orders-1");
        assert_eq!(on_console(&line, "orders-0"), None);
        assert_eq!(on_console("", "orders-0"), None);
        assert_eq!(
            on_console(&format!("{BEGIN} orders-0 {}", &body[..40]), "orders-0"),
            None
        );
        assert_eq!(
            on_console(&format!("{BEGIN} orders-0 {} {END}", &body[..40]), "orders-0"),
            None
        );
        assert_eq!(
            on_console(&format!("{BEGIN} orders-0 {body}AAAA {END}"), "orders-0"),
            None
        );
    }

    #[test]
    fn the_last_whole_one_counts() {
        let ((first, _), (second, body)) = (printed("orders-0"), printed("orders-0"));
        let found = on_console(&format!("{first}{second}{BEGIN} orders-0 MII"), "orders-0").unwrap();
        assert_eq!(
            found
                .lines()
                .filter(|line| !line.starts_with('-'))
                .collect::<String>(),
            body
        );
    }
}
