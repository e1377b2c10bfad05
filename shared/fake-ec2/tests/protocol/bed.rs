//! A server and a client that knows nothing of EC2.

use std::time::Duration;

use fake_ec2::{FakeEc2, Limits, Options, Timings};
use reconcile::clock::Clock;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use url::form_urlencoded;

pub(crate) const AMI: &str = "ami-0c02fb55956c7d316";
pub(crate) const SUBNET: &str = "subnet-12345678";
pub(crate) const OTHER_ZONE: &str = "subnet-12345679";

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    /// The texts of all elements of this name, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let after = self.body.split(&open).skip(1);
        after.map(|rest| rest.split(&close).next().unwrap()).collect()
    }

    /// The text of the first element of this name; empty if there is none.
    pub(crate) fn one(&self, name: &str) -> &str {
        self.all(name).first().copied().unwrap_or_default()
    }

    /// The error code; empty if there is none.
    pub(crate) fn code(&self) -> &str {
        self.one("Code")
    }

    /// The current states of the instances in it.
    pub(crate) fn states(&self) -> Vec<&str> {
        self.all("instanceState")
            .into_iter()
            .map(|state| state.split("<name>").nth(1).unwrap().split('<').next().unwrap())
            .collect()
    }
}

pub(crate) struct Bed {
    pub(crate) ec2: FakeEc2,
}

/// A world in which everything happens at once, at `speed` times real time.
pub(crate) fn options(speed: u32) -> Options {
    Options {
        timings: Timings {
            lag: Duration::ZERO,
            ..Timings::default()
        },
        limits: Limits::Unlimited,
        clock: Clock::accelerated(speed),
        ..Options::default()
    }
}

impl Bed {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            ec2: FakeEc2::start(options).unwrap(),
        }
    }

    /// Asks, in us-east-1; fails if the connection breaks.
    pub(crate) async fn ask(&self, action: &str, params: &[(&str, &str)]) -> Answer {
        self.try_ask("us-east-1", action, params).await.unwrap()
    }

    /// Asks; an error is a broken connection.
    pub(crate) async fn try_ask(
        &self,
        region: &str,
        action: &str,
        params: &[(&str, &str)],
    ) -> std::io::Result<Answer> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("Action", action)
            .append_pair("Version", "2016-11-15");
        form.extend_pairs(params);
        let body = form.finish();
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKID/20260101/{region}/ec2/aws4_request, SignedHeaders=host, Signature=00"
        );
        let request = format!(
            "POST / HTTP/1.1\r\nhost: ec2\r\nconnection: close\r\nauthorization: {authorization}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(self.ec2.address()).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Ok(Answer {
            status,
            body: body.to_owned(),
        })
    }

    /// Launches one instance with these parameters beside the necessary ones.
    pub(crate) async fn launch(&self, params: &[(&str, &str)]) -> Answer {
        self.ask("RunInstances", &with_defaults(params)).await
    }

    /// Launches one instance and gives its id.
    pub(crate) async fn launched(&self, params: &[(&str, &str)]) -> String {
        let answer = self.launch(params).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.one("instanceId").to_owned()
    }

    /// Waits until the instance is in this state.
    pub(crate) async fn until(&self, id: &str, state: &str) -> Answer {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let answer = self.ask("DescribeInstances", &[("InstanceId.1", id)]).await;
            if answer.states() == [state] {
                return answer;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{id} never became {state}: {answer:?}"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// The parameters of a launch, of which `params` replace some.
pub(crate) fn with_defaults<'a>(params: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let defaults = [
        ("ImageId", AMI),
        ("InstanceType", "t3.micro"),
        ("SubnetId", SUBNET),
        ("MinCount", "1"),
        ("MaxCount", "1"),
    ];
    let given = |name: &str| params.iter().any(|(other, _)| *other == name);
    let mut all: Vec<_> = defaults.into_iter().filter(|(name, _)| !given(name)).collect();
    all.extend(params.iter().filter(|(_, value)| !value.is_empty()));
    all
}
