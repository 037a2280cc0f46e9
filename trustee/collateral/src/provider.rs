//! Where documents come from.

use async_trait::async_trait;
use cocoon_evidence::collateral::{Document, Need};

use crate::Error;

/// A source of one vendor's documents.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Its name for people: a host, a folder, a file.
    fn name(&self) -> &str;

    /// The document for a need that passed [`Need::check`].
    ///
    /// # Errors
    /// [`Error::NotFound`] where the source says that there is none, also for a kind it never has; the caller then asks the
    /// next. It must end by itself within its own limits of time and size.
    async fn fetch(&self, need: &Need) -> Result<Document, Error>;
}
