//! A directory, an S3-compatible store or memory, by the `object_store` crate.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use anabranch_protocol::claim::Sha256;
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt as _, RetryConfig};

use crate::Limits;
use crate::error::ClaimError;
use crate::store::{Store, Stored};

/// The folder below which content lies: `sha256/9f/9f86…`.
const FOLDER: &str = "sha256";

/// Where content lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory that every process sees under this path.
    Directory(PathBuf),
    /// A bucket of an S3-compatible store, and what names in it begin with. Endpoint, region and credentials come from
    /// the environment (`AWS_…`).
    S3 {
        /// The bucket.
        bucket: String,
        /// Empty, or segments separated by `/`.
        prefix: String,
    },
    /// This process's memory, for tests.
    Memory,
}

/// Opens a store. No network; a directory that is not there is made.
///
/// # Errors
/// If it cannot be used as it is configured.
pub fn open(location: &Location, limits: Limits) -> Result<Arc<dyn Store>, ClaimError> {
    let (store, prefix): (Arc<dyn ObjectStore>, &str) = match location {
        Location::Directory(path) => (Arc::new(directory(path)?), ""),
        Location::S3 { bucket, prefix } => (Arc::new(s3(bucket, limits)?), prefix),
        Location::Memory => (Arc::new(InMemory::new()), ""),
    };
    let prefix = Path::parse(prefix).map_err(|error| ClaimError::Config(format!("{prefix:?}: {error}")))?;
    Ok(Arc::new(Objects { store, prefix, location: location.clone() }))
}

/// Content is written beside its place, synchronised to the disk with its folder, and moved there: another process sees
/// it whole or not at all, and what was acknowledged survives a crash of the host.
fn directory(path: &std::path::Path) -> Result<LocalFileSystem, ClaimError> {
    let config = |error: &dyn fmt::Display| ClaimError::Config(format!("{}: {error}", path.display()));
    std::fs::create_dir_all(path).map_err(|error| config(&error))?;
    let store = LocalFileSystem::new_with_prefix(path).map_err(|error| config(&error))?;
    Ok(store.with_fsync(true))
}

fn s3(bucket: &str, limits: Limits) -> Result<object_store::aws::AmazonS3, ClaimError> {
    // Whoever names an endpoint without TLS wants none.
    let endpoint =
        ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"].iter().find_map(|n| std::env::var(n).ok());
    let plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let client = ClientOptions::new().with_timeout(limits.timeout).with_connect_timeout(limits.timeout);
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        // Retries have one owner, and it is whoever calls.
        .with_retry(RetryConfig { max_retries: 0, retry_timeout: limits.timeout, ..RetryConfig::default() })
        .with_client_options(client);
    if plain {
        builder = builder.with_allow_http(true);
    }
    builder.build().map_err(|error| ClaimError::Config(error.to_string()))
}

/// Content in an object store.
struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    location: Location,
}

/// Without the client, which holds credentials.
impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Objects").field(&self.location).finish()
    }
}

impl Objects {
    fn folder(&self) -> Path {
        self.prefix.clone().join(FOLDER)
    }

    fn path(&self, name: &Sha256) -> Path {
        self.folder().join(&name.as_str()[..2]).join(name.as_str())
    }

    async fn read(&self, name: &Sha256, bytes: u64) -> Result<Bytes, ClaimError> {
        let found = self.store.get(&self.path(name)).await.map_err(|error| classified(error, name))?;
        if found.meta.size != bytes {
            return Err(ClaimError::Mismatch { sha256: name.clone() });
        }
        let mut content = BytesMut::with_capacity(usize::try_from(bytes).unwrap_or_default());
        let mut stream = found.into_stream();
        while let Some(piece) = stream.next().await {
            content.extend_from_slice(&piece.map_err(|error| classified(error, name))?);
            // What a store says of the length, and what it sends, are two things.
            if content.len() as u64 > bytes {
                return Err(ClaimError::Mismatch { sha256: name.clone() });
            }
        }
        Ok(content.freeze())
    }
}

impl Store for Objects {
    fn put<'a>(&'a self, name: &'a Sha256, content: Bytes) -> BoxFuture<'a, Result<(), ClaimError>> {
        async move {
            let put = self.store.put(&self.path(name), content.into()).await;
            put.map(|_| ()).map_err(|error| classified(error, name))
        }
        .boxed()
    }

    fn get<'a>(&'a self, name: &'a Sha256, bytes: u64) -> BoxFuture<'a, Result<Bytes, ClaimError>> {
        self.read(name, bytes).boxed()
    }

    fn list(&self) -> BoxStream<'_, Result<Stored, ClaimError>> {
        let found = self.store.list(Some(&self.folder()));
        let stored = found.filter_map(async |meta| match meta {
            // What somebody else put beside it is left alone.
            Ok(meta) => {
                let name = meta.location.filename()?.parse().ok()?;
                Some(Ok(Stored { name, bytes: meta.size, at: meta.last_modified.into() }))
            }
            Err(error) => Some(Err(ClaimError::Unavailable(Box::new(error)))),
        });
        stored.boxed()
    }

    fn remove<'a>(&'a self, name: &'a Sha256) -> BoxFuture<'a, Result<(), ClaimError>> {
        async move {
            match self.store.delete(&self.path(name)).await.map_err(|error| classified(error, name)) {
                Err(ClaimError::NotFound { .. }) => Ok(()),
                other => other,
            }
        }
        .boxed()
    }
}

fn classified(error: object_store::Error, name: &Sha256) -> ClaimError {
    match error {
        object_store::Error::NotFound { .. } => ClaimError::NotFound { sha256: name.clone() },
        other => ClaimError::Unavailable(Box::new(other)),
    }
}
