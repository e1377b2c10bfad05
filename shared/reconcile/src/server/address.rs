//! Addresses to listen on, as Go programs write them.

use std::{fmt, str::FromStr};

use super::Error;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindAddress {
    /// `0`, or nothing: nowhere.
    Disabled,
    /// `:8080`: on every interface. Port 0 (`:0`) is any free one.
    Everywhere(u16),
    /// `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`: on one address.
    Host(String, u16),
}

impl FromStr for BindAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if matches!(text, "" | "0") {
            return Ok(Self::Disabled);
        }
        let unclear = || Error::Address(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(unclear)?;
        let port = port.parse().map_err(|_| unclear())?;
        if host.is_empty() {
            return Ok(Self::Everywhere(port));
        }
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(unclear)?,
            // More than one colon without brackets: which of them begins the port?
            None if host.contains(':') => return Err(unclear()),
            None => host,
        };
        Ok(Self::Host(host.to_owned(), port))
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("0"),
            Self::Everywhere(port) => write!(f, ":{port}"),
            Self::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
        }
    }
}
