//! A short torment; the long one is `make chaos`.

use std::time::Duration;

use springald_tests::chaos::{self, Options};

#[tokio::test(flavor = "multi_thread")]
async fn given_half_a_minute_of_faults_then_no_query_is_lost_and_nothing_is_left() {
    let options = Options {
        minutes: 0.5,
        fault_every: Duration::from_secs(3),
        scale: "0.1".parse().expect("a scale factor"),
        streams: 2,
        schedulers: 3,
        executors: 4,
        slots: 1,
        memory: "512MiB".to_owned(),
        seed: None,
        faults: vec![],
        rolling: false,
        etcd_outage: None,
        measure: false,
        json: None,
        logs: None,
    };
    let Some(report) = chaos::run(&options).await else { return };
    println!("{:#}", report.to_json());
    if let Some(why) = &report.skipped {
        println!("SKIPPED: cut_scheduler, cut_executor: {why}");
    }
    assert!(report.is_clean(), "seed {}", report.seed);
}
