//! Generated types: the control protocol, the stored records, what crosses the exchange, stage plans, and how traces are exported.
//!
//! Plain data, no behaviour. What the fields mean is said in the `.proto` files beside this crate.
#![forbid(unsafe_code)]

#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
mod generated {
    pub mod control {
        pub mod v1 {
            tonic::include_proto!("springald.control.v1");
        }
    }
    pub mod exchange {
        pub mod v1 {
            tonic::include_proto!("springald.exchange.v1");
        }
    }
    pub mod plan {
        pub mod v1 {
            tonic::include_proto!("springald.plan.v1");
        }
    }
    pub mod otlp {
        tonic::include_proto!("opentelemetry.proto.collector.trace.v1");
    }
    pub mod records {
        pub mod v1 {
            tonic::include_proto!("springald.records.v1");
        }
    }
}

pub use generated::control::v1 as control;
pub use generated::exchange::v1 as exchange;
pub use generated::otlp;
pub use generated::plan::v1 as plan;
pub use generated::records::v1 as records;
