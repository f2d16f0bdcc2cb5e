//! Properties of an exchange reader: those of the operator that it stands for.

use std::sync::Arc;

use datafusion::common::{Result, internal_err, plan_err};
use datafusion::physical_expr::equivalence::{AcrossPartitions, EquivalenceClass, EquivalenceGroup};
use datafusion::physical_expr::{ConstExpr, EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::PlanProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, EvaluationType, SchedulingType};
use springald_proto::plan as proto;

use super::context::{DecodeContext, EncodeContext};
use super::values::{
    decode_constraints, decode_scalar, decode_schema, encode_constraints, encode_scalar, encode_schema,
};

/// Rebuilding simplifies what is said twice; properties that are still changed then are not sent.
const MOST_REBUILDS: usize = 3;

const EMISSIONS: [EmissionType; 3] = [EmissionType::Incremental, EmissionType::Final, EmissionType::Both];
const BOUNDEDNESS: [Boundedness; 3] = [
    Boundedness::Bounded,
    Boundedness::Unbounded { requires_infinite_memory: false },
    Boundedness::Unbounded { requires_infinite_memory: true },
];

pub(super) fn encode_properties(
    properties: &PlanProperties,
    context: &EncodeContext<'_>,
) -> Result<proto::PlanProperties> {
    let equivalences = properties.equivalence_properties();
    check_rebuilds(equivalences)?;
    let orderings: Vec<_> = equivalences.oeq_class().iter().cloned().collect();
    let classes = equivalences.eq_group().iter().map(|class| encode_class(equivalences, class, context));
    Ok(proto::PlanProperties {
        schema: encode_schema(equivalences.schema())?,
        partitioning: Some(context.partitioning(&properties.partitioning)?),
        orderings: context.orderings(&orderings)?,
        classes: classes.collect::<Result<_>>()?,
        constraints: encode_constraints(equivalences.constraints()),
        emission: place(&EMISSIONS, &properties.emission_type)?,
        boundedness: place(&BOUNDEDNESS, &properties.boundedness)?,
        eager: properties.evaluation_type == EvaluationType::Eager,
        cooperative: properties.scheduling_type == SchedulingType::Cooperative,
    })
}

fn place<T: PartialEq + std::fmt::Debug>(all: &[T], one: &T) -> Result<u32> {
    match all.iter().position(|other| other == one) {
        Some(place) => Ok(place as u32),
        None => plan_err!("{one:?} cannot be sent to executors"),
    }
}

pub(super) fn restore_properties(
    properties: &Option<proto::PlanProperties>,
    context: &DecodeContext<'_>,
) -> Result<PlanProperties> {
    let Some(properties) = properties else { return internal_err!("an exchange reader has no properties") };
    let schema = Arc::new(decode_schema(&properties.schema)?);
    let orderings = context.orderings(&properties.orderings, &schema)?;
    let mut equivalences = EquivalenceProperties::new_with_orderings(Arc::clone(&schema), orderings)
        .with_constraints(decode_constraints(&properties.constraints));
    let mut group = EquivalenceGroup::default();
    for class in &properties.classes {
        let members = context.expressions(&class.expressions, &schema)?;
        let constant = class.constant.as_ref().map(decode_constant).transpose()?;
        group.extend(single_class(&members, constant));
    }
    equivalences.add_equivalence_group(group)?;
    let known = EMISSIONS.get(properties.emission as usize).zip(BOUNDEDNESS.get(properties.boundedness as usize));
    let Some((emission, boundedness)) = known else { return internal_err!("an exchange reader's kind is unknown") };
    let partitioning = context.partitioning(&properties.partitioning, &schema)?;
    let evaluation = if properties.eager { EvaluationType::Eager } else { EvaluationType::Lazy };
    let scheduling = if properties.cooperative { SchedulingType::Cooperative } else { SchedulingType::NonCooperative };
    Ok(PlanProperties::new(equivalences, partitioning, *emission, *boundedness)
        .with_evaluation_type(evaluation)
        .with_scheduling_type(scheduling))
}

/// The constant of a class has no getter, and is read as one of the properties' constants.
fn constant_of(equivalences: &EquivalenceProperties, class: &EquivalenceClass) -> Option<AcrossPartitions> {
    let member = class.canonical_expr()?;
    let constant = equivalences.constants().into_iter().find(|constant| constant.expr.eq(member))?;
    Some(constant.across_partitions)
}

fn encode_class(
    equivalences: &EquivalenceProperties,
    class: &EquivalenceClass,
    context: &EncodeContext<'_>,
) -> Result<proto::EquivalenceClass> {
    let members: Vec<_> = class.iter().cloned().collect();
    let constant = match constant_of(equivalences, class) {
        None => None,
        Some(AcrossPartitions::Heterogeneous) => Some(proto::Constant { uniform: false, scalar: None }),
        Some(AcrossPartitions::Uniform(value)) => {
            Some(proto::Constant { uniform: true, scalar: value.as_ref().map(encode_scalar).transpose()? })
        }
    };
    Ok(proto::EquivalenceClass { expressions: context.expressions(&members)?, constant })
}

fn decode_constant(constant: &proto::Constant) -> Result<AcrossPartitions> {
    Ok(match (constant.uniform, &constant.scalar) {
        (false, _) => AcrossPartitions::Heterogeneous,
        (true, None) => AcrossPartitions::Uniform(None),
        (true, Some(scalar)) => AcrossPartitions::Uniform(Some(decode_scalar(scalar)?)),
    })
}

/// A group with one class. Groups are joined by common members only, and not by constants that happen to be equal.
fn single_class(members: &[Arc<dyn PhysicalExpr>], constant: Option<AcrossPartitions>) -> EquivalenceGroup {
    let mut group = EquivalenceGroup::new([EquivalenceClass::new(members.iter().cloned())]);
    if let (Some(first), Some(constant)) = (members.first(), constant) {
        group.add_constant(ConstExpr::new(Arc::clone(first), constant));
    }
    group
}

/// Fails if the equivalences would not be the same again.
fn check_rebuilds(equivalences: &EquivalenceProperties) -> Result<()> {
    match are_same(&rebuilt(equivalences)?, equivalences) {
        true => Ok(()),
        false => plan_err!("the properties {equivalences} cannot be sent to executors"),
    }
}

/// The same properties in a form that executors can be sent: without what DataFusion says twice.
///
/// # Errors
/// There is no such form.
pub fn sendable_properties(properties: &PlanProperties) -> Result<Arc<PlanProperties>> {
    let mut equivalences = properties.equivalence_properties().clone();
    for _ in 0..MOST_REBUILDS {
        let simpler = rebuilt(&equivalences)?;
        if are_same(&simpler, &equivalences) {
            let kind = (properties.emission_type, properties.boundedness);
            let made = PlanProperties::new(equivalences, properties.partitioning.clone(), kind.0, kind.1)
                .with_evaluation_type(properties.evaluation_type)
                .with_scheduling_type(properties.scheduling_type);
            return Ok(Arc::new(made));
        }
        equivalences = simpler;
    }
    plan_err!("the properties {equivalences} cannot be sent to executors")
}

/// What decoding makes of the equivalences.
fn rebuilt(equivalences: &EquivalenceProperties) -> Result<EquivalenceProperties> {
    let orderings: Vec<_> = equivalences.oeq_class().iter().cloned().collect();
    let mut rebuilt = EquivalenceProperties::new_with_orderings(Arc::clone(equivalences.schema()), orderings)
        .with_constraints(equivalences.constraints().clone());
    let mut group = EquivalenceGroup::default();
    for class in equivalences.eq_group().iter() {
        let (members, constant) = (class.iter().cloned().collect::<Vec<_>>(), constant_of(equivalences, class));
        // A column that is only equal to itself says nothing.
        if members.len() > 1 || constant.is_some() {
            group.extend(single_class(&members, constant));
        }
    }
    rebuilt.add_equivalence_group(group)?;
    Ok(rebuilt)
}

fn are_same(left: &EquivalenceProperties, right: &EquivalenceProperties) -> bool {
    let classes = |of: &EquivalenceProperties| of.eq_group().iter().cloned().collect::<Vec<_>>();
    left.oeq_class() == right.oeq_class()
        && classes(left) == classes(right)
        && left.output_ordering() == right.output_ordering()
}
