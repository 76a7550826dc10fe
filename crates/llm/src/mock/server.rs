//! The HTTP side, and the state behind it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio_util::sync::CancellationToken;

use super::answer::{self, Reply};
use super::bounded::Recent;
use super::config::{MockConfig, MockError};
use super::deliver;
use super::fault::{self, Delivery};
use super::known::Known;
use super::limit::Bucket;
use super::refusal::Refusal;
use super::request::Call;
use super::rules::{Match, Rules};
use super::script::Fault;
use super::stats::{CallRecord, Calls, Counts, Stats};
use super::template::Source;
use super::vendor::Vendor;
use super::{seeded, wire};
use crate::chat::Usage;

/// Largest request read, in bytes.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;
/// Of how many of the latest requests it is known how often they came.
const MAX_REQUESTS: usize = 200_000;

/// The state behind the routes.
#[derive(Debug)]
pub(super) struct Mock {
    config: MockConfig,
    rules: Rules,
    history: Mutex<History>,
    counts: Mutex<Counts>,
    calls: Mutex<Calls>,
    vendor: Mutex<Vendor>,
    limit: Option<Mutex<Bucket>>,
    schemas: Known,
    stop: CancellationToken,
}

/// What came before, as far as answers depend on it.
#[derive(Debug)]
struct History {
    attempts: Recent<u64>,
    /// How often a rule was used for a request.
    used: Recent<(usize, u64)>,
}

/// What becomes of a call, and when.
struct Decision<'a> {
    delivery: Delivery,
    latency: Duration,
    rule: Option<&'a str>,
    outcome: &'static str,
    attempt: u32,
}

impl Mock {
    pub(super) fn new(mut config: MockConfig, stop: CancellationToken) -> Result<Self, MockError> {
        let rules = Rules::compile(std::mem::take(&mut config.rules))?;
        let vendor = Vendor::new(std::mem::take(&mut config.vendor), config.seed);
        let calls = Mutex::new(Calls::new(config.keep_calls));
        let limit = config.limit.map(|limit| Mutex::new(Bucket::new(limit, Instant::now())));
        let history = History { attempts: Recent::new(MAX_REQUESTS), used: Recent::new(MAX_REQUESTS) };
        Ok(Self {
            config,
            rules,
            history: Mutex::new(history),
            counts: Mutex::default(),
            calls,
            vendor: Mutex::new(vendor),
            limit,
            schemas: Known::default(),
            stop,
        })
    }

    pub(super) fn stats(&self) -> Stats {
        let registry = lock(&self.vendor).stats();
        lock(&self.counts).stats(registry)
    }

    pub(super) fn calls(&self) -> Vec<CallRecord> {
        lock(&self.calls).latest()
    }

    async fn chat(&self, headers: &HeaderMap, body: &[u8]) -> Response {
        let call = match self.authorize(headers).and_then(|()| Call::read(headers, body, &self.schemas)) {
            Ok(call) => call,
            Err(refusal) => {
                tracing::debug!(status = refusal.status, reason = refusal.message, "the mock refused a request");
                lock(&self.counts).unread(if refusal.status == 401 { "unauthorized" } else { "bad_request" });
                return refusal.into_response();
            }
        };
        if let Some(Err(refusal)) = self.limit.as_ref().map(|limit| lock(limit).take(Instant::now())) {
            lock(&self.counts).call(&call, None, "rate_limited", Usage::default());
            lock(&self.calls).add(&call, Duration::ZERO, refusal.retry_after.as_deref());
            return refusal.into_response();
        }
        let decision = self.decide(&call);
        let usage = match &decision.delivery {
            Delivery::Whole(reply) | Delivery::Cut(reply) => reply.usage,
            Delivery::NotJson | Delivery::Hang | Delivery::Refused(_) => Usage::default(),
        };
        lock(&self.counts).call(&call, decision.rule, decision.outcome, usage);
        match &decision.delivery {
            // It is answered at once.
            Delivery::Refused(refusal) => {
                lock(&self.calls).add(&call, Duration::ZERO, refusal.retry_after.as_deref());
            }
            _ => lock(&self.calls).add(&call, decision.latency, None),
        }
        tracing::debug!(
            agent = call.agent,
            correlation_id = call.correlation_id,
            schema = call.schema_name(),
            rule = decision.rule,
            outcome = decision.outcome,
            attempt = decision.attempt,
            latency_ms = u64::try_from(decision.latency.as_millis()).unwrap_or(u64::MAX),
            "the mock took a call"
        );
        deliver::send(decision.delivery, &call, decision.latency, self.stop.clone()).await
    }

    fn authorize(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(key) = &self.config.api_key else { return Ok(()) };
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if given.and_then(|given| given.strip_prefix("Bearer ")) == Some(key.expose()) {
            return Ok(());
        }
        let message = "Incorrect API key provided.";
        Err(Refusal::new(401, "invalid_request_error", message).code("invalid_api_key"))
    }

    /// What becomes of the call. Fault and latency are drawn anew for each time the request comes; the answer is not.
    fn decide<'a>(&'a self, call: &Call) -> Decision<'a> {
        let mut history = lock(&self.history);
        let attempt = history.attempts.next(call.key);
        let found = self.rules.find(call, |index, times| history.used.count((index, call.key)) >= times);
        let scripted = found.as_ref().and_then(|found| found.rule.fault.clone());
        let fault =
            scripted.clone().or_else(|| seeded::fault(&self.config.faults, &mut self.rng("fault", call, attempt)));
        // A fault by chance does not use a rule up.
        let used = found.as_ref().filter(|_| fault.is_none() || scripted.is_some());
        if let Some(found) = used.filter(|found| found.rule.times.is_some()) {
            history.used.next((found.index, call.key));
        }
        drop(history);
        let latency = found.as_ref().and_then(|found| found.rule.latency).unwrap_or(self.config.latency);
        let latency = seeded::latency(latency, &mut self.rng("latency", call, attempt));
        let rule = used.map(|found| found.rule.name.as_str());
        let (delivery, outcome) = self.delivery(call, found, fault.as_ref());
        Decision { delivery, latency, rule, outcome, attempt: attempt.saturating_add(1) }
    }

    fn delivery(&self, call: &Call, found: Option<Match<'_, '_>>, fault: Option<&Fault>) -> (Delivery, &'static str) {
        if !self.config.models.is_empty() && !self.config.models.contains(&call.model) {
            return (Delivery::Refused(fault::unknown_model(&call.model)), "unknown_model");
        }
        match (self.reply(call, found), fault) {
            (Ok(reply), Some(fault)) => (fault::apply(fault, call, reply), fault.kind()),
            // What nobody scripted can still fail as it is told to.
            (Err(_), Some(fault)) => (fault::apply(fault, call, Reply::text("")), fault.kind()),
            (Ok(reply), None) => (Delivery::Whole(reply), "answered"),
            (Err(refusal), None) => (Delivery::Refused(refusal), "not_scripted"),
        }
    }

    fn reply(&self, call: &Call, found: Option<Match<'_, '_>>) -> Result<Reply, Refusal> {
        // Not by attempt: a call that is repeated after a crash hears the same again.
        let mut rng = self.rng("answer", call, 0);
        let scripted = found.and_then(|found| Some((found.rule, found.rule.answer.as_ref()?, found.groups)));
        let reply = match scripted {
            Some((rule, answer, groups)) => {
                let source = Source::new(&call.last_user, groups);
                answer::scripted(rule, answer, call, &source, &mut rng)
            }
            None => answer::made_up(call, &mut rng)?,
        };
        Ok(reply.counted(call))
    }

    fn rng(&self, purpose: &str, call: &Call, attempt: u32) -> rand::rngs::StdRng {
        seeded::rng(self.config.seed, &[purpose.as_bytes(), &call.key.to_be_bytes(), &attempt.to_be_bytes()])
    }

    async fn check(&self, headers: &HeaderMap, body: &[u8]) -> Response {
        let answered = lock(&self.vendor).check(headers, body);
        match answered {
            Ok(answered) => {
                tokio::time::sleep(answered.delay).await;
                Json(answered.check).into_response()
            }
            Err(refusal) => refusal.into_response(),
        }
    }

    /// The response, unless the server stops first.
    async fn until_stopped(&self, response: impl Future<Output = Response>) -> Response {
        tokio::select! {
            response = response => response,
            () = self.stop.cancelled() => {
                Refusal::new(503, "server_error", "The mock server is stopping.").into_response()
            }
        }
    }
}

/// The routes.
pub(super) fn router(mock: Arc<Mock>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/models", get(models))
        .route("/registry/checks", post(check))
        .route("/mock/stats", get(stats))
        .route("/mock/calls", get(calls))
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(|| async { Refusal::new(404, "invalid_request_error", "Unknown request URL.") })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(mock)
}

async fn chat(
    State(mock): State<Arc<Mock>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let body = read(body)?;
    Ok(mock.until_stopped(mock.chat(&headers, &body)).await)
}

async fn check(
    State(mock): State<Arc<Mock>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let body = read(body)?;
    Ok(mock.until_stopped(mock.check(&headers, &body)).await)
}

async fn models(State(mock): State<Arc<Mock>>, headers: HeaderMap) -> Result<Response, Refusal> {
    mock.authorize(&headers)?;
    Ok(Json(wire::models(&mock.config.models)).into_response())
}

async fn stats(State(mock): State<Arc<Mock>>) -> Response {
    Json(mock.stats()).into_response()
}

async fn calls(State(mock): State<Arc<Mock>>) -> Response {
    Json(mock.calls()).into_response()
}

/// The body, or why there is none: too large, or broken off.
fn read(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Refusal> {
    body.map_err(|error| Refusal::new(error.status().as_u16(), "invalid_request_error", error.body_text()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
