//! Whoever started a command that runs until it is no longer wanted.

use std::{io::Read, thread};

use anyhow::Context;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

/// Notices that the caller is gone: it closed our standard input, or sent a signal.
pub(crate) struct Caller {
    interrupt: Signal,
    terminate: Signal,
    closed: oneshot::Receiver<()>,
}

impl Caller {
    /// Begins to watch. From here on signals no longer end the process by themselves.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let (sender, closed) = oneshot::channel();
        // A thread of its own, so that a read that never returns keeps nobody from leaving.
        thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || {
                let mut ignored = [0; 256];
                while std::io::stdin().read(&mut ignored).is_ok_and(|read| read > 0) {}
                sender.send(()).ok();
            })
            .context("cannot start a thread")?;
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self {
            interrupt,
            terminate,
            closed,
        })
    }

    /// Returns when the caller is gone. To be awaited until it has returned once.
    pub(crate) async fn gone(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = &mut self.closed => {}
        }
    }
}
