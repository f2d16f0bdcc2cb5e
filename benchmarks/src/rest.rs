//! What the scheduler's REST interface says of a job: how it was cut up, and how much was exchanged.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use crate::error::{BenchError, Result};

/// Largest answer read; plan texts of large jobs are some 100 KiB.
const MAX_BODY_BYTES: usize = 16 << 20;

/// Time for one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for the last reports of a job's tasks to arrive at the scheduler after its result is complete.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Time between two looks at a job that still has reports to come.
const SETTLE_INTERVAL: Duration = Duration::from_millis(20);

/// Size of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct JobFigures {
    /// Stages the plan was cut into.
    pub stages: u64,
    /// Tasks over all stages.
    pub tasks: u64,
    /// Bytes all stages put into the exchange, the result included.
    pub bytes_exchanged: u64,
}

/// The part of `GET /api/v1/jobs/{id}` that is used here.
#[derive(Deserialize)]
struct Job {
    #[serde(default)]
    state: String,
    #[serde(default)]
    stages: Vec<Stage>,
}

#[derive(Deserialize)]
struct Stage {
    #[serde(default)]
    tasks: u64,
    #[serde(default)]
    output_bytes: u64,
}

impl Job {
    fn is_settled(&self) -> bool {
        !["queued", "running"].iter().any(|state| self.state.eq_ignore_ascii_case(state))
    }

    fn figures(&self) -> JobFigures {
        JobFigures {
            stages: self.stages.len() as u64,
            tasks: self.stages.iter().map(|stage| stage.tasks).sum(),
            bytes_exchanged: self.stages.iter().map(|stage| stage.output_bytes).sum(),
        }
    }
}

/// Asks the scheduler at `base` (`http://host:port`) for the figures of a job whose result has been read.
///
/// # Errors
/// [`BenchError::Rest`] if the scheduler cannot be reached or answers anything but the job.
pub async fn job_figures(base: &str, job_id: &str) -> Result<JobFigures> {
    let url = job_url(base, job_id)?;
    let settled_by = Instant::now() + SETTLE_TIMEOUT;
    loop {
        let body = get(&url).await.map_err(|reason| rest_error(url.as_str(), reason))?;
        let job: Job = serde_json::from_slice(&body).map_err(|error| rest_error(url.as_str(), error.to_string()))?;
        if job.is_settled() || Instant::now() >= settled_by {
            return Ok(job.figures());
        }
        sleep(SETTLE_INTERVAL).await;
    }
}

fn rest_error(url: &str, reason: String) -> BenchError {
    BenchError::Rest { url: url.to_owned(), reason }
}

fn job_url(base: &str, job_id: &str) -> Result<Url> {
    let mut url = Url::parse(base).map_err(|error| rest_error(base, error.to_string()))?;
    if url.scheme() != "http" || url.path_segments_mut().is_err() {
        return Err(rest_error(base, "not an address of the form http://host:port".to_owned()));
    }
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(["api", "v1", "jobs", job_id]);
    }
    Ok(url)
}

/// The body at `path` of the server at `base` (`http://host:port`).
///
/// # Errors
/// [`BenchError::Rest`] if it cannot be reached or answers with another status than 200.
pub(crate) async fn body(base: &str, path: &str) -> Result<Bytes> {
    let address = format!("{base}{path}");
    let url = Url::parse(&address).map_err(|error| rest_error(&address, error.to_string()))?;
    get(&url).await.map_err(|reason| rest_error(&address, reason))
}

/// The body of `url`; the error is the reason for people.
async fn get(url: &Url) -> Result<Bytes, String> {
    match timeout(REQUEST_TIMEOUT, request(url)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs())),
    }
}

async fn request(url: &Url) -> Result<Bytes, String> {
    let addresses = url.socket_addrs(|| None).map_err(|error| error.to_string())?;
    let socket = TcpStream::connect(addresses.as_slice()).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(|error| error.to_string())?;
    // Dropped with this call, whichever way it ends, and the connection with it.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::get(url.path())
        .header(HOST, url.authority())
        .header(ACCEPT, "application/json")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_BODY_BYTES).collect().await.map_err(|error| error.to_string())?;
    let body = body.to_bytes();
    if status == StatusCode::OK {
        Ok(body)
    } else {
        Err(format!("{status}: {}", String::from_utf8_lossy(&body).chars().take(200).collect::<String>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A server that gives `answers` (status line and body), one per connection; resolves to its requests' first lines.
    async fn serve(answers: Vec<(&'static str, &'static str)>) -> (String, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let base = format!("http://{}", listener.local_addr().expect("address"));
        let server = tokio::spawn(async move {
            let mut seen = Vec::new();
            for (status, body) in answers {
                let (mut socket, _) = listener.accept().await.expect("connection");
                let mut buffer = vec![0; 4096];
                let read = socket.read(&mut buffer).await.expect("request");
                buffer.truncate(read);
                let text = String::from_utf8(buffer).expect("text");
                seen.push(text.lines().next().unwrap_or_default().to_owned());
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                socket.write_all(answer.as_bytes()).await.expect("answer");
            }
            seen
        });
        (base, server)
    }

    #[tokio::test]
    async fn given_a_job_that_settles_then_its_stages_are_summed() {
        let running = r#"{"id":"j","state":"running","stages":[]}"#;
        let done = r#"{"id":"j","state":"succeeded","stages":[
            {"stage":1,"tasks":16,"output_rows":5,"output_bytes":100,"more":{}},{"stage":2,"tasks":2,"output_bytes":11}]}"#;
        let (base, server) = serve(vec![("200 OK", running), ("200 OK", done)]).await;
        let figures = job_figures(&base, "j").await.expect("figures");
        assert_eq!(figures, JobFigures { stages: 2, tasks: 18, bytes_exchanged: 111 });
        assert_eq!(server.await.expect("server"), ["GET /api/v1/jobs/j HTTP/1.1"; 2]);
    }

    #[tokio::test]
    async fn given_an_odd_id_and_an_error_then_the_path_is_safe_and_the_reason_is_kept() {
        let (base, server) = serve(vec![("404 Not Found", "no such job")]).await;
        let error = job_figures(&base, "../x y").await.expect_err("not found").to_string();
        assert!(error.ends_with("404 Not Found: no such job"), "{error}");
        assert_eq!(server.await.expect("server"), ["GET /api/v1/jobs/..%2Fx%20y HTTP/1.1"]);
    }

    #[tokio::test]
    async fn given_addresses_that_are_no_rest_interface_then_they_are_refused() {
        for base in ["", "db:8080", "https://db", "mailto:x"] {
            assert!(matches!(job_figures(base, "j").await, Err(BenchError::Rest { .. })), "{base:?}");
        }
    }
}
