//! Prometheus' text format, as far as benchmarks read it.

use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

/// One scrape of `/metrics`.
#[derive(Clone, Debug)]
pub struct Exposition(String);

impl Exposition {
    /// Of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// What a process says at `/metrics` on this address.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn scrape(address: SocketAddr) -> Result<Self> {
        let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let response = client.get(format!("http://{address}/metrics").parse()?).await?;
        let body = response.into_body().collect().await?.to_bytes();
        Ok(Self::new(String::from_utf8_lossy(&body)))
    }

    /// The sum over all series of this name that have all of these labels; 0 without any.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let lines = self.0.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| {
                let (series, value) = line.rsplit_once(' ')?;
                let (family, rest) = series.split_once('{').unwrap_or((series, ""));
                let has = |(key, wanted): &(&str, &str)| rest.contains(&format!("{key}=\"{wanted}\""));
                (family == name && labels.iter().all(has)).then(|| value.parse::<f64>().ok())?
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_name_and_labels() {
        let text = "# HELP a x\na{c=\"k\",r=\"hit\"} 3\na{c=\"k\",r=\"miss\"} 1\na_b{c=\"k\"} 9\nplain 2.5\n";
        let metrics = Exposition::new(text);
        let sums = [
            metrics.sum("a", &[]),
            metrics.sum("a", &[("r", "hit")]),
            metrics.sum("plain", &[]),
        ];
        assert!(
            sums.iter()
                .zip([4.0, 3.0, 2.5])
                .all(|(sum, expected)| (sum - expected).abs() < 1e-9)
        );
        assert!(metrics.sum("absent", &[]).abs() < 1e-9);
    }
}
