//! `dynamoctl delete-partition`.

use std::{
    fmt,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, anyhow, bail};
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use clap::Args;
use dynamodb_api::{AttributeType, RunMode};
use reconcile::{clock::Clock, manager::shutdown_signal};
use tokio_util::sync::CancellationToken;

use super::{place::Place, progress, wording::at_a_terminal};
use crate::{
    connection::Connector,
    credentials,
    partition::{Control, End, Engine, Finished, Plan, Prepared, Request, Totals},
    table_name,
};

/// What was interrupted or declined.
const INCOMPLETE: u8 = 3;

/// Flags of `delete-partition`.
#[derive(Args)]
pub struct DeleteArgs {
    /// Name of the table.
    #[arg(short, long, visible_alias = "table-name", value_name = "NAME")]
    table: String,

    /// Value of the partition key: text for a key of type S, decimal for N, base64 for B. Text that begins with a dash is
    /// written --partition=-TEXT.
    #[arg(
        short,
        long,
        visible_alias = "partition-value",
        value_name = "VALUE",
        allow_negative_numbers = true
    )]
    partition: String,

    /// Asserts the type of the partition key.
    #[arg(long, value_name = "S|N|B", value_parser = key_type)]
    key_type: Option<AttributeType>,

    /// Address of the DynamoDB API; without it that of the environment, `AWS_ENDPOINT_URL_DYNAMODB` or `AWS_ENDPOINT_URL`, or
    /// AWS. A host that is not AWS is sent placeholder credentials, unless the environment holds AWS_ACCESS_KEY_ID.
    #[arg(short, long, value_name = "URL", default_value = "")]
    endpoint_url: String,

    /// AWS region of the table; without it that of the environment, `AWS_REGION` or `AWS_DEFAULT_REGION`, of the profile, or
    /// us-east-1. Empty is as if not given.
    #[arg(short, long, value_name = "REGION", default_value = "")]
    region: String,

    /// Consume at most so many write capacity units per second.
    #[arg(long, value_name = "WCU", value_parser = clap::value_parser!(u32).range(1..))]
    max_wcu: Option<u32>,

    /// Do not ask before deleting. Takes --region or --endpoint-url: what nobody is asked about is said.
    #[arg(short = 's', long = "yes", visible_alias = "skip-confirmation")]
    yes: bool,

    /// Measure and show the plan; delete nothing.
    #[arg(long)]
    dry_run: bool,
}

#[cfg(test)]
impl DeleteArgs {
    /// The value of the partition key, as given.
    pub(super) fn partition(&self) -> &str {
        &self.partition
    }
}

/// The partition value is a customer's data: it is not printed.
impl fmt::Debug for DeleteArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeleteArgs")
            .field("table", &self.table)
            .field("endpoint_url", &self.endpoint_url)
            .field("region", &self.region)
            .field("yes", &self.yes)
            .field("dry_run", &self.dry_run)
            .finish_non_exhaustive()
    }
}

fn key_type(text: &str) -> Result<AttributeType, String> {
    let all = [AttributeType::S, AttributeType::N, AttributeType::B];
    all.into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| "must be S, N or B".to_owned())
}

/// Measures, asks, deletes, and says what was done.
#[expect(clippy::print_stdout, reason = "the command line talks to people")]
pub(super) async fn run(args: DeleteArgs) -> anyhow::Result<ExitCode> {
    if args.partition.is_empty() {
        bail!("--partition must not be empty");
    }
    table_name::check(&args.table).map_err(|error| anyhow!("--table {error}"))?;
    if args.yes && !args.dry_run && args.region.is_empty() && args.endpoint_url.is_empty() {
        bail!(
            "--yes deletes without asking, and nothing says where: give --region REGION for a table in AWS, or \
             --endpoint-url URL for one elsewhere, such as http://localhost:8000"
        );
    }
    // Before the measuring, which reads: it would be for nothing.
    if !args.yes && !args.dry_run && !io::stdin().is_terminal() {
        bail!("there is no terminal to ask on; give --yes to delete without asking");
    }
    let place = Place::find(&args.endpoint_url, &args.region).await?;
    let client = client(&place).await?;
    let (max_wcu, limit) = tokio::sync::watch::channel(args.max_wcu);
    let control = Control {
        cancel: shutdown_signal()?,
        max_wcu: limit,
        ..Control::unattended(Clock::system())
    };
    let request = Request {
        key_type: args.key_type,
        mode: if args.dry_run {
            RunMode::DryRun
        } else {
            RunMode::Delete
        },
        ..Request::new(args.table.clone(), args.partition)
    };
    // It is gone when something is printed or asked: what is drawn over a question cannot be read.
    let bar = progress::show(control.progress.subscribe());
    let engine = Engine::default();
    // Only reads are under way.
    let preparing = engine.prepare(&client, request, control.clone());
    let prepared = control.cancel.run_until_cancelled(preparing).await;
    drop(bar);
    let Some(prepared) = prepared.filter(|_| !control.cancel.is_cancelled()) else {
        println!("Interrupted; nothing was deleted");
        return Ok(ExitCode::from(INCOMPLETE));
    };
    let prepared = prepared.map_err(at_a_terminal)?;
    let plan = prepared.plan().cloned().unwrap_or_default();
    tell(&args.table, &place, &plan);
    if args.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    // The plan is of reads that may lag: even when it found nothing there may be something to delete.
    if !args.yes {
        question(&args.table, &place, &plan)?;
        if !answered(control.cancel.clone(), read_line).await? {
            println!("Nothing was deleted");
            return Ok(ExitCode::from(INCOMPLETE));
        }
    }
    let finished = execute(prepared, &control).await?;
    drop(max_wcu);
    Ok(match finished.end {
        End::Empty | End::Planned => {
            println!("A strongly consistent read found nothing left");
            ExitCode::SUCCESS
        }
        End::Interrupted => {
            println!("Interrupted: items may be left; run the command again to go on");
            ExitCode::from(INCOMPLETE)
        }
    })
}

/// Deletes, and prints what was done, however it ends.
async fn execute(prepared: Prepared, control: &Control) -> anyhow::Result<Finished> {
    let bar = progress::show(control.progress.subscribe());
    let finished = prepared.execute().await;
    drop(bar);
    report(
        &finished
            .as_ref()
            .map_or_else(|_| control.progress.borrow().totals, |finished| finished.totals),
    );
    finished.map_err(at_a_terminal)
}

async fn client(place: &Place) -> anyhow::Result<aws_sdk_dynamodb::Client> {
    let Place { endpoint, region } = place;
    let connector = Connector::new();
    connector.check(endpoint).await.map_err(at_a_terminal)?;
    // A person at a terminal may send credentials of the environment wherever it wants; the operator may not.
    let given = std::env::var_os("AWS_ACCESS_KEY_ID").is_some_and(|id| !id.is_empty());
    let credentials = if endpoint.is_aws() || given {
        own_credentials(&connector).await?
    } else {
        credentials::placeholder()
    };
    Ok(connector.client(endpoint, region, credentials))
}

/// The credentials of whoever calls, looked up before anything is asked of DynamoDB: without any that is what there is
/// to say. Those that do not expire are not looked up again.
async fn own_credentials(connector: &Connector) -> anyhow::Result<SharedCredentialsProvider> {
    let profile = std::env::var("AWS_PROFILE").ok().filter(|name| !name.is_empty());
    let missing = || {
        format!(
            "there are no AWS credentials, neither in the environment nor in profile {:?} of ~/.aws nor from this host; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
            profile.as_deref().unwrap_or("default")
        )
    };
    let own = connector.own_identity().await.with_context(missing)?;
    let found = own.provide_credentials().await.with_context(missing)?;
    Ok(match found.expiry() {
        None => SharedCredentialsProvider::new(found),
        Some(_) => own,
    })
}

#[expect(clippy::print_stdout, reason = "the command line talks to people")]
fn tell(table: &str, place: &Place, plan: &Plan) {
    let at_least = if plan.complete { "" } else { "at least " };
    println!(
        "Table {table} at {place}: the partition holds {at_least}{} items ({} bytes); deleting them takes {} to {} WCU, about {} s",
        plan.items, plan.bytes, plan.wcu_min, plan.wcu_max, plan.estimated_seconds
    );
    for warning in &plan.warnings {
        println!("Note: {warning}");
    }
}

#[expect(clippy::print_stdout, reason = "the command line talks to people")]
fn report(totals: &Totals) {
    println!(
        "{} keys read, {} deletions acknowledged, {} sent again, {} throttled requests, {} WCU",
        totals.keys_read,
        totals.keys_acknowledged,
        totals.unprocessed_retries,
        totals.throttles,
        totals.wcu_milli / 1000
    );
}

/// Asks, and says where: the place may be of a setting that nobody thinks of. The answer is read by [`answered`].
fn question(table: &str, place: &Place, plan: &Plan) -> anyhow::Result<()> {
    let mut out = io::stderr();
    match plan.items {
        0 => write!(
            out,
            "No item was found. Look again by a consistent read, and delete what it finds in {table} at {place}? [y/N] "
        ),
        items => write!(
            out,
            "Delete these {items} items from {table} at {place}? This cannot be undone. [y/N] "
        ),
    }?;
    Ok(out.flush()?)
}

fn read_line() -> io::Result<String> {
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer)
}

/// Whether `read` returns a yes. An interrupt is a no, at once: reading may take for ever and cannot be ended, so it is
/// left to its thread, which ends with the process.
async fn answered(
    interrupted: CancellationToken,
    read: impl FnOnce() -> io::Result<String> + Send + 'static,
) -> anyhow::Result<bool> {
    let reading = tokio::task::spawn_blocking(read);
    let answer = tokio::select! {
        biased;
        () = interrupted.cancelled() => return Ok(false),
        answer = reading => answer??,
    };
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn only_a_yes_is_a_yes() {
        for (text, yes) in [
            ("y\n", true),
            (" YES \n", true),
            ("", false),
            ("n\n", false),
            ("yellow\n", false),
        ] {
            let read = move || Ok(text.to_owned());
            assert_eq!(
                answered(CancellationToken::new(), read).await.unwrap(),
                yes,
                "{text:?}"
            );
        }
        let broken = || Err(io::Error::other("gone"));
        assert!(answered(CancellationToken::new(), broken).await.is_err());
    }

    #[tokio::test]
    async fn an_interrupt_while_the_answer_is_awaited_is_a_no_at_once() {
        // Nobody answers before the end of the test.
        let (answer, waiting) = mpsc::channel::<String>();
        let (asked, is_asked) = tokio::sync::oneshot::channel();
        let read = move || {
            let _ = asked.send(());
            waiting.recv().map_err(io::Error::other)
        };
        let interrupt = CancellationToken::new();
        let question = tokio::spawn(answered(interrupt.clone(), read));
        is_asked.await.unwrap();
        interrupt.cancel();
        assert!(!question.await.unwrap().unwrap());
        drop(answer);
    }
}
