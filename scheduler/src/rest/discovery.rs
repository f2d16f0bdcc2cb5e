//! Where the metrics of the cluster are, for Prometheus' HTTP service discovery.

use std::collections::BTreeMap;

use serde::Serialize;
use springald_proto::records::{ExecutorRecord, SchedulerRecord};
use utoipa::ToSchema;

/// A process with metrics, in the form that Prometheus' `http_sd_configs` reads.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct TargetJson {
    /// Its host:port; one.
    pub targets: Vec<String>,
    /// `service`, `instance` and `cluster`, as in its events.
    pub labels: BTreeMap<String, String>,
}

/// The processes of these records. Records with the same address are of one process, as `standalone` has several roles.
pub(super) fn targets(
    cluster: &str,
    schedulers: Vec<SchedulerRecord>,
    executors: Vec<ExecutorRecord>,
) -> Vec<TargetJson> {
    let schedulers = schedulers.into_iter().map(|record| (record.telemetry_address, "scheduler", record.scheduler_id));
    let executors = executors.into_iter().map(|record| (record.telemetry_address, "executor", record.executor_id));
    let mut processes: BTreeMap<String, (&str, String)> = BTreeMap::new();
    for (address, service, id) in schedulers.chain(executors).filter(|(address, ..)| !address.is_empty()) {
        processes
            .entry(address)
            .and_modify(|(known, _)| {
                if *known != service {
                    *known = "standalone";
                }
            })
            .or_insert((service, id));
    }
    let target = |(address, (service, instance)): (String, (&str, String))| {
        let labels = [("service", service.to_owned()), ("instance", instance), ("cluster", cluster.to_owned())];
        let labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        TargetJson { targets: vec![address], labels }
    };
    processes.into_iter().map(target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheduler(id: &str, address: &str) -> SchedulerRecord {
        let (scheduler_id, telemetry_address) = (id.to_owned(), address.to_owned());
        SchedulerRecord { scheduler_id, telemetry_address, ..SchedulerRecord::default() }
    }

    fn executor(id: &str, address: &str) -> ExecutorRecord {
        let (executor_id, telemetry_address) = (id.to_owned(), address.to_owned());
        ExecutorRecord { executor_id, telemetry_address, ..ExecutorRecord::default() }
    }

    #[test]
    fn given_processes_then_each_is_a_target_and_those_without_metrics_are_none() {
        let found = targets("c", vec![scheduler("s", "a:1")], vec![executor("e", "b:2"), executor("f", "")]);
        let json = serde_json::to_string(&found).expect("JSON");
        assert_eq!(
            json,
            r#"[{"targets":["a:1"],"labels":{"cluster":"c","instance":"s","service":"scheduler"}},{"targets":["b:2"],"labels":{"cluster":"c","instance":"e","service":"executor"}}]"#
        );
    }

    #[test]
    fn given_roles_in_one_process_then_it_is_one_target() {
        let found = targets("c", vec![scheduler("s", "a:1")], vec![executor("e", "a:1"), executor("f", "a:1")]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].labels["service"], "standalone");
    }
}
