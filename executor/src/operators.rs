//! Metrics of operators, as they are reported with a task's success.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::{Metric, MetricValue};
use springald_proto::control::{self, MetricUnit};

/// Whose metrics are wanted.
#[derive(Clone, Copy)]
pub(crate) enum Wanted<'a> {
    /// All: the plan instance was executed by one task.
    All,
    /// Those of these partitions: others of the same instance belong to other tasks.
    Partitions(&'a [u32]),
}

impl Wanted<'_> {
    fn includes(self, metric: &Metric) -> bool {
        match (self, metric.partition()) {
            (Self::All, _) => true,
            (Self::Partitions(partitions), Some(partition)) => {
                u32::try_from(partition).is_ok_and(|partition| partitions.contains(&partition))
            }
            (Self::Partitions(_), None) => false,
        }
    }
}

/// The metrics of `plan` and all below it, in pre-order; each operator's by name, without those that are zero.
pub(crate) fn of_plan(plan: &Arc<dyn ExecutionPlan>, wanted: Wanted<'_>) -> Vec<control::OperatorMetrics> {
    let mut operators = vec![];
    collect(plan, wanted, &mut operators);
    operators
}

fn collect(plan: &Arc<dyn ExecutionPlan>, wanted: Wanted<'_>, operators: &mut Vec<control::OperatorMetrics>) {
    let mut sums = Sums::default();
    if let Some(metrics) = plan.metrics() {
        for metric in metrics.iter().filter(|metric| wanted.includes(metric)) {
            sums.add(metric.value());
        }
    }
    operators.push(sums.into_proto());
    for child in plan.children() {
        collect(child, wanted, operators);
    }
}

/// Values by name. An operator has one metric of a name per partition.
#[derive(Default)]
pub(crate) struct Sums(BTreeMap<String, (u64, MetricUnit)>);

impl Sums {
    /// Adds `value` in `unit` to the metric `name`.
    pub(crate) fn add_value(&mut self, name: &str, value: u64, unit: MetricUnit) {
        if value > 0 {
            let sum = self.0.entry(name.to_owned()).or_insert((0, unit));
            sum.0 = sum.0.saturating_add(value);
        }
    }

    fn add(&mut self, value: &MetricValue) {
        let name = value.name();
        match value {
            // Points in time cannot be summed.
            MetricValue::StartTimestamp(_) | MetricValue::EndTimestamp(_) => {}
            MetricValue::PruningMetrics { pruning_metrics, .. } => {
                self.add_value(&format!("{name}_pruned"), pruning_metrics.pruned() as u64, MetricUnit::Count);
                self.add_value(&format!("{name}_matched"), pruning_metrics.matched() as u64, MetricUnit::Count);
            }
            MetricValue::Ratio { ratio_metrics, .. } => {
                self.add_value(&format!("{name}_part"), ratio_metrics.part() as u64, MetricUnit::Count);
                self.add_value(&format!("{name}_total"), ratio_metrics.total() as u64, MetricUnit::Count);
            }
            _ => self.add_value(name, value.as_usize() as u64, unit(value)),
        }
    }

    /// The sums as they are sent.
    pub(crate) fn into_proto(self) -> control::OperatorMetrics {
        let metrics =
            self.0.into_iter().map(|(name, (value, unit))| control::Metric { name, value, unit: unit.into() });
        control::OperatorMetrics { metrics: metrics.collect() }
    }
}

fn unit(value: &MetricValue) -> MetricUnit {
    match value {
        MetricValue::ElapsedCompute(_) | MetricValue::Time { .. } => MetricUnit::Nanoseconds,
        MetricValue::SpilledBytes(_)
        | MetricValue::OutputBytes(_)
        | MetricValue::CurrentMemoryUsage(_)
        | MetricValue::PeakMemoryUsage { .. } => MetricUnit::Bytes,
        MetricValue::Count { name, .. } | MetricValue::Gauge { name, .. } if name.contains("bytes") => {
            MetricUnit::Bytes
        }
        _ => MetricUnit::Count,
    }
}
