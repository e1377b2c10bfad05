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
/// What begins a line of the setup's on the console.
const SETUP: &str = "mysql-member: ";
/// What the setup says where mysqld refuses my.cnf.
const REFUSED: &str = "mysqld refuses its options: ";
/// So much of a line is repeated.
const LONGEST_LINE: usize = 200;

/// Why a machine has not become a member, by its own word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// mysqld refuses the options that it was given; what it says.
    Options(String),
    /// The setup did not come to its end; what it says.
    Setup(String),
}

/// What the setup of a member has complained about on its console, if it has; the last counts. Whoever has printed a
/// certificate has nothing to complain about.
pub fn complaint(console: &str) -> Option<Complaint> {
    let said = console.lines().filter_map(|line| {
        let text: String = line
            .trim()
            .strip_prefix(SETUP)?
            .chars()
            .take(LONGEST_LINE)
            .collect();
        let text = text.replace(char::is_control, "");
        (!text.starts_with("setting up ")).then_some(text)
    });
    let mut last = None;
    for text in said {
        match text.strip_prefix(REFUSED) {
            Some(refusal) => last = Some(Complaint::Options(refusal.to_owned())),
            // That it failed follows on why.
            None if text.starts_with("the setup failed") && last.is_some() => {}
            None => last = Some(Complaint::Setup(text)),
        }
    }
    last
}

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

    #[test]
    fn why_a_machine_did_not_become_a_member_is_read_from_its_console() {
        let options = "[ OK ] boot\r\nmysql-member: setting up c-0\r\nmysql-member: mysqld refuses its options: unknown variable 'x=1'.\r\nmysql-member: the setup failed with status 1\r\n";
        let said = "unknown variable 'x=1'.".to_owned();
        assert_eq!(complaint(options), Some(Complaint::Options(said)));
        let disk = "mysql-member: /dev/sdf has data and no file system: it is left alone\nmysql-member: the setup failed with status 1\n";
        let said = "/dev/sdf has data and no file system: it is left alone".to_owned();
        assert_eq!(complaint(disk), Some(Complaint::Setup(said)));
        let bare = "mysql-member: the setup failed with status 127\n";
        assert!(matches!(complaint(bare), Some(Complaint::Setup(text)) if text.ends_with("127")));
        assert_eq!(complaint("mysql-member: setting up c-0\nlogin: "), None);
    }

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
