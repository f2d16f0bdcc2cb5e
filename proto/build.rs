//! Generates the Rust types of the protocols.
fn main() -> std::io::Result<()> {
    tonic_prost_build::configure().bytes(".springald.control.v1.StagePlan.plan").compile_protos(
        &[
            "proto/control.proto",
            "proto/exchange.proto",
            "proto/plan_values.proto",
            "proto/plan.proto",
            "proto/records.proto",
            "proto/otlp.proto",
        ],
        &["proto"],
    )
}
