//! REST as a script sees it: over HTTP, against a scheduler without executors.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::Scheduler;
use crate::flight_sql::tests::{end, scheduler};

/// Status and body of the answer.
async fn request(scheduler: &Scheduler, method: &str, path: &str) -> (u16, serde_json::Value) {
    let (status, _, body) = answer(scheduler, method, path).await;
    (status, body)
}

/// Status, head (in small letters) and body of the answer.
async fn answer(scheduler: &Scheduler, method: &str, path: &str) -> (u16, String, serde_json::Value) {
    let mut connection = TcpStream::connect(scheduler.rest_address()).await.expect("connection");
    let head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    connection.write_all(head.as_bytes()).await.expect("request");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.expect("answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("status");
    (status, head.to_lowercase(), serde_json::from_str(body).unwrap_or_default())
}

async fn run(scheduler: &Scheduler, sql: &str) -> std::result::Result<JobId, Error> {
    let engine = scheduler.engine();
    let session = engine.sessions().anonymous("ann");
    let context = crate::engine::QueryContext::new(session, "ann".to_owned(), None);
    let submitted = engine.submit(sql, &context).await?;
    let mut batches = engine.results(&submitted.job_id, &crate::engine::Resume::default()).await?.stream;
    while let Some(batch) = futures::StreamExt::next(&mut batches).await {
        batch.map_err(Error::from)?;
    }
    Ok(submitted.job_id)
}

#[tokio::test]
async fn given_jobs_they_are_listed_page_by_page_and_by_state() {
    let scheduler = scheduler().await;
    let mut ids = vec![];
    for _ in 0..3 {
        ids.push(run(&scheduler, "SELECT 1 AS a").await.expect("job").to_string());
    }
    let (status, first) = request(&scheduler, "GET", "/api/v1/jobs?limit=2&state=succeeded").await;
    assert_eq!(status, 200);
    let next = first["next"].as_str().expect("there is more");
    let (_, second) = request(&scheduler, "GET", &format!("/api/v1/jobs?limit=2&after={next}&state=succeeded")).await;
    let listed: Vec<&str> = [&first, &second]
        .into_iter()
        .flat_map(|page| page["jobs"].as_array().expect("jobs"))
        .map(|job| job["id"].as_str().expect("id"))
        .collect();
    assert_eq!(listed, ids);
    let (_, none) = request(&scheduler, "GET", "/api/v1/jobs?state=failed").await;
    assert_eq!(none["jobs"].as_array().map(Vec::len), Some(0));
    end(scheduler).await;
}

#[tokio::test]
async fn given_a_job_it_is_shown_and_one_that_is_not_there_is_a_404() {
    let scheduler = scheduler().await;
    let id = run(&scheduler, "SELECT 1 AS a").await.expect("job");
    let (status, job) = request(&scheduler, "GET", &format!("/api/v1/jobs/{id}")).await;
    assert_eq!((status, &job["sql"], &job["user"]), (200, &"SELECT 1 AS a".into(), &"ann".into()));
    assert_eq!(job["state"], "succeeded");
    for (method, path, expected) in [
        ("GET", "/api/v1/jobs/none", 404),
        ("DELETE", "/api/v1/jobs/none", 404),
        ("GET", "/api/v1/jobs/..%2Fx", 400),
        ("GET", "/api/v1/jobs/%FF", 400),
        ("DELETE", "/api/v1/jobs/%FF", 400),
        ("POST", "/api/v1/executors/%FF/drain", 400),
        ("GET", "/api/v1/jobs?state=done", 400),
        ("GET", "/api/v1/jobs?status=failed", 400),
        ("GET", "/api/v1/jobs?state=failed&state=queued", 400),
        ("GET", "/api/v1/jobs?limit=1001", 400),
        ("GET", "/nothing", 404),
        ("POST", "/api/v1/jobs", 405),
        ("DELETE", "/health", 405),
    ] {
        let (status, body) = request(&scheduler, method, path).await;
        assert_eq!(status, expected, "{method} {path}: {body}");
        assert!(body["code"].as_str().is_some_and(|code| code.starts_with("SPRINGALD_")), "{method} {path}: {body}");
    }
    let (status, _) = request(&scheduler, "DELETE", &format!("/api/v1/jobs/{id}")).await;
    assert_eq!(status, 204);
    end(scheduler).await;
}

#[tokio::test]
async fn given_a_method_that_a_path_does_not_have_then_the_answer_says_which_it_has() {
    let scheduler = scheduler().await;
    for (path, allowed) in [
        ("/api/v1/jobs", "allow: get,head"),
        ("/api/v1/jobs/none", "allow: get,head,delete"),
        ("/api/v1/openapi.json", "allow: get,head"),
    ] {
        let (status, head, body) = answer(&scheduler, "PUT", path).await;
        assert_eq!((status, &body["code"]), (405, &"SPRINGALD_UNSUPPORTED".into()), "{path}");
        assert!(head.lines().any(|line| line == allowed), "{path}: {head}");
    }
    end(scheduler).await;
}

#[tokio::test]
async fn given_a_parameter_that_there_is_not_then_the_error_names_it_and_those_that_there_are() {
    let scheduler = scheduler().await;
    let (status, body) = request(&scheduler, "GET", "/api/v1/jobs?status=failed").await;
    assert_eq!((status, &body["code"]), (400, &"SPRINGALD_INVALID".into()));
    let message = body["message"].as_str().expect("a message");
    for named in ["status", "state", "limit", "after"] {
        assert!(message.contains(&format!("`{named}`")), "{named}: {message}");
    }
    end(scheduler).await;
}

#[tokio::test]
async fn given_a_scheduler_without_executors_it_lives_is_listed_and_is_not_ready() {
    let scheduler = scheduler().await;
    assert_eq!(request(&scheduler, "GET", "/health").await.0, 200);
    let (status, body) = request(&scheduler, "GET", "/ready").await;
    assert_eq!((status, &body["code"]), (503, &"SPRINGALD_UNAVAILABLE".into()));
    let (_, schedulers) = request(&scheduler, "GET", "/api/v1/schedulers").await;
    assert_eq!(schedulers.as_array().map(Vec::len), Some(1));
    assert!(schedulers[0]["flight_sql_address"].as_str().is_some_and(|address| address.contains(':')));
    let (_, executors) = request(&scheduler, "GET", "/api/v1/executors").await;
    assert_eq!(executors.as_array().map(Vec::len), Some(0));
    let (status, document) = request(&scheduler, "GET", "/api/v1/openapi.json").await;
    assert_eq!((status, document["openapi"].is_string()), (200, true));
    end(scheduler).await;
}

fn query(state: Option<&str>, limit: Option<&str>, after: Option<&str>) -> JobsQuery {
    let own = |text: Option<&str>| text.map(str::to_owned);
    JobsQuery { state: own(state), limit: own(limit), after: own(after) }
}

#[test]
fn given_no_parameters_the_first_hundred_jobs_are_meant() {
    let filter = query(None, None, None).filter().expect("filter");
    assert_eq!((filter.limit, filter.state, filter.after), (DEFAULT_LIMIT, None, None));
}

#[test]
fn given_parameters_they_are_checked() {
    let filter = query(Some("failed"), Some("1000"), Some("0192")).filter().expect("filter");
    assert_eq!((filter.limit, filter.state), (1000, Some(JobStatus::Failed)));
    for bad in [
        query(Some("done"), None, None),
        query(None, Some("0"), None),
        query(None, Some("1001"), None),
        query(None, Some("x"), None),
        query(None, None, Some("../x")),
    ] {
        assert!(bad.filter().is_err(), "{bad:?} was accepted");
    }
}

#[test]
fn given_the_openapi_document_it_has_every_route_and_type() {
    let document = serde_json::to_value(Documented::openapi()).expect("JSON");
    for path in [
        "/api/v1/jobs",
        "/api/v1/jobs/{id}",
        "/api/v1/executors",
        "/api/v1/executors/{id}/drain",
        "/api/v1/schedulers",
        "/api/v1/discovery/prometheus",
        "/api/v1/openapi.json",
        "/health",
        "/ready",
    ] {
        assert!(document["paths"].get(path).is_some(), "{path} is not described");
    }
    assert!(document["paths"]["/api/v1/jobs/{id}"].get("delete").is_some());
    for schema in ["JobJson", "StageJson", "ErrorJson", "ExecutorJson", "SchedulerJson", "JobsJson"] {
        assert!(document["components"]["schemas"].get(schema).is_some(), "{schema} is not described");
    }
}

#[test]
fn given_the_openapi_document_then_what_asks_the_store_may_say_that_it_is_away() {
    let document = serde_json::to_value(Documented::openapi()).expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    let alone = ["/api/v1/openapi.json", "/health"];
    for (path, item) in paths.iter().filter(|(path, _)| !alone.contains(&path.as_str())) {
        for (method, operation) in item.as_object().expect("operations") {
            assert!(operation["responses"].get("503").is_some(), "{method} {path}");
        }
    }
}
