//! The MySQL operator's seam to EC2: [`Ec2`] implements [`Instances`] with the AWS SDK.
//!
//! # Guarantees
//! - One attempt per call: the SDK's own retries are off, because a launch without capacity would be repeated by them
//!   for seconds, and because what to repeat is decided by the operator.
//! - A call that is given no answer within 30 seconds fails; it may have taken effect.
//! - Credentials come from the default chain (environment, profile, web identity, container, instance metadata) and
//!   appear in no error.
//! - What changes something is sent only while the lease is held; that is looked at immediately before.
//! - A launch without a client token gets a random one from the SDK; the operator always gives one.

mod convert;
mod failure;
mod parts;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use aws_config::SdkConfig;
use aws_sdk_ec2::{
    Client,
    config::{Region, retry::RetryConfig, timeout::TimeoutConfig},
    types::Filter,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use mysql_controller::{
    cloud::{CloudError, Instance, Instances, Part, PartKind, Subnet},
    identity::{CLUSTER_UID, OPERATOR_ID, TOMBSTONE},
    parameters::LaunchParameters,
};
use parking_lot::Mutex;
use reconcile::fence::Fence;

use self::failure::failed;

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Instances per page: the most that EC2 gives.
const PAGE: i32 = 1000;

/// EC2, one client per region.
pub struct Ec2 {
    config: SdkConfig,
    clients: Mutex<HashMap<String, Client>>,
}

impl Ec2 {
    /// With this configuration: its credentials, and its endpoint if it names one.
    pub fn new(config: SdkConfig) -> Self {
        Self {
            config,
            clients: Mutex::default(),
        }
    }

    /// With the default chain of credentials; `endpoint` takes the place of AWS's own. `region` is that of credentials:
    /// without one the SDK would ask the machine's metadata service for it.
    pub async fn from_environment(endpoint: Option<&str>, region: &str) -> Self {
        let mut loader = aws_config::from_env().region(Region::new(region.to_owned()));
        if let Some(endpoint) = endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        Self::new(loader.load().await)
    }

    fn client(&self, region: &str) -> Client {
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(region) {
            return client.clone();
        }
        let config = aws_sdk_ec2::config::Builder::from(&self.config)
            .region(Region::new(region.to_owned()))
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().operation_timeout(TIMEOUT).build())
            .build();
        let client = Client::from_conf(config);
        clients.insert(region.to_owned(), client.clone());
        client
    }

    /// All pages of a filtered listing.
    async fn describe(&self, region: &str, name: &str, value: &str) -> Result<Vec<Instance>, CloudError> {
        let client = self.client(region);
        let filter = Filter::builder().name(name).values(literal(value)).build();
        let (mut found, mut next) = (Vec::new(), None);
        loop {
            let request = client
                .describe_instances()
                .filters(filter.clone())
                .max_results(PAGE);
            let page = request
                .set_next_token(next)
                .send()
                .await
                .map_err(failed("DescribeInstances"))?;
            let instances = page
                .reservations()
                .iter()
                .flat_map(aws_sdk_ec2::types::Reservation::instances);
            found.extend(instances.filter_map(convert::instance));
            next = page
                .next_token()
                .filter(|token| !token.is_empty())
                .map(str::to_owned);
            if next.is_none() {
                return Ok(found);
            }
        }
    }
}

/// A filter's value that means itself: `*`, `?` and `\` are wildcards to EC2.
fn literal(value: &str) -> String {
    value.chars().fold(String::new(), |mut text, c| {
        if matches!(c, '*' | '?' | '\\') {
            text.push('\\');
        }
        text.push(c);
        text
    })
}

/// Nothing is sent once somebody else may be acting.
fn fenced(fence: &Fence, action: &'static str) -> Result<(), CloudError> {
    fence.check().map_err(|lost| CloudError::unsent(action, &lost))
}

/// The answer does not hold what was asked for.
fn incomplete(action: &'static str) -> CloudError {
    CloudError {
        action,
        code: None,
        declined: false,
        message: "the answer holds no instance".to_owned(),
    }
}

impl Instances for Ec2 {
    async fn launch(
        &self,
        parameters: &LaunchParameters,
        token: Option<&str>,
        fence: &Fence,
    ) -> Result<Instance, CloudError> {
        let client = self.client(&parameters.region);
        let request =
            convert::launch(client.run_instances(), parameters).set_client_token(token.map(str::to_owned));
        fenced(fence, "RunInstances")?;
        let answer = request.send().await.map_err(failed("RunInstances"))?;
        answer
            .instances()
            .first()
            .and_then(convert::instance)
            .ok_or_else(|| incomplete("RunInstances"))
    }

    async fn list(&self, region: &str, operator_id: &str) -> Result<Vec<Instance>, CloudError> {
        self.describe(region, &format!("tag:{OPERATOR_ID}"), operator_id)
            .await
    }

    async fn get(&self, region: &str, id: &str) -> Result<Instance, CloudError> {
        let answer = self
            .client(region)
            .describe_instances()
            .instance_ids(id)
            .send()
            .await;
        let answer = answer.map_err(failed("DescribeInstances"))?;
        let mut instances = answer
            .reservations()
            .iter()
            .flat_map(aws_sdk_ec2::types::Reservation::instances);
        instances
            .next()
            .and_then(convert::instance)
            .ok_or_else(|| incomplete("DescribeInstances"))
    }

    async fn with_token(&self, region: &str, token: &str) -> Result<Vec<Instance>, CloudError> {
        self.describe(region, "client-token", token).await
    }

    async fn terminate(&self, region: &str, id: &str, fence: &Fence) -> Result<(), CloudError> {
        let request = self.client(region).terminate_instances().instance_ids(id);
        fenced(fence, "TerminateInstances")?;
        request
            .send()
            .await
            .map(drop)
            .map_err(failed("TerminateInstances"))
    }

    async fn start(&self, region: &str, id: &str, fence: &Fence) -> Result<(), CloudError> {
        let request = self.client(region).start_instances().instance_ids(id);
        fenced(fence, "StartInstances")?;
        request.send().await.map(drop).map_err(failed("StartInstances"))
    }

    async fn tag(
        &self,
        region: &str,
        ids: &[String],
        tags: &BTreeMap<String, String>,
        fence: &Fence,
    ) -> Result<(), CloudError> {
        let tags = tags
            .iter()
            .map(|(key, value)| aws_sdk_ec2::types::Tag::builder().key(key).value(value).build());
        let request = self.client(region).create_tags();
        let request = request
            .set_resources(Some(ids.to_vec()))
            .set_tags(Some(tags.collect()));
        fenced(fence, "CreateTags")?;
        request.send().await.map(drop).map_err(failed("CreateTags"))
    }

    async fn release(&self, region: &str, id: &str, fence: &Fence) -> Result<(), CloudError> {
        let tombstone = aws_sdk_ec2::types::Tag::builder().key(TOMBSTONE).build();
        let request = self.client(region).delete_tags().resources(id).tags(tombstone);
        fenced(fence, "DeleteTags")?;
        request.send().await.map(drop).map_err(failed("DeleteTags"))
    }

    async fn parts(
        &self,
        region: &str,
        operator_id: &str,
        cluster_uid: &str,
    ) -> Result<Vec<Part>, CloudError> {
        let filter = |key: &str, value: &str| {
            let filter = Filter::builder().name(format!("tag:{key}"));
            filter.values(literal(value)).build()
        };
        let both = [filter(OPERATOR_ID, operator_id), filter(CLUSTER_UID, cluster_uid)];
        let client = self.client(region);
        let mut found = parts::volumes(&client, &both).await?;
        found.extend(parts::interfaces(&client, &both).await?);
        Ok(found)
    }

    async fn discard(&self, region: &str, part: &Part, fence: &Fence) -> Result<(), CloudError> {
        let client = self.client(region);
        match part.kind {
            PartKind::Volume => {
                let request = client.delete_volume().volume_id(&part.id);
                fenced(fence, "DeleteVolume")?;
                request.send().await.map(drop).map_err(failed("DeleteVolume"))
            }
            PartKind::Interface => {
                let request = client.delete_network_interface().network_interface_id(&part.id);
                fenced(fence, "DeleteNetworkInterface")?;
                let answer = request.send().await;
                answer.map(drop).map_err(failed("DeleteNetworkInterface"))
            }
        }
    }

    async fn console(&self, region: &str, id: &str) -> Result<Option<String>, CloudError> {
        let client = self.client(region);
        let request = client.get_console_output().instance_id(id);
        // Without `Latest` EC2 shows what was posted shortly after the machine's start and nothing that came later.
        let latest = request.clone().latest(true).send().await;
        let answer = match latest.map_err(failed("GetConsoleOutput")) {
            // Machines that are not built on Nitro have no other console.
            Err(error) if error.code.as_deref() == Some("UnsupportedOperation") => {
                request.send().await.map_err(failed("GetConsoleOutput"))?
            }
            answer => answer?,
        };
        let decoded = answer.output().map(|text| BASE64_STANDARD.decode(text.trim()));
        // What a machine prints need not be UTF-8.
        Ok(decoded
            .and_then(Result::ok)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    async fn kept_devices(&self, region: &str, image: &str) -> Result<Vec<String>, CloudError> {
        let request = self.client(region).describe_images().image_ids(image);
        let answer = request.send().await.map_err(failed("DescribeImages"))?;
        let images = answer.images().iter();
        Ok(images.flat_map(convert::kept_devices).collect())
    }

    async fn subnets(&self, region: &str, ids: &[String]) -> Result<Vec<Subnet>, CloudError> {
        // Asked for by their ids, all would be refused because of one that is not known.
        let values = ids.iter().map(|id| literal(id)).collect();
        let named = Filter::builder()
            .name("subnet-id")
            .set_values(Some(values))
            .build();
        let request = self.client(region).describe_subnets().filters(named);
        let answer = request.send().await.map_err(failed("DescribeSubnets"))?;
        let subnet = |subnet: &aws_sdk_ec2::types::Subnet| {
            Some(Subnet {
                id: subnet.subnet_id()?.to_owned(),
                zone: subnet.availability_zone()?.to_owned(),
            })
        };
        Ok(answer.subnets().iter().filter_map(subnet).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::literal;

    #[test]
    fn a_filter_means_what_it_says() {
        assert_eq!(literal(r"a*b?c\d"), r"a\*b\?c\\d");
    }
}
