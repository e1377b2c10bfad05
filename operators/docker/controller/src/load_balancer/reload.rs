//! Bringing a configuration into use, and making sure that it is.

use std::time::Duration;

use super::{
    Error, Known, LoadBalancers, PORT_LABEL,
    config::{self, Reload, Server},
};
use crate::{
    engine::{Container, Engine},
    sabotage,
};

/// How long a reload may take.
const RELOAD_LIMIT: Duration = Duration::from_secs(10);
/// How often the log is looked at meanwhile.
const RELOAD_POLL: Duration = Duration::from_millis(50);
/// Lines of the log that are looked at: a reload says fewer than ten.
const LOG_LINES: u32 = 40;

impl<E: Engine> LoadBalancers<E> {
    /// Sees to it that `container` serves `servers`, and remembers that it does.
    pub(super) async fn configure(
        &self,
        container: &Container,
        servers: &[Server],
        known: &mut Known,
    ) -> Result<(), Error> {
        let port = container
            .labels
            .get(PORT_LABEL)
            .and_then(|port| port.parse().ok())
            .unwrap_or(6443);
        let wanted = config::render(port, servers);
        if known.container == container.id && known.configuration == wanted {
            return Ok(());
        }
        let name = &container.name;
        let read = || async { self.engine.read_file(name, config::PATH).await };
        let written = read().await?.as_deref() == Some(wanted.as_bytes());
        if !written {
            self.engine
                .write_file(name, config::PATH, wanted.as_bytes())
                .await?;
            if read().await?.as_deref() != Some(wanted.as_bytes()) {
                return Err(Error::NotWritten(name.clone()));
            }
        }
        // Also when the file was right already: whether it was loaded is not known.
        if !(written && sabotage::active(sabotage::TRUST_WRITTEN_CONFIGURATION)) {
            self.reload(name).await?;
        }
        known.container.clone_from(&container.id);
        known.configuration = wanted;
        Ok(())
    }

    async fn reload(&self, name: &str) -> Result<(), Error> {
        let before = self.engine.log(name, LOG_LINES).await?;
        let since = before
            .last()
            .and_then(|line| config::stamp(line))
            .map(str::to_owned);
        self.engine.signal(name, "SIGHUP").await?;
        let deadline = self.clock.elapsed() + RELOAD_LIMIT;
        loop {
            let log = self.engine.log(name, LOG_LINES).await?;
            match config::reload_result(&log, since.as_deref()) {
                Reload::Took => return Ok(()),
                Reload::Pending if self.clock.elapsed() < deadline => self.clock.sleep(RELOAD_POLL).await,
                _ => {
                    let said = log
                        .iter()
                        .rev()
                        .find(|line| config::is_refusal(line))
                        .or_else(|| log.last());
                    let said = said
                        .and_then(|line| line.split_once(' '))
                        .map_or("nothing", |(_, text)| text);
                    return Err(Error::Refused {
                        name: name.to_owned(),
                        said: said.to_owned(),
                    });
                }
            }
        }
    }
}
