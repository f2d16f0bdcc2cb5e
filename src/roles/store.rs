//! Opens the state store that the settings name.

use std::sync::Arc;

use springald_core::error::{Error, Result};
use springald_core::ids::ClusterName;
use springald_core::settings::ClusterSettings;
use springald_scheduler::store::StateStore;
use springald_scheduler::store::embedded::EmbeddedStore;
use springald_scheduler::store::etcd::{EtcdOptions, EtcdStore};
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
    let user = match settings.etcd_user.as_str() {
        "" => None,
        user => {
            let path = &settings.etcd_password_file;
            let password = std::fs::read_to_string(path).map_err(|error| {
                Error::invalid(format!("cannot read the password of etcd's user from {}", path.display()))
                    .with_source(error)
            })?;
            Some((user.to_owned(), password.trim_end().to_owned()))
        }
    };
    let options = EtcdOptions {
        endpoints: settings.etcd.clone(),
        prefix: format!("/springald/{cluster}/"),
        user,
        tls: None,
        connect_deadline: settings.connect_deadline.0,
        request_timeout: settings.request_timeout.0,
    };
    Ok(Arc::new(Metered::new(Arc::new(EtcdStore::connect(options).await?))))
}
