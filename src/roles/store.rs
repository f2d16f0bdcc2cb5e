//! Opens the state store that the settings name.

use std::path::Path;
use std::sync::Arc;

use springald_core::error::{Error, Result};
use springald_core::ids::ClusterName;
use springald_core::settings::ClusterSettings;
use springald_scheduler::store::StateStore;
use springald_scheduler::store::embedded::EmbeddedStore;
use springald_scheduler::store::etcd::{EtcdIdentity, EtcdOptions, EtcdStore, EtcdTls};
use springald_scheduler::store::metered::Metered;

/// The store of a single process: in memory, or in the data directory.
pub fn embedded(settings: &ClusterSettings) -> Result<Arc<dyn StateStore>> {
    if settings.data_dir.as_os_str().is_empty() {
        return Ok(Arc::new(Metered::new(Arc::new(EmbeddedStore::in_memory()?))));
    }
    std::fs::create_dir_all(&settings.data_dir).map_err(|error| {
        Error::invalid(format!("cannot make the data directory {}", settings.data_dir.display())).with_source(error)
    })?;
    let store = EmbeddedStore::open(&settings.data_dir.join("state.redb"))?;
    Ok(Arc::new(Metered::new(Arc::new(store))))
}

/// The store of a cluster.
pub async fn etcd(settings: &ClusterSettings) -> Result<Arc<dyn StateStore>> {
    if settings.etcd.is_empty() {
        return Err(Error::invalid(
            "a cluster needs etcd: give --etcd URL (cluster.etcd), or run `springald standalone`, which needs no server",
        ));
    }
    let cluster: ClusterName = settings.name.parse()?;
    let options = EtcdOptions {
        endpoints: settings.etcd.clone(),
        prefix: format!("/springald/{cluster}/"),
        user: user(settings)?,
        tls: tls(settings)?,
        connect_deadline: settings.connect_deadline.0,
        request_timeout: settings.request_timeout.0,
    };
    Ok(Arc::new(Metered::new(Arc::new(EtcdStore::connect(options).await?))))
}

fn user(settings: &ClusterSettings) -> Result<Option<(String, String)>> {
    if settings.etcd_user.is_empty() {
        return Ok(None);
    }
    let path = &settings.etcd_password_file;
    let password = std::fs::read_to_string(path).map_err(|error| {
        let message =
            format!("cannot read the password of etcd's user from {:?} (cluster.etcd_password_file)", path.display());
        Error::invalid(message).with_source(error)
    })?;
    Ok(Some((settings.etcd_user.clone(), password.trim_end().to_owned())))
}

fn tls(settings: &ClusterSettings) -> Result<Option<EtcdTls>> {
    let given = |path: &Path| (!path.as_os_str().is_empty()).then(|| path.to_owned());
    let identity = match (given(&settings.etcd_cert_file), given(&settings.etcd_key_file)) {
        (Some(cert), Some(key)) => Some(EtcdIdentity { cert, key }),
        (None, None) => None,
        _ => return Err(Error::invalid("cluster.etcd_cert_file and cluster.etcd_key_file go together")),
    };
    match (given(&settings.etcd_ca_file), identity) {
        (Some(ca), identity) => Ok(Some(EtcdTls { ca, identity })),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Error::invalid(
            "a certificate for etcd (cluster.etcd_cert_file) needs the authority of etcd's own (cluster.etcd_ca_file)",
        )),
    }
}
