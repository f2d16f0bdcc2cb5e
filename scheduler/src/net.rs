//! Binding ports, with errors that name the setting.

use std::net::{IpAddr, SocketAddr};

use springald_core::error::{Error, ErrorCode, Result};
use tokio::net::TcpListener;

/// Listens on `ip:port`; port 0 takes a free one. `setting` is named in errors.
pub(crate) async fn listen(ip: &str, port: u16, setting: &str) -> Result<(TcpListener, SocketAddr)> {
    let ip: IpAddr = ip.parse().map_err(|_| Error::invalid(format!("{ip:?} is not an IP address (scheduler.bind)")))?;
    let failed = |error: std::io::Error| {
        let what = match error.kind() {
            std::io::ErrorKind::AddrInUse => format!("port {port} is in use already"),
            _ => format!("cannot listen on {ip}:{port}"),
        };
        Error::new(ErrorCode::Unavailable, format!("{what}: choose another one with {setting} (0: any free one)"))
            .with_source(error)
    };
    let listener = TcpListener::bind((ip, port)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// host:port under which others reach a bound address.
pub(crate) fn advertised(advertise: &str, address: SocketAddr) -> String {
    if advertise.is_empty() { address.to_string() } else { format!("{advertise}:{}", address.port()) }
}
