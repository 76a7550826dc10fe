//! Replays calls.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use futures::future::{BoxFuture, ready};
use futures::{FutureExt, StreamExt, stream};
use serde_json::Value;
use similar::TextDiff;

use super::CassetteError;
use super::file::{Recorded, asked, read};
use super::persons::{self, Marks};
use crate::chat::{ChatEvent, ChatRequest, ChatResponse, ChatStream};
use crate::error::ModelError;
use crate::port::Model;
use crate::secret::Secret;

/// Most recordings that a question is compared with.
const MAX_COMPARED: usize = 200;
/// Most lines of a difference that are shown, and the longest of them, in characters.
const MAX_SHOWN: (usize, usize) = (40, 200);

/// A model that answers from a cassette.
///
/// The same question gets its recorded answers in the order in which they were recorded, and the last of them for ever
/// after. A question that is not in the cassette is a fatal error that shows how it differs from the nearest one that is.
pub struct Player {
    path: PathBuf,
    recorded: Mutex<HashMap<String, VecDeque<Recorded>>>,
    questions: Vec<Value>,
    marks: Option<Marks>,
}

impl Player {
    /// Reads the cassette at `path`.
    ///
    /// # Errors
    /// [`CassetteError`] if it cannot be read, a line is no call, or holds what looks like a secret.
    pub fn open(path: &Path, keys: &[Secret]) -> Result<Self, CassetteError> {
        let mut recorded: HashMap<String, VecDeque<Recorded>> = HashMap::new();
        let mut questions = Vec::new();
        for line in read(path, keys)? {
            let answers = recorded.entry(line.asked.to_string()).or_default();
            if answers.is_empty() {
                questions.push(line.asked);
            }
            answers.push_back(line.recorded);
        }
        Ok(Self { path: path.to_owned(), recorded: Mutex::new(recorded), questions, marks: None })
    }

    /// With what told data of persons in an answer when it was recorded.
    #[must_use]
    pub fn with_marks(self, marks: Marks) -> Self {
        Self { marks: Some(marks), ..self }
    }

    fn answer(&self, request: &ChatRequest) -> Result<ChatResponse, ModelError> {
        let misconfigured = |error: CassetteError| ModelError::Misconfigured { message: error.to_string() };
        let (concealed, hidden) = persons::concealed(request, self.marks.as_ref()).map_err(misconfigured)?;
        let asked = asked(&concealed);
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = recorded.get_mut(&asked.to_string()).and_then(|answers| match answers.len() {
            0 | 1 => answers.front().cloned(),
            _ => answers.pop_front(),
        });
        drop(recorded);
        match answer {
            Some(mut answer) => {
                hidden.reveal(&mut answer);
                answer.into_result()
            }
            None => Err(ModelError::Misconfigured { message: self.difference(&asked) }),
        }
    }

    /// How `asked` differs from the recording that is most like it.
    fn difference(&self, asked: &Value) -> String {
        let path = self.path.display();
        let now = lines(asked);
        let like = |question: &&Value| {
            let before = lines(question);
            // As a whole number, so that it can be compared.
            (TextDiff::from_lines(&before, &now).ratio() * 1e6) as u64
        };
        let Some(nearest) = self.questions.iter().take(MAX_COMPARED).max_by_key(like) else {
            return format!("the cassette {path} is empty, and something was asked; record it anew");
        };
        let before = lines(nearest);
        let all = TextDiff::from_lines(&before, &now)
            .unified_diff()
            .context_radius(1)
            .header("recorded", "asked")
            .to_string();
        let mut shown: Vec<String> =
            all.lines().take(MAX_SHOWN.0).map(|l| l.chars().take(MAX_SHOWN.1).collect()).collect();
        if all.lines().count() > shown.len() {
            shown.push("…".to_owned());
        }
        format!("the cassette {path} has no such call; record it anew. The nearest one differs:\n{}", shown.join("\n"))
    }
}

/// One value a line; texts too, line by line.
fn lines(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    format!("{}\n", text.replace("\\n", "\n"))
}

impl Model for Player {
    fn chat<'a>(&'a self, request: ChatRequest) -> BoxFuture<'a, Result<ChatResponse, ModelError>> {
        ready(self.answer(&request)).boxed()
    }

    fn stream<'a>(&'a self, request: ChatRequest) -> BoxFuture<'a, Result<ChatStream<'a>, ModelError>> {
        let events = self.answer(&request).map(|response| {
            let events = [ChatEvent::Content(response.content.clone()), ChatEvent::Done(response)];
            stream::iter(events.map(Ok)).boxed()
        });
        ready(events).boxed()
    }
}

impl std::fmt::Debug for Player {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Player").field("path", &self.path).field("questions", &self.questions.len()).finish()
    }
}
