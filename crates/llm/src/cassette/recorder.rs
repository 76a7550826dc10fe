//! Records calls.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

use super::file::{Line, Recorded, asked};
use super::persons::{self, Hidden, Marks};
use super::{CassetteError, secrets};
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
    marks: Option<Marks>,
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
        Ok(Self { endpoint, path: path.to_owned(), file: Mutex::new(file), keys, marks: None })
    }

    /// With what tells data of persons in an answer. That of a request is told by the request.
    #[must_use]
    pub fn with_marks(self, marks: Marks) -> Self {
        Self { marks: Some(marks), ..self }
    }

    fn record(&self, asked: &ChatRequest, result: Result<&ChatResponse, &ModelError>) -> Result<(), ModelError> {
        let Some(recorded) = Recorded::of(result) else { return Ok(()) };
        self.line(asked, recorded)
            .and_then(|line| self.write(line))
            .map_err(|error| ModelError::Misconfigured { message: error.to_string() })
    }

    /// The call without data of persons.
    fn line(&self, request: &ChatRequest, mut recorded: Recorded) -> Result<Line, CassetteError> {
        let (concealed, mut hidden): (ChatRequest, Hidden) = persons::concealed(request, self.marks.as_ref())?;
        if let (Some(marks), Recorded::Answered(response)) = (&self.marks, &recorded) {
            hidden = hidden.and(persons::marked_in(request, response, marks))?;
        }
        hidden.conceal(&mut recorded);
        Ok(Line { asked: asked(&concealed), recorded })
    }

    fn write(&self, line: Line) -> Result<(), CassetteError> {
        let failed = |source| CassetteError::File { path: self.path.clone(), source };
        let value = serde_json::to_value(line).map_err(|error| failed(error.into()))?;
        if let Some(found) = secrets::find(&value, &self.keys) {
            return Err(CassetteError::Secret { path: self.path.clone(), found });
        }
        let text = format!("{value}\n");
        self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(text.as_bytes()).map_err(failed)
    }

    async fn open_stream(&self, request: ChatRequest) -> Result<ChatStream<'_>, ModelError> {
        let asked = request.clone();
        let events = match self.endpoint.stream(request).await {
            Ok(events) => events,
            Err(error) => {
                self.record(&asked, Err(&error))?;
                return Err(error);
            }
        };
        let recorded = events.map(move |event| {
            match &event {
                Ok(ChatEvent::Content(_)) => {}
                Ok(ChatEvent::Done(response)) => self.record(&asked, Ok(response))?,
                Err(error) => self.record(&asked, Err(error))?,
            }
            event
        });
        Ok(recorded.boxed())
    }
}

impl Model for Recorder {
    fn chat<'a>(&'a self, request: ChatRequest) -> BoxFuture<'a, Result<ChatResponse, ModelError>> {
        async move {
            let asked = request.clone();
            let result = self.endpoint.chat(request).await;
            self.record(&asked, result.as_ref())?;
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
