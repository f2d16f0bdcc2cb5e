//! `include_dir!` does not tell cargo which files it read.

fn main() {
    for path in ["clickhouse", "grafana", "nats", "prometheus", "../vector/vrl"] {
        println!("cargo::rerun-if-changed={path}");
    }
}
