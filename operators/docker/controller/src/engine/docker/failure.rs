//! Docker's errors, told apart. The API gives a status and a text; where the status says too little, the text has to.

use std::{error::Error as _, io, time::Duration};

use bollard::errors::Error;

use super::{EngineError, Failure, REQUEST_LIMIT};

/// `error`, as an answer to the attempt to `action`.
pub(super) fn explain(action: &str, error: &Error) -> EngineError {
    let (kind, message) = match error {
        Error::DockerResponseServerError { status_code, message } => {
            (of_response(*status_code, message), message.clone())
        }
        Error::DockerStreamError { error } => (of_response(500, error), error.clone()),
        Error::RequestTimeoutError => return too_slow(action, REQUEST_LIMIT),
        Error::SocketNotFoundError(path) => (
            Failure::Unavailable,
            format!("there is no socket at {path}; is Docker installed and running?"),
        ),
        other => of_transport(other),
    };
    EngineError {
        kind,
        action: action.to_owned(),
        message,
    }
}

fn of_transport(error: &Error) -> (Failure, String) {
    let text = reconcile::error::chain(error);
    let mut source = error.source();
    while let Some(cause) = source {
        match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::PermissionDenied) => {
                let advice =
                    "the socket may not be opened by this user; run as root or in the socket's group";
                return (Failure::Denied, format!("{text}; {advice}"));
            }
            Some(io::ErrorKind::NotFound) => {
                return (
                    Failure::Unavailable,
                    format!("{text}; is Docker installed and running?"),
                );
            }
            _ => source = cause.source(),
        }
    }
    (Failure::Unavailable, text)
}

fn of_response(status: u16, message: &str) -> Failure {
    let says = |text: &str| message.contains(text);
    // In lower case the kernel speaks, of a port; addresses are Docker's own, which begins with a capital.
    if says("port is already allocated")
        || says("address already in use")
        || says("failed to bind host port")
        || says("Ports are not available")
        || says("ports are not available")
    {
        return Failure::PortTaken;
    }
    if says("user specified IP address is supported") {
        return Failure::AddressRefused;
    }
    if says("Address already in use") || says("Pool overlaps") {
        return Failure::AddressTaken;
    }
    if says("bind source path does not exist") {
        return Failure::MountMissing;
    }
    if says("exec format error")
        || says("No such image")
        || says("manifest unknown")
        || says("pull access denied")
    {
        return Failure::Image;
    }
    match status {
        404 => Failure::NotFound,
        409 if says("already in use") || says("already exists") => Failure::NameTaken,
        400 => Failure::Invalid,
        401 | 403 => Failure::Denied,
        _ => Failure::Unavailable,
    }
}

/// On creation, what is not found is the image (or the network, which the text then names).
pub(super) fn of_creation(error: EngineError) -> EngineError {
    match error.kind {
        Failure::NotFound if !error.message.contains("network") => EngineError {
            kind: Failure::Image,
            ..error
        },
        _ => error,
    }
}

/// What is gone needs nothing more. What is about to go is there still: a network cannot follow it yet, nor a
/// container of its name.
pub(super) fn unless_gone(error: EngineError) -> Result<(), EngineError> {
    if error.kind == Failure::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}

pub(super) fn too_slow(action: &str, limit: Duration) -> EngineError {
    let message = format!("the daemon did not answer within {} s", limit.as_secs());
    EngineError {
        kind: Failure::Unavailable,
        action: action.to_owned(),
        message,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(404, "No such container: x", Failure::NotFound)]
    #[case(404, "No such image: x:latest", Failure::Image)]
    #[case(
        409,
        "Conflict. The container name \"/x\" is already in use by container",
        Failure::NameTaken
    )]
    #[case(409, "network with name kind already exists", Failure::NameTaken)]
    #[case(
        500,
        "driver failed programming external connectivity: Bind for 127.0.0.1:1 failed: port is already allocated",
        Failure::PortTaken
    )]
    #[case(
        500,
        "listen tcp4 127.0.0.1:1: bind: address already in use",
        Failure::PortTaken
    )]
    #[case(
        500,
        "failed to set up container networking: driver failed programming external connectivity on endpoint x: failed to bind host port for 127.0.0.1:1:172.18.0.2:80/tcp: address already in use",
        Failure::PortTaken
    )]
    #[case(
        500,
        "failed to bind host port 127.0.0.1:1/tcp: permission denied",
        Failure::PortTaken
    )]
    #[case(
        500,
        "Ports are not available: exposing port TCP 127.0.0.1:1 -> 127.0.0.1:0: listen tcp 127.0.0.1:1: bind: Only one usage",
        Failure::PortTaken
    )]
    #[case(403, "Address already in use", Failure::AddressTaken)]
    #[case(
        400,
        "user specified IP address is supported only when connecting to networks with user configured subnets",
        Failure::AddressRefused
    )]
    #[case(
        403,
        "Pool overlaps with other one on this address space",
        Failure::AddressTaken
    )]
    #[case(
        400,
        "invalid mount config for type \"bind\": bind source path does not exist: /x",
        Failure::MountMissing
    )]
    #[case(400, "invalid hostname", Failure::Invalid)]
    #[case(500, "something else", Failure::Unavailable)]
    fn answers_are_told_apart(#[case] status: u16, #[case] message: &str, #[case] kind: Failure) {
        let error = Error::DockerResponseServerError {
            status_code: status,
            message: message.into(),
        };
        assert_eq!(explain("do it", &error).kind, kind);
    }

    #[test]
    fn only_what_is_gone_counts_as_removed() {
        let answered = |status_code, message: &str| {
            let message = message.to_owned();
            let error = Error::DockerResponseServerError { status_code, message };
            unless_gone(explain("remove container x", &error))
        };
        answered(404, "No such container: x").unwrap();
        let going = answered(409, "removal of container x is already in progress").unwrap_err();
        assert_eq!(going.kind, Failure::Unavailable, "tried again");
    }

    #[test]
    fn a_closed_socket_says_what_to_do() {
        let io = io::Error::new(io::ErrorKind::PermissionDenied, "permission denied");
        let error = explain("list", &Error::IOError { err: io });
        assert_eq!(
            error.kind,
            Failure::Unavailable,
            "only a source is looked at: the error itself says it already"
        );
        assert!(error.to_string().contains("permission denied"));
    }
}
