//! Comparison of the properties of operators: partitioning, orderings, equivalences, requirements.

use std::sync::Arc;

use datafusion::physical_expr::equivalence::{AcrossPartitions, EquivalenceClass};
use datafusion::physical_expr::{
    ConstExpr, EquivalenceProperties, LexOrdering, LexRequirement, OrderingRequirements, Partitioning, PhysicalSortExpr,
};
use datafusion::physical_plan::{Distribution, ExecutionPlan, PlanProperties};

use super::Comparison;
use super::report::{Check, Located, Stop, differs, same};
use super::values::{scalars, scalars_equal};

impl Comparison<'_> {
    pub(super) fn properties(&mut self, left: &Arc<PlanProperties>, right: &Arc<PlanProperties>) -> Check {
        if Arc::ptr_eq(left, right) {
            return Ok(());
        }
        same("boundedness", &left.boundedness, &right.boundedness)?;
        same("emission_type", &left.emission_type, &right.emission_type)?;
        same("evaluation_type", &left.evaluation_type, &right.evaluation_type)?;
        same("scheduling_type", &left.scheduling_type, &right.scheduling_type)?;
        self.partitionings("partitioning", &left.partitioning, &right.partitioning)?;
        self.optional_orderings("output_ordering", left.output_ordering(), right.output_ordering())?;
        self.equivalences(&left.eq_properties, &right.eq_properties)
    }

    pub(super) fn partitionings(&mut self, field: &str, left: &Partitioning, right: &Partitioning) -> Check {
        match (left, right) {
            (Partitioning::RoundRobinBatch(left), Partitioning::RoundRobinBatch(right))
            | (Partitioning::UnknownPartitioning(left), Partitioning::UnknownPartitioning(right)) => {
                same(field, left, right)
            }
            (Partitioning::Hash(left, left_count), Partitioning::Hash(right, right_count)) => {
                same(field, left_count, right_count)?;
                self.expressions(field, left, right)
            }
            (Partitioning::Range(left), Partitioning::Range(right)) => {
                self.orderings(field, left.ordering(), right.ordering())?;
                let (left, right) = (left.split_points(), right.split_points());
                same("number of split points", &left.len(), &right.len()).located(|| field.to_owned())?;
                let mut pairs = left.iter().zip(right);
                pairs.try_for_each(|(left, right)| scalars(field, left.values(), right.values()))
            }
            _ => Err(differs(field, left, right)),
        }
    }

    pub(super) fn optional_orderings(
        &mut self,
        field: &str,
        left: Option<&LexOrdering>,
        right: Option<&LexOrdering>,
    ) -> Check {
        match (left, right) {
            (Some(left), Some(right)) => self.orderings(field, left, right),
            (None, None) => Ok(()),
            _ => Err(differs(field, &left, &right)),
        }
    }

    pub(super) fn orderings(&mut self, field: &str, left: &[PhysicalSortExpr], right: &[PhysicalSortExpr]) -> Check {
        if left.len() != right.len() {
            return Err(differs(field, &left, &right));
        }
        for (left, right) in left.iter().zip(right) {
            same("options", &left.options, &right.options).located(|| field.to_owned())?;
            self.expression(&left.expr, &right.expr).located(|| field.to_owned())?;
        }
        Ok(())
    }

    pub(super) fn lists_of_orderings(&mut self, field: &str, left: &[LexOrdering], right: &[LexOrdering]) -> Check {
        same("number of orderings", &left.len(), &right.len()).located(|| field.to_owned())?;
        let mut pairs = left.iter().zip(right);
        pairs.try_for_each(|(left, right)| self.orderings(field, left, right))
    }

    /// The caches within are derived from what is compared here.
    fn equivalences(&mut self, left: &EquivalenceProperties, right: &EquivalenceProperties) -> Check {
        self.schemas("schema of equivalences", left.schema(), right.schema())?;
        same("constraints", left.constraints(), right.constraints())?;
        let orderings = (left.oeq_class().iter().collect::<Vec<_>>(), right.oeq_class().iter().collect::<Vec<_>>());
        self.as_sets("equivalent orderings", &orderings.0, &orderings.1, &|comparison, left, right| {
            comparison.orderings("equivalent orderings", left, right)
        })?;
        let classes = (left.eq_group().iter().collect::<Vec<_>>(), right.eq_group().iter().collect::<Vec<_>>());
        if classes.0.is_empty() && classes.1.is_empty() {
            return Ok(());
        }
        let constants = (left.constants(), right.constants());
        self.as_sets("equivalence classes", &classes.0, &classes.1, &|comparison, left, right| {
            comparison.classes((left, &constants.0), (right, &constants.1))
        })
    }

    fn classes(&mut self, left: (&EquivalenceClass, &[ConstExpr]), right: (&EquivalenceClass, &[ConstExpr])) -> Check {
        let members = (left.0.iter().collect::<Vec<_>>(), right.0.iter().collect::<Vec<_>>());
        self.as_sets("equivalence class", &members.0, &members.1, &|comparison, left, right| {
            comparison.expression(left, right)
        })?;
        let (left, right) = (constant(left.0, left.1), constant(right.0, right.1));
        let equal = match (&left, &right) {
            (Some(AcrossPartitions::Uniform(Some(left))), Some(AcrossPartitions::Uniform(Some(right)))) => {
                scalars_equal(left, right)
            }
            _ => left == right,
        };
        if equal { Ok(()) } else { Err(differs("constant", &left, &right)) }
    }

    /// Compares two lists in which no element is twice, in any order.
    fn as_sets<T: std::fmt::Debug>(
        &mut self,
        field: &str,
        left: &[T],
        right: &[T],
        compare: &dyn Fn(&mut Self, &T, &T) -> Check,
    ) -> Check {
        if left.len() != right.len() {
            return Err(differs(field, &left, &right));
        }
        let mut rest: Vec<&T> = right.iter().collect();
        for element in left {
            let mut found = None;
            for (index, candidate) in rest.iter().enumerate() {
                if self.is_equal(|comparison| compare(comparison, element, candidate))? {
                    found = Some(index);
                    break;
                }
            }
            match found {
                Some(index) => rest.remove(index),
                None => return Err(differs(field, &left, &right)),
            };
        }
        Ok(())
    }

    /// Returns whether a part is equal, without a trace of it if it is not.
    fn is_equal(&mut self, compare: impl FnOnce(&mut Self) -> Check) -> Result<bool, Box<Stop>> {
        let mark = self.identities.mark();
        match compare(self) {
            Ok(()) => Ok(true),
            Err(stop) if stop.is_difference() => {
                self.identities.reset(mark);
                Ok(false)
            }
            Err(stop) => Err(stop),
        }
    }

    /// Compares what the operators require of their children.
    pub(super) fn requirements(&mut self, left: &Arc<dyn ExecutionPlan>, right: &Arc<dyn ExecutionPlan>) -> Check {
        let distributions = (left.input_distribution_requirements(), right.input_distribution_requirements());
        let (mut one, mut other) =
            (distributions.0.per_child_distributions(), distributions.1.per_child_distributions());
        same("number of required distributions", &one.len(), &other.len())?;
        while let (Some(left), Some(right)) = (one.next(), other.next()) {
            self.distributions(left, right)?;
        }
        let orderings = (left.required_input_ordering(), right.required_input_ordering());
        same("number of required orderings", &orderings.0.len(), &orderings.1.len())?;
        let mut pairs = orderings.0.iter().zip(&orderings.1);
        pairs.try_for_each(|(left, right)| self.required_orderings(left.as_ref(), right.as_ref()))
    }

    fn distributions(&mut self, left: &Distribution, right: &Distribution) -> Check {
        const FIELD: &str = "required distribution";
        match (left, right) {
            (Distribution::UnspecifiedDistribution, Distribution::UnspecifiedDistribution)
            | (Distribution::SinglePartition, Distribution::SinglePartition) => Ok(()),
            (Distribution::KeyPartitioned(left), Distribution::KeyPartitioned(right)) => {
                self.expressions(FIELD, left, right)
            }
            _ => Err(differs(FIELD, left, right)),
        }
    }

    fn required_orderings(
        &mut self,
        left: Option<&OrderingRequirements>,
        right: Option<&OrderingRequirements>,
    ) -> Check {
        const FIELD: &str = "required ordering";
        match (left, right) {
            (Some(OrderingRequirements::Hard(left)), Some(OrderingRequirements::Hard(right)))
            | (Some(OrderingRequirements::Soft(left)), Some(OrderingRequirements::Soft(right))) => {
                same("number of alternatives", &left.len(), &right.len()).located(|| FIELD.to_owned())?;
                let mut pairs = left.iter().zip(right);
                pairs.try_for_each(|(left, right)| self.requirement(left, right)).located(|| FIELD.to_owned())
            }
            (None, None) => Ok(()),
            _ => Err(differs(FIELD, &left, &right)),
        }
    }

    fn requirement(&mut self, left: &LexRequirement, right: &LexRequirement) -> Check {
        same("number of expressions", &left.len(), &right.len())?;
        for (left, right) in left.iter().zip(right.iter()) {
            same("options", &left.options, &right.options)?;
            self.expression(&left.expr, &right.expr)?;
        }
        Ok(())
    }
}

/// The field is private. Constants are listed with each member of their class, the same object.
fn constant<'a>(class: &EquivalenceClass, constants: &'a [ConstExpr]) -> Option<&'a AcrossPartitions> {
    let member = class.canonical_expr()?;
    let constant = constants.iter().find(|constant| Arc::ptr_eq(&constant.expr, member))?;
    Some(&constant.across_partitions)
}
