//! MySQL servers over SQL and TLS.
//!
//! # Guarantees
//! - The pinned certificate is the only root of trust, and the member's name must be in it.
//! - The operator authenticates with its client certificate; it has no password that could be sent to a wrong server.
//! - A call ends within [`PATIENCE`], and one to a host that is gone within [`CONNECTING`]. Statements and passwords appear in no error.

mod statement;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use mysql_async::{ClientIdentity, Conn, Opts, OptsBuilder, Row, SslOpts, prelude::Queryable as _};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use self::statement::{literal, statements};
use crate::{
    authority::{Authority, OPERATOR},
    gtid::GtidSet,
    server::{Acknowledgement, Address, Change, Characters, Replication, ServerError, Servers, Survey},
    version::{ReplicationWords, Version},
};

/// How long one call may take, in real time.
pub const PATIENCE: Duration = Duration::from_secs(8);
/// How long a connection may take of that: a host that is gone answers nothing, and whoever asks it asks nobody else.
pub const CONNECTING: Duration = Duration::from_secs(4);
/// MySQL's port.
pub const PORT: u16 = 3306;
/// The server's word for that it has become a copy and nobody is there to start it again.
const NOT_RESTARTED: u16 = 3707;
/// The server's word for a file that exists already.
const FILE_EXISTS: u16 = 1086;

/// The server's word for that it has waited for others for long enough.
const LOCK_WAIT_TIMEOUT: u16 = 1205;

/// Servers reached over the network.
#[derive(Debug, Default)]
pub struct Sql {
    /// Which servers were told which certificate of which peer, so that it is not sent again at each look.
    told: Mutex<BTreeSet<(String, String)>>,
    refused: Refused,
}

/// By certificate: what a server said that was to become a copy.
type Refused = Arc<Mutex<BTreeMap<String, String>>>;

/// What a call failed with, before it is known of which server.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Said(String),
    #[error("it shows a value that cannot be read: {0}")]
    Unreadable(&'static str),
}

impl From<mysql_async::Error> for Failure {
    fn from(error: mysql_async::Error) -> Self {
        Self::Said(match error {
            mysql_async::Error::Server(error) if error.code == LOCK_WAIT_TIMEOUT => {
                format!(
                    "MySQL error {} ({}): it waits for a statement that runs",
                    error.code, error.state
                )
            }
            // The server's message may repeat a part of the statement, which may hold a password.
            mysql_async::Error::Server(error) => format!("MySQL error {} ({})", error.code, error.state),
            mysql_async::Error::Io(error) => format!("connection failed: {}", source(&error)),
            mysql_async::Error::Driver(error) => format!("no MySQL protocol: {error}"),
            mysql_async::Error::Url(_) | mysql_async::Error::Other(_) => "the client failed".into(),
        })
    }
}

/// The innermost cause: the outer ones say nothing that the name of the call does not.
fn source(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(inner) = error.source() {
        error = inner;
    }
    error.to_string()
}

impl Sql {
    async fn call<T, F>(&self, at: &Address, call: F) -> Result<T, ServerError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let failed = |message: String| ServerError {
            server: at.name.clone(),
            message,
        };
        match tokio::time::timeout(PATIENCE, call).await {
            Ok(result) => result.map_err(|failure| failed(failure.to_string())),
            Err(_) => Err(failed(format!("no answer within {} s", PATIENCE.as_secs()))),
        }
    }

    async fn apply(&self, authority: &Authority, at: &Address, change: &Change) -> Result<(), Failure> {
        let mut connection = connect(authority, at).await?;
        if let Change::Follow(peer) | Change::Copy(peer) | Change::Resume(peer) = change {
            self.tell(&mut connection, at, peer).await?;
        }
        let mut statements = statements(change, authority, version(&connection));
        let long = matches!(change, Change::Copy(_))
            .then(|| statements.pop())
            .flatten();
        for statement in statements {
            connection.query_drop(statement).await?;
        }
        if let Some(long) = long {
            begin(connection, long, (at, self.refused.clone()));
            return Ok(());
        }
        connection.disconnect().await?;
        Ok(())
    }

    /// Puts the certificate of a peer into a file of the server's. A file is never overwritten: its name follows from
    /// its content.
    async fn tell(&self, connection: &mut Conn, at: &Address, peer: &Address) -> Result<(), Failure> {
        let path = peer_file(&peer.certificate);
        let key = (at.certificate.clone(), path.clone());
        if self.told.lock().contains(&key) {
            return Ok(());
        }
        let (text, file) = (literal(&peer.certificate), literal(&path));
        match connection
            .query_drop(format!("SELECT {text} INTO DUMPFILE {file}"))
            .await
        {
            Err(mysql_async::Error::Server(error)) if error.code == FILE_EXISTS => {}
            result => result?,
        }
        let there: Option<Option<Vec<u8>>> = connection
            .query_first(format!("SELECT LOAD_FILE({file})"))
            .await?;
        if there
            .flatten()
            .is_none_or(|there| there != peer.certificate.as_bytes())
        {
            return Err(Failure::Said(format!(
                "{path} holds something else than a peer's certificate; remove it"
            )));
        }
        self.told.lock().insert(key);
        Ok(())
    }
}

/// The file on a member that holds the certificate of a peer.
pub(crate) fn peer_file(certificate: &str) -> String {
    use std::fmt::Write as _;
    let digest = Sha256::digest(certificate);
    let name = digest.iter().take(12).fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    format!("/var/lib/mysql-files/peer-{name}.pem")
}

fn options(authority: &Authority, at: &Address) -> Opts {
    let pem = |text: &str| text.as_bytes().to_vec().into();
    let identity = ClientIdentity::new(pem(&authority.client_certificate), pem(&authority.client_key));
    let tls = SslOpts::default()
        .with_root_certs(vec![pem(&at.certificate)])
        .with_disable_built_in_roots(true)
        .with_client_identity(Some(identity))
        .with_danger_tls_hostname_override(Some(at.name.clone()));
    OptsBuilder::default()
        .ip_or_hostname(at.host.clone())
        .tcp_port(PORT)
        .user(Some(OPERATOR))
        .ssl_opts(Some(tls))
        .prefer_socket(false)
        // Known beforehand, so that they are not asked for on each connection.
        .max_allowed_packet(Some(16 << 20))
        .wait_timeout(Some(60))
        .stmt_cache_size(Some(0))
        .into()
}

/// Begins a statement that may run for hours, and keeps its connection open until it ends. What came of it shows at the
/// next look; its error is an ended connection as well when it succeeds, for the server then restarts.
fn begin(mut connection: Conn, statement: String, (at, refused): (&Address, Refused)) {
    let (server, name) = (at.certificate.clone(), at.name.clone());
    refused.lock().remove(&server);
    tokio::spawn(async move {
        if let Err(error) = connection.query_drop(statement).await {
            let is_refusal = is_refusal(&error);
            let failure = Failure::from(error);
            if is_refusal {
                tracing::warn!(%name, %failure, "A member could not become a copy");
                refused.lock().insert(server, failure.to_string());
            } else {
                tracing::info!(%name, outcome = %failure, "A member's copy has ended");
            }
        }
    });
}

/// Whether a server says that it has not become a copy. An ended connection says nothing.
fn is_refusal(error: &mysql_async::Error) -> bool {
    matches!(error, mysql_async::Error::Server(error) if error.code != NOT_RESTARTED)
}

/// The version that a server greets its clients with.
fn version(connection: &Conn) -> Version {
    let (major, minor, _) = connection.server_version();
    Version::of_numbers(major, minor)
}

async fn connect(authority: &Authority, at: &Address) -> Result<Conn, Failure> {
    let connecting = tokio::time::timeout(CONNECTING, Conn::new(options(authority, at)));
    let Ok(connected) = connecting.await else {
        let message = format!("no connection within {} s", CONNECTING.as_secs());
        return Err(Failure::Said(message));
    };
    Ok(connected?)
}

async fn look(authority: &Authority, at: &Address) -> Result<Survey, Failure> {
    let mut connection = connect(authority, at).await?;
    let closed: Option<u8> = connection.query_first(statement::CLOSED).await?;
    let version = version(&connection);
    let words = version.replication();
    let row: Option<Row> = connection.query_first(statement::survey(version)).await?;
    let row = row.ok_or(Failure::Unreadable("no row"))?;
    let following: Option<Row> = connection.query_first(words.status).await?;
    let acknowledging: Option<(String, u32)> =
        connection.query_first(statement::acknowledging(version)).await?;
    let accounts: Vec<String> = connection.query(statement::complete_accounts()).await?;
    let copying: Option<u64> = connection.query_first(statement::COPYING).await?;
    connection.disconnect().await?;
    let set = |name: &'static str| {
        text(&row, name)?
            .parse::<GtidSet>()
            .map_err(|_| Failure::Unreadable(name))
    };
    let number = |name: &'static str| {
        text(&row, name)?
            .parse::<u64>()
            .map_err(|_| Failure::Unreadable(name))
    };
    Ok(Survey {
        uuid: text(&row, "uuid")?,
        version: text(&row, "version")?,
        platform: text(&row, "platform")?,
        characters: Characters {
            server: text(&row, "characters")?,
            filesystem: text(&row, "filesystem")?,
            collation: text(&row, "collation")?,
        },
        executed: set("executed")?,
        purged: set("purged")?,
        read_only: number("read_only")? == 1,
        super_read_only: closed == Some(1) && number("super_read_only")? == 1,
        accounts: accounts.into_iter().collect(),
        acknowledgement: Acknowledgement {
            enabled: number("source_enabled")? == 1,
            replicas: u32::try_from(number("source_replicas")?)
                .map_err(|_| Failure::Unreadable("source_replicas"))?,
            timeout: number("source_timeout")?,
        },
        acknowledging: acknowledging.map_or(0, |(_, clients)| clients),
        acknowledges: number("replica_enabled")? == 1,
        syncs: number("sync_relay_log")? == 1,
        copying: copying.is_some_and(|statements| statements > 0),
        copy_refused: None,
        replication: following
            .as_ref()
            .map(|row| replication(row, &words))
            .transpose()?,
    })
}

/// A column as text; a NULL is none.
fn text(row: &Row, name: &'static str) -> Result<String, Failure> {
    column(row, name).ok_or(Failure::Unreadable(name))
}

fn column(row: &Row, name: &str) -> Option<String> {
    row.get_opt::<String, _>(name).and_then(Result::ok)
}

fn replication(row: &Row, words: &ReplicationWords) -> Result<Replication, Failure> {
    let thread = |name: &'static str| {
        column(row, &format!("{}_{name}", words.replica)).ok_or(Failure::Unreadable(name))
    };
    let (io, sql) = (thread("IO_Running")?, thread("SQL_Running")?);
    let code = |name| Ok::<_, Failure>(text(row, name)?.parse::<u32>().unwrap_or_default());
    // The messages hold times and counts of attempts; the numbers say what is wrong.
    let (receiving, applying) = (code("Last_IO_Errno")?, code("Last_SQL_Errno")?);
    let error = match (receiving, applying) {
        (0, 0) => String::new(),
        (io, 0) => format!("receiving fails with MySQL error {io}"),
        (_, sql) => format!("applying fails with MySQL error {sql}"),
    };
    Ok(Replication {
        source: text(row, words.source_column)?,
        receives: io != "No",
        connected: io == "Yes",
        applies: sql == "Yes",
        received: text(row, "Retrieved_Gtid_Set")?
            .parse()
            .map_err(|_| Failure::Unreadable("Retrieved_Gtid_Set"))?,
        error,
    })
}

impl Servers for Sql {
    async fn survey(&self, authority: &Authority, at: &Address) -> Result<Survey, ServerError> {
        let mut survey = self.call(at, look(authority, at)).await?;
        if survey.executed.is_empty() {
            survey.copy_refused = self.refused.lock().get(&at.certificate).cloned();
        }
        Ok(survey)
    }

    async fn change(&self, authority: &Authority, at: &Address, change: &Change) -> Result<(), ServerError> {
        self.call(at, self.apply(authority, at, change)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_server_says_is_a_copys_failure_and_not_the_end_of_its_connection() {
        let said = |code: u16| {
            mysql_async::Error::Server(mysql_async::ServerError {
                code,
                message: "as the server has it".into(),
                state: "HY000".into(),
            })
        };
        assert!(is_refusal(&said(3862)));
        assert!(!is_refusal(&said(NOT_RESTARTED)), "it has become a copy");
        let ended = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        assert!(!is_refusal(&mysql_async::Error::Io(ended.into())));
    }
}
