//! The part of cloud-init's user data that a node needs, parsed.
//!
//! # Guarantees
//! - Files, commands and users come out in the order in which cloud-init would handle them: `bootcmd`,
//!   `write_files`, `users`, `runcmd`.
//! - What is not understood is named in [`CloudConfig::ignored`], never dropped in silence and never an error.
//! - Errors name the field and never contain a value: user data holds keys and tokens.

use serde_json::{Map, Value};

/// User data, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloudConfig {
    /// Commands to run before anything else.
    pub bootcmd: Vec<Command>,
    /// Files to write.
    pub files: Vec<File>,
    /// Users to add.
    pub users: Vec<User>,
    /// Commands to run at the end.
    pub runcmd: Vec<Command>,
    /// Modules, and keys of files and users (`users[0].uid`), that were asked for and are not supported.
    pub ignored: Vec<String>,
}

/// A command, in either of the forms that cloud-init knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Given to a shell.
    Shell(String),
    /// Executed as it stands.
    Argv(Vec<String>),
}

/// How the content of a file is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Base64, to be taken off first.
    pub base64: bool,
    /// gzip, to be taken off second.
    pub gzip: bool,
}

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Absolute path.
    pub path: String,
    /// Content as given, still encoded.
    pub content: String,
    /// How it is encoded.
    pub encoding: Encoding,
    /// `user:group`, or `user`.
    pub owner: String,
    /// Permissions in octal, such as `0644`.
    pub permissions: String,
    /// Whether the content is added to the end of the file.
    pub append: bool,
}

/// A user to add.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// The person's name, or another comment.
    pub gecos: Option<String>,
    /// The group that the user's files belong to; none for one of the user's own.
    pub primary_group: Option<String>,
    /// Further groups.
    pub groups: Vec<String>,
    /// Home directory.
    pub homedir: Option<String>,
    /// Shell.
    pub shell: Option<String>,
    /// Hashed password.
    pub passwd: Option<String>,
    /// Whether the password is of use: cloud-init locks it unless it is told not to.
    pub may_use_password: bool,
    /// Days for which the account outlives its password, or `true` for an account that cannot be used at all.
    pub inactive: Option<String>,
    /// Rules for sudoers.
    pub sudo: Vec<String>,
    /// Keys that may log in.
    pub ssh_authorized_keys: Vec<String>,
}

/// Why user data cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not YAML, or not a mapping. The parser's message is left out, for it may quote the content.
    #[error("the cloud-config is not a YAML mapping{0}; correct the bootstrap provider's template")]
    NotYaml(String),
    /// Neither the first line nor any module is a cloud-config's.
    #[error(
        "the bootstrap data is no cloud-config: it does not begin with #cloud-config, and has none of its modules; only \
         cloud-config is supported"
    )]
    NotCloudConfig,
    /// A field has another type than cloud-init expects.
    #[error("the cloud-config's {0} is malformed; correct the bootstrap provider's template")]
    Malformed(String),
}

/// Parses `text`. `hostname` replaces the instance's host name where the document is a template that asks for it.
pub fn parse(text: &str, hostname: &str) -> Result<CloudConfig, Error> {
    let text = fill_template(text, hostname);
    // As cloud-init's parser reads them: permissions are written so, often without quotes.
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let document: Value = serde_saphyr::from_str_with_options(&text, options).map_err(|error| {
        let at = error
            .location()
            .map(|l| format!(" (line {}, column {})", l.line(), l.column()));
        Error::NotYaml(at.unwrap_or_default())
    })?;
    let Value::Object(modules) = document else {
        return Err(Error::NotYaml(String::new()));
    };
    let mut config = CloudConfig::default();
    let mut unknown_modules = 0;
    for (module, value) in &modules {
        match module.as_str() {
            "bootcmd" => config.bootcmd = list(module, value, command)?,
            "write_files" => {
                config.files = list(module, value, file)?;
                config.ignored.extend(unknown(module, value, &FILE_KEYS));
            }
            "users" => {
                config.users = list(module, value, user)?.into_iter().flatten().collect();
                config.ignored.extend(unknown(module, value, &USER_KEYS));
            }
            "runcmd" => config.runcmd = list(module, value, command)?,
            other => {
                unknown_modules += 1;
                config.ignored.push(other.to_owned());
            }
        }
    }
    if unknown_modules > 0 && unknown_modules == modules.len() && !has_header(&text) {
        return Err(Error::NotCloudConfig);
    }
    Ok(config)
}

/// Whether the first line that is no template's says that this is a cloud-config.
fn has_header(text: &str) -> bool {
    let mut lines = text.trim_start().lines();
    lines
        .find(|line| !line.starts_with(TEMPLATE_HEADER) && !line.trim().is_empty())
        .is_some_and(|line| line.trim_end() == "#cloud-config")
}

/// What is understood of a file.
const FILE_KEYS: [&str; 6] = ["path", "content", "encoding", "owner", "permissions", "append"];

/// What is understood of a user: all that kubeadm's bootstrap provider writes.
const USER_KEYS: [&str; 11] = [
    "name",
    "gecos",
    "primary_group",
    "groups",
    "homedir",
    "shell",
    "passwd",
    "lock_passwd",
    "inactive",
    "sudo",
    "ssh_authorized_keys",
];

/// The keys of the entries of a list that are none of `known`.
fn unknown(module: &str, value: &Value, known: &[&str]) -> Vec<String> {
    let entries = value.as_array().into_iter().flatten().enumerate();
    let keys = entries.flat_map(|(i, entry)| {
        let keys = entry.as_object().into_iter().flat_map(Map::keys);
        keys.map(move |key| (i, key))
    });
    keys.filter(|(_, key)| !known.contains(&key.as_str()))
        .map(|(i, key)| format!("{module}[{i}].{key}"))
        .collect()
}

/// cloud-init renders a document that begins with this line as a template.
const TEMPLATE_HEADER: &str = "## template: jinja";

fn fill_template(text: &str, hostname: &str) -> String {
    if !text.trim_start().starts_with(TEMPLATE_HEADER) {
        return text.to_owned();
    }
    let mut filled = text.to_owned();
    for name in [
        "ds.meta_data.local_hostname",
        "ds.meta_data.hostname",
        "v1.local_hostname",
        "local_hostname",
    ] {
        for form in [format!("{{{{ {name} }}}}"), format!("{{{{{name}}}}}")] {
            filled = filled.replace(&form, hostname);
        }
    }
    filled
}

fn list<T>(module: &str, value: &Value, item: fn(&Value) -> Option<T>) -> Result<Vec<T>, Error> {
    let items = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(items) => items,
        _ => return Err(Error::Malformed(format!("module {module} (it must be a list)"))),
    };
    let parse = |(i, v): (usize, &Value)| item(v).ok_or_else(|| Error::Malformed(format!("{module}[{i}]")));
    items.iter().enumerate().map(parse).collect()
}

fn command(value: &Value) -> Option<Command> {
    match value {
        Value::String(line) => Some(Command::Shell(line.clone())),
        Value::Array(words) => {
            let words: Option<Vec<_>> = words.iter().map(scalar).collect();
            words.filter(|words| !words.is_empty()).map(Command::Argv)
        }
        _ => None,
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

fn text(fields: &Map<String, Value>, name: &str) -> Option<String> {
    fields.get(name).and_then(scalar)
}

fn file(value: &Value) -> Option<File> {
    let fields = value.as_object()?;
    let path = text(fields, "path")
        .map(|path| path.trim().to_owned())
        .filter(|path| !path.is_empty())?;
    let path = if path.starts_with('/') {
        path
    } else {
        format!("/{path}")
    };
    let permissions = match fields.get("permissions") {
        // YAML has read its digits as octal ones where they begin with 0.
        Some(Value::Number(number)) => format!("{:o}", number.as_u64()?),
        _ => text(fields, "permissions").unwrap_or_else(|| "0644".into()),
    };
    let octal = !permissions.is_empty()
        && permissions.len() <= 5
        && permissions.chars().all(|c| ('0'..='7').contains(&c));
    Some(File {
        path,
        content: text(fields, "content").unwrap_or_default(),
        encoding: encoding(&text(fields, "encoding").unwrap_or_default())?,
        owner: text(fields, "owner")
            .filter(|owner| !owner.is_empty())
            .unwrap_or_else(|| "root:root".into()),
        permissions: octal.then_some(permissions)?,
        append: fields.get("append").and_then(Value::as_bool).unwrap_or(false),
    })
}

fn encoding(name: &str) -> Option<Encoding> {
    let (mut base64, mut gzip) = (false, false);
    for part in name
        .trim()
        .to_ascii_lowercase()
        .split('+')
        .filter(|part| !part.is_empty())
    {
        match part {
            "b64" | "base64" => base64 = true,
            // gzip is binary, so in a YAML document it always comes within base64.
            "gz" | "gzip" => (base64, gzip) = (true, true),
            "text/plain" => {}
            _ => return None,
        }
    }
    Some(Encoding { base64, gzip })
}

/// `Some(None)` for cloud-init's word `default`, the distribution's own user, which a node does not have.
#[expect(
    clippy::option_option,
    reason = "an entry may be malformed, or well-formed and nothing to do"
)]
fn user(value: &Value) -> Option<Option<User>> {
    let fields = match value {
        Value::String(name) if name == "default" => return Some(None),
        Value::String(name) => {
            return Some(Some(User {
                name: name.clone(),
                ..User::default()
            }));
        }
        other => other.as_object()?,
    };
    let many = |name: &str| match fields.get(name) {
        Some(Value::Array(items)) => items.iter().filter_map(scalar).collect(),
        _ => Vec::from_iter(text(fields, name)),
    };
    let groups = many("groups");
    let groups = groups
        .iter()
        .flat_map(|groups| groups.split(','))
        .map(|group| group.trim().to_owned());
    let some = |text: &String| !text.is_empty();
    let mut sudo = many("sudo");
    sudo.retain(|rule| !rule.is_empty() && rule != "false");
    Some(Some(User {
        name: text(fields, "name").filter(some)?,
        gecos: text(fields, "gecos").filter(some),
        primary_group: text(fields, "primary_group").filter(some),
        groups: groups.filter(some).collect(),
        homedir: text(fields, "homedir"),
        shell: text(fields, "shell"),
        passwd: text(fields, "passwd"),
        may_use_password: text(fields, "lock_passwd").is_some_and(|lock| lock == "false"),
        inactive: text(fields, "inactive").filter(|days| !days.is_empty() && days != "false"),
        sudo,
        ssh_authorized_keys: many("ssh_authorized_keys"),
    }))
}

#[cfg(test)]
#[path = "cloud_config/tests.rs"]
mod tests;
