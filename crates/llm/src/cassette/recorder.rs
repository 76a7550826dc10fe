//! Records calls.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use serde_json::Value;

use super::file::{Line, Recorded, asked};
use super::{CassetteError, Mask, secrets};
use crate::chat::{ChatEvent, ChatRequest, ChatResponse, ChatStream};
use crate::error::ModelError;
use crate::port::Model;
use crate::secret::Secret;

/// A model that writes down what another one answers. A call that cannot be written down fails, and stops the agent.
pub struct Recorder {
    endpoint: Arc<dyn Model>,
    path: PathBuf,
    file: Mutex<File>,
    keys: Vec<Secret>,
    mask: Option<Mask>,
}

impl Recorder {
    /// Appends to the file at `path`, which may not be there yet. `keys` are values that must not be in it.
    ///
    /// # Errors
    /// [`CassetteError::File`] if it cannot be written.
    pub fn open(path: &Path, endpoint: Arc<dyn Model>, keys: Vec<Secret>) -> Result<Self, CassetteError> {
        // Appended to line by line: processes that share a file do not mix their lines.
        let file = OpenOptions::new().append(true).create(true).open(path);
        let file = file.map_err(|source| CassetteError::File { path: path.to_owned(), source })?;
        Ok(Self { endpoint, path: path.to_owned(), file: Mutex::new(file), keys, mask: None })
    }

    /// With a mask for what is written.
    #[must_use]
    pub fn with_mask(self, mask: Mask) -> Self {
        Self { mask: Some(mask), ..self }
    }

    fn record(&self, asked: Value, result: Result<&ChatResponse, &ModelError>) -> Result<(), ModelError> {
        let Some(recorded) = Recorded::of(result) else { return Ok(()) };
        self.write(Line { asked, recorded }).map_err(|error| ModelError::Misconfigured { message: error.to_string() })
    }

    fn write(&self, line: Line) -> Result<(), CassetteError> {
        let failed = |source| CassetteError::File { path: self.path.clone(), source };
        let mut value = serde_json::to_value(line).map_err(|error| failed(error.into()))?;
        if let Some(mask) = &self.mask {
            mask(&mut value);
        }
        if let Some(found) = secrets::find(&value, &self.keys) {
            return Err(CassetteError::Secret { path: self.path.clone(), found });
        }
        let text = format!("{value}\n");
        self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(text.as_bytes()).map_err(failed)
    }

    async fn open_stream(&self, request: ChatRequest) -> Result<ChatStream<'_>, ModelError> {
        let asked = asked(&request);
        let events = match self.endpoint.stream(request).await {
            Ok(events) => events,
            Err(error) => {
                self.record(asked, Err(&error))?;
                return Err(error);
            }
        };
        let recorded = events.map(move |event| {
            match &event {
                Ok(ChatEvent::Content(_)) => {}
                Ok(ChatEvent::Done(response)) => self.record(asked.clone(), Ok(response))?,
                Err(error) => self.record(asked.clone(), Err(error))?,
            }
            event
        });
        Ok(recorded.boxed())
    }
}

impl Model for Recorder {
    fn chat<'a>(&'a self, request: ChatRequest) -> BoxFuture<'a, Result<ChatResponse, ModelError>> {
        async move {
            let asked = asked(&request);
            let result = self.endpoint.chat(request).await;
            self.record(asked, result.as_ref())?;
            result
        }
        .boxed()
    }

    fn stream<'a>(&'a self, request: ChatRequest) -> BoxFuture<'a, Result<ChatStream<'a>, ModelError>> {
        self.open_stream(request).boxed()
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("path", &self.path).finish_non_exhaustive()
    }
}
