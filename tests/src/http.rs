//! A small HTTP client, for REST and metrics.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::wait::{SETTLE_DEADLINE, eventually, same};

/// Time for one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Metrics that are zero while an executor has nothing to do and holds nothing.
const ZERO_WHEN_IDLE: [&str; 6] = [
    "springald_executor_tasks_running",
    "springald_executor_outcomes_pending",
    "springald_executor_exchange_pieces",
    "springald_executor_exchange_memory_bytes",
    "springald_executor_exchange_spilled_bytes",
    "springald_executor_memory_reserved_bytes",
];

/// A server, as host:port.
#[derive(Clone, Debug)]
pub struct Http(String);

/// A status and a body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, as text.
    pub body: String,
}

impl Http {
    /// The server at `address`, host:port.
    pub fn at(address: &str) -> Self {
        Self(address.to_owned())
    }

    /// `http://host:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.0)
    }

    /// Asks for a path. The error says why there is no answer.
    pub async fn get(&self, path: &str) -> Result<Answer, String> {
        self.request(Method::GET, path).await
    }

    /// Deletes what a path names. The error says why there is no answer.
    pub async fn delete(&self, path: &str) -> Result<Answer, String> {
        self.request(Method::DELETE, path).await
    }

    /// The JSON at a path. The error says what was there instead.
    pub async fn json(&self, path: &str) -> Result<Value, String> {
        let answer = self.get(path).await?;
        if answer.status != 200 {
            return Err(format!("GET {path}: {answer:?}"));
        }
        serde_json::from_str(&answer.body).map_err(|error| format!("GET {path}: {error}"))
    }

    /// A job, as REST shows it.
    pub async fn job(&self, id: &str) -> Result<Value, String> {
        self.json(&format!("/api/v1/jobs/{id}")).await
    }

    /// Sends JSON to a path and gives the JSON that is answered. The error says what was there instead.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        let answer = self.request_with(Method::POST, path, Bytes::from(body.to_string())).await?;
        serde_json::from_str(&answer.body).map_err(|error| format!("POST {path}: {error}: {answer:?}"))
    }

    /// Sends JSON to a path and gives the status of the answer. The error says why there is none.
    pub async fn post_status(&self, path: &str, body: &Value) -> Result<u16, String> {
        Ok(self.request_with(Method::POST, path, Bytes::from(body.to_string())).await?.status)
    }

    /// Waits until a job is in a state; the job as it is then.
    ///
    /// # Panics
    /// If it is not in time.
    pub async fn job_in_state(&self, id: &str, state: &str) -> Value {
        let what = format!("job {id} is {state}");
        eventually(&what, SETTLE_DEADLINE, async || {
            let job = self.job(id).await?;
            if job["state"] == state { Ok(job) } else { Err(job.to_string()) }
        })
        .await
    }

    /// Waits until the executors of the process have nothing to do and hold nothing.
    ///
    /// # Panics
    /// If that does not come about in time.
    pub async fn idle(&self) {
        eventually("the executors are idle", SETTLE_DEADLINE, async || self.is_idle().await).await;
    }

    /// All jobs, or those in a state; all pages of them.
    pub async fn jobs(&self, state: Option<&str>) -> Result<Vec<Value>, String> {
        let filter = state.map(|state| format!("&state={state}")).unwrap_or_default();
        let mut jobs = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.json(&format!("/api/v1/jobs?limit=500{filter}{after}")).await?;
            jobs.extend(page["jobs"].as_array().cloned().unwrap_or_default());
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return Ok(jobs),
            }
        }
    }

    /// `Ok` if no job waits or runs.
    pub async fn no_live_jobs(&self) -> Result<(), String> {
        for state in ["queued", "running"] {
            let jobs = self.jobs(Some(state)).await?;
            if let Some(job) = jobs.first() {
                return Err(format!("{} jobs are {state}, as {job}", jobs.len()));
            }
        }
        Ok(())
    }

    /// The value of a metric without labels.
    pub async fn metric(&self, name: &str) -> Result<f64, String> {
        self.metrics().await.and_then(|text| value(&text, name))
    }

    /// `Ok` if the executors of the process have nothing to do and hold nothing.
    pub async fn is_idle(&self) -> Result<(), String> {
        let text = self.metrics().await?;
        for name in ZERO_WHEN_IDLE {
            same(name, value(&text, name)?, 0.0)?;
        }
        let free = value(&text, "springald_executor_slots_free")?;
        same("free slots", free, value(&text, "springald_executor_slots")?)
    }

    async fn metrics(&self) -> Result<String, String> {
        let answer = self.get("/metrics").await?;
        if answer.status == 200 { Ok(answer.body) } else { Err(format!("GET /metrics: {answer:?}")) }
    }

    async fn request(&self, method: Method, path: &str) -> Result<Answer, String> {
        self.request_with(method, path, Bytes::new()).await
    }

    async fn request_with(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, String> {
        match timeout(REQUEST_TIMEOUT, self.exchange(method, path, body)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(format!("{}{path}: {error}", self.url())),
            Err(_) => Err(format!("{}{path}: no answer within {REQUEST_TIMEOUT:?}", self.url())),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let socket = TcpStream::connect(&self.0).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        // Dropped with this call, whichever way it ends, and the connection with it.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let request = Request::builder().method(method).uri(path).header(HOST, &self.0).body(Full::new(body))?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
    }
}

/// The value of a metric without labels, in Prometheus' text format.
fn value(text: &str, name: &str) -> Result<f64, String> {
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.and_then(|value| value.trim().parse().ok()).ok_or_else(|| format!("there is no metric {name}"))
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn given_metrics_then_each_is_found_by_its_whole_name() {
        let text = "# TYPE a gauge\na_b 3\na{x=\"1\"} 4\na 5\n";
        assert_eq!((value(text, "a"), value(text, "a_b")), (Ok(5.0), Ok(3.0)));
        assert!(value(text, "b").is_err());
    }
}
