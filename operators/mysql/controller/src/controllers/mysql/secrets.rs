//! The password of root: read, generated, and put where Pods and clients find it.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Secret, Service},
};
use kube::ResourceExt as _;
use mysql_api::database::{Reason, SecretKeyRef};
use reconcile::{apply::APPLIED, reconciler::Kind};

use super::{
    DatabaseError, IDLE,
    former::relieve,
    hand::{Hand, Stop, held, soon},
};
use crate::database::{
    credentials::{Credentials, PASSWORD, PasswordError},
    desired::{Desired, PasswordSource},
    names::{Owned, owned},
    report::Said,
};

/// The password of root.
pub(super) struct Passwords {
    /// What stands in the Secret that Pods mount.
    pub(super) now: Credentials,
    /// What is to stand there as soon as the server that is there is given it: one that is not would let in nobody who reads it,
    /// neither its probe, nor backups, nor clients.
    next: Option<Credentials>,
}

impl Passwords {
    /// What a server is to have.
    pub(super) fn wanted(&self) -> &Credentials {
        self.next.as_ref().unwrap_or(&self.now)
    }
}

/// Brings the Secret that Pods mount about. Beside the server that is there, if one is, it is left as it is: [`hand_over`].
pub(super) async fn ensure(
    hand: &Hand<'_>,
    desired: &Desired,
    server: Option<&Deployment>,
) -> Result<Passwords, Stop> {
    let name = desired.names.credentials();
    let live = hand.get::<Secret>(&name).await?;
    match live
        .as_ref()
        .map(|live| owned(live, &desired.names, &desired.uid))
    {
        None | Some(Owned::Ours) => {}
        Some(Owned::Predecessor) => return leaving::<Secret, _>(hand, &name),
        Some(Owned::Foreign | Owned::Nobody) => {
            return Err(DatabaseError::NameConflict(hand.what::<Secret>(&name)).into());
        }
    }
    let known = live.as_ref().and_then(Credentials::read);
    let credentials = given(hand, desired, known.clone()).await?;
    if live.is_none() {
        // Only now: a server that runs is not ended for one that cannot be had.
        meet(hand, desired).await?;
    }
    let wanted = secret(desired, &credentials);
    if live.and_then(|live| live.data) == wanted.data {
        return Ok(Passwords {
            now: credentials,
            next: None,
        });
    }
    if let Some(now) = known.filter(|_| server.is_some()) {
        let next = Some(credentials);
        return Ok(Passwords { now, next });
    }
    hand.apply(wanted).await?;
    Ok(Passwords {
        now: credentials,
        next: None,
    })
}

fn secret(desired: &Desired, credentials: &Credentials) -> Secret {
    credentials.secret(&desired.names, &desired.database, desired.version)
}

/// Writes the password down that the server is about to be given, if it is another one, once it is known that the API server
/// will have that. Says whether it is another one.
pub(super) async fn hand_over(
    hand: &Hand<'_>,
    desired: &Desired,
    passwords: &Passwords,
    server: &Deployment,
) -> Result<bool, Stop> {
    let Some(next) = &passwords.next else {
        return Ok(false);
    };
    hand.rehearse(server.clone()).await?;
    hand.apply(secret(desired, next)).await?;
    Ok(true)
}

/// The password as it is asked for; `known` is that of the Secret.
async fn given(hand: &Hand<'_>, desired: &Desired, known: Option<Credentials>) -> Result<Credentials, Stop> {
    let mut source = &desired.password;
    if let PasswordSource::Kept(otherwise) = source {
        let kept = match &known {
            Some(known) => Some(known.clone()),
            None => remembered(hand, desired).await?,
        };
        if let Some(kept) = kept {
            return Ok(kept);
        }
        source = otherwise;
    }
    match source {
        PasswordSource::Generated | PasswordSource::Kept(_) => match known {
            Some(known) => Ok(known),
            None => Ok(remembered(hand, desired)
                .await?
                .unwrap_or_else(Credentials::generate)),
        },
        PasswordSource::Clear(password) => usable(Credentials::with(password, known), "spec.password"),
        PasswordSource::Secret(reference) => {
            let password = referred(hand, reference).await?;
            let what = format!("key {} of Secret {}", reference.key, reference.name);
            usable(Credentials::with(&password, known), &what)
        }
    }
}

fn usable(credentials: Result<Credentials, PasswordError>, what: &str) -> Result<Credentials, Stop> {
    match credentials {
        Ok(credentials) => Ok(credentials),
        Err(error) => held(
            Said::no(
                Reason::PasswordInvalid,
                format!("{what} is no password: {error}; give another one"),
            ),
            IDLE,
        ),
    }
}

/// A generated password whose Secret was deleted, as clients have it.
async fn remembered(hand: &Hand<'_>, desired: &Desired) -> Result<Option<Credentials>, Stop> {
    let binding = hand.get::<Secret>(&desired.names.binding()).await?;
    let ours = binding.filter(|secret| owned(secret, &desired.names, &desired.uid) == Owned::Ours);
    let data = ours.and_then(|secret| secret.data?.remove(PASSWORD));
    let password = data.and_then(|bytes| String::from_utf8(bytes.0).ok());
    Ok(password.and_then(|password| Credentials::with(&password, None).ok()))
}

async fn referred(hand: &Hand<'_>, reference: &SecretKeyRef) -> Result<String, Stop> {
    let (name, key) = (&reference.name, &reference.key);
    let missing = |why: String| {
        let said = Said::no(Reason::PasswordMissing, why);
        held(said, IDLE / 10)
    };
    let Some(secret) = hand.get::<Secret>(name).await? else {
        return missing(format!(
            "there is no Secret {name}, which passwordSecretRef names: create it with the key {key}"
        ));
    };
    match secret.data.and_then(|mut data| data.remove(key)) {
        Some(bytes) => match String::from_utf8(bytes.0) {
            Ok(password) => Ok(password),
            Err(_) => missing(format!(
                "key {key} of Secret {name} is no text in UTF-8: give a password that is"
            )),
        },
        None => missing(format!(
            "Secret {name} has no key {key}: add it, or name another in passwordSecretRef.key"
        )),
    }
}

/// The first look at what bears the names that are needed, before anything is made.
///
/// What the kind's first operator made for this very object is replaced: it holds the password.
async fn meet(hand: &Hand<'_>, desired: &Desired) -> Result<(), Stop> {
    let names = &desired.names;
    let server = former::<Deployment>(hand, desired, names.name()).await?;
    let service = former::<Service>(hand, desired, names.name()).await?;
    owned_or_free::<ConfigMap>(hand, desired, &names.config()).await?;
    owned_or_free::<Secret>(hand, desired, &names.binding()).await?;
    if server.is_none() && service.is_none() {
        return Ok(());
    }
    // Nothing is taken from a server that answers as long as none can follow it.
    relieve(hand, desired, server.as_ref()).await?;
    if let Some(server) = server {
        hand.remove(&server).await?;
    }
    if let Some(service) = service {
        hand.remove(&service).await?;
    }
    soon(
        Reason::LeftoversGoing,
        "what an earlier operator made for this MySQL is being replaced",
    )
}

/// For what the first operator never made.
async fn owned_or_free<K: Kind>(hand: &Hand<'_>, desired: &Desired, name: &str) -> Result<(), Stop> {
    let found = hand.get::<K>(name).await?;
    match found.map(|found| owned(&found, &desired.names, &desired.uid)) {
        None | Some(Owned::Ours) => Ok(()),
        Some(Owned::Predecessor) => leaving::<K, _>(hand, name),
        Some(Owned::Foreign | Owned::Nobody) => Err(DatabaseError::NameConflict(hand.what::<K>(name)).into()),
    }
}

/// What the first operator made, if that is what bears this name.
async fn former<K: Kind>(hand: &Hand<'_>, desired: &Desired, name: &str) -> Result<Option<K>, Stop> {
    let Some(found) = hand.get::<K>(name).await? else {
        return Ok(None);
    };
    match owned(&found, &desired.names, &desired.uid) {
        Owned::Ours => Ok(Some(found).filter(|found| !found.annotations().contains_key(APPLIED))),
        Owned::Predecessor => leaving::<K, _>(hand, name),
        Owned::Foreign | Owned::Nobody => Err(DatabaseError::NameConflict(hand.what::<K>(name)).into()),
    }
}

fn leaving<K: Kind, T>(hand: &Hand<'_>, name: &str) -> Result<T, Stop> {
    let what = hand.what::<K>(name);
    soon(
        Reason::LeftoversGoing,
        format!("{what} of an earlier MySQL of this name is still going"),
    )
}
