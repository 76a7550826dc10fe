//! A call's way through the layers.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use tokio::time::Instant;

use super::budget::{Amount, Budget, Refused};
use super::call::{Attempt, Call, Desk};
use super::context::CallContext;
use super::estimate::estimate;
use super::gate::Gate;
use super::lane::{Lane, ended};
use super::limiter::Permit;
use super::settings::{Fallback, Settings};
use crate::chat::{ChatEvent, ChatRequest, ChatResponse, ChatStream, Usage};
use crate::error::{ErrorClass, ModelError, OpenCause};
use crate::port::Model;

/// When it is known what calls under way cost, more or less.
const BUSY: Duration = Duration::from_secs(1);
/// Wait before the first try to connect again; it doubles.
const RECONNECT: Duration = Duration::from_millis(100);

/// The stack at work.
pub(crate) struct Running {
    pub(crate) settings: Settings,
    pub(crate) desk: Desk,
    pub(crate) budget: Budget,
    pub(crate) gate: Arc<Gate>,
    pub(crate) first: Lane,
    pub(crate) second: Option<Lane>,
}

impl Running {
    /// What the call is charged to, if the ledger is in order and the budget allows it.
    async fn accept(&self, request: &ChatRequest) -> Result<Arc<Call>, ModelError> {
        self.desk.books.settle().await?;
        let context = CallContext::of(request);
        let estimate = estimate(request, self.settings.expected_output_tokens);
        let most = self.most(&request.model, estimate)?;
        match self.budget.reserve(&context, most, (self.desk.now_ms)()) {
            Ok(reservation) => {
                self.gate.budget(None);
                Ok(Arc::new(Call { context, reservation, estimate }))
            }
            Err(Refused::Case(message)) => Err(ModelError::OverBudget { message }),
            Err(Refused::Busy(message)) => {
                Err(ModelError::BreakerOpen { cause: OpenCause::Budget, after: BUSY, message })
            }
            Err(Refused::Day(message, left_ms)) => {
                let after = Duration::from_millis(left_ms);
                self.gate.budget(Some(Instant::now() + after));
                Err(ModelError::BreakerOpen { cause: OpenCause::Budget, after, message })
            }
        }
    }

    /// What the call may cost at most.
    fn most(&self, model: &str, estimate: Usage) -> Result<Amount, ModelError> {
        let micros = match self.desk.prices.of(model) {
            Some(price) => price.cost_micros(estimate),
            None if counts_money(&self.settings) => return Err(without_price(model)),
            None => 0,
        };
        Ok(Amount { tokens: estimate.total_tokens(), micros })
    }

    async fn ask(&self, request: ChatRequest) -> Result<ChatResponse, ModelError> {
        let (error, (lane, fallback)) = match (self.ask_at(&self.first, &request).await, self.second()) {
            (Err(error), Some(second)) if is_down(&error) => (error, second),
            (result, _) => return result,
        };
        tracing::info!(model = fallback.model.name, %error, "the fallback is asked");
        self.ask_at(lane, &as_asked_of(fallback, request)).await.map_err(|other| worse(error, other))
    }

    async fn ask_at(&self, lane: &Lane, request: &ChatRequest) -> Result<ChatResponse, ModelError> {
        let call = self.accept(request).await?;
        let mut permit = self.permit(lane, &call).await?;
        let mut tries = 0;
        let (result, tokens) = loop {
            let attempt = self.begin(lane, &call, request, &mut permit)?;
            let result = lane.transport.chat(request.clone()).await;
            let tokens = attempt.end(result.as_ref()).await;
            match result {
                Ok(response) => break (Ok(response), tokens),
                Err(error) => match self.again(lane, error, &mut tries).await {
                    Ok(()) => {}
                    Err(error) => break (Err(error), tokens),
                },
            }
        };
        if let Some(permit) = permit {
            permit.took(tokens);
        }
        result.map(|response| ChatResponse { fallback_for: lane.stands_in_for.clone(), ..response })
    }

    /// Whether a failed call is made again, at once: only if it never arrived.
    async fn again(&self, lane: &Lane, error: ModelError, tries: &mut u32) -> Result<(), ModelError> {
        let unsent = matches!(error, ModelError::Connection { sent: false, .. });
        let error = lane.judged(error);
        if !unsent || error.is_breaker_open() || *tries >= self.settings.reconnects {
            return Err(error);
        }
        tokio::time::sleep(RECONNECT * (1 << (*tries).min(6))).await;
        *tries += 1;
        Ok(())
    }

    async fn open(&self, request: ChatRequest) -> Result<ChatStream<'_>, ModelError> {
        let (error, (lane, fallback)) = match (self.open_at(&self.first, &request).await, self.second()) {
            (Err(error), Some(second)) if is_down(&error) => (error, second),
            (result, _) => return result,
        };
        tracing::info!(model = fallback.model.name, %error, "the fallback is asked");
        self.open_at(lane, &as_asked_of(fallback, request)).await.map_err(|other| worse(error, other))
    }

    async fn open_at<'a>(&'a self, lane: &'a Lane, request: &ChatRequest) -> Result<ChatStream<'a>, ModelError> {
        let call = self.accept(request).await?;
        let mut permit = self.permit(lane, &call).await?;
        let mut tries = 0;
        let (error, tokens) = loop {
            let attempt = self.begin(lane, &call, request, &mut permit)?;
            match lane.transport.stream(request.clone()).await {
                Ok(events) => return Ok(Metered { events, attempt: Some(attempt), permit, lane }.into_stream()),
                Err(error) => {
                    let tokens = attempt.end(Err(&error)).await;
                    if let Err(error) = self.again(lane, error, &mut tries).await {
                        break (error, tokens);
                    }
                }
            }
        };
        if let Some(permit) = permit {
            permit.took(tokens);
        }
        Err(error)
    }

    async fn permit(&self, lane: &Lane, call: &Call) -> Result<Option<Permit>, ModelError> {
        let tenant = call.context.tenant.as_deref().unwrap_or_default();
        lane.permit(tenant, call.estimate.total_tokens(), self.settings.max_wait).await
    }

    fn begin<'a>(
        &'a self,
        lane: &'a Lane,
        call: &Arc<Call>,
        request: &ChatRequest,
        permit: &mut Option<Permit>,
    ) -> Result<Attempt<'a>, ModelError> {
        Attempt::begin(&self.desk, lane, call.clone(), &request.model).inspect_err(|_| {
            if let Some(permit) = permit.take() {
                permit.unused();
            }
        })
    }

    fn second(&self) -> Option<(&Lane, &Fallback)> {
        self.second.as_ref().zip(self.settings.fallback.as_ref())
    }
}

/// What the fallback is asked.
fn as_asked_of(fallback: &Fallback, request: ChatRequest) -> ChatRequest {
    ChatRequest {
        model: fallback.model.name.clone(),
        temperature: fallback.temperature.or(request.temperature),
        max_output_tokens: fallback.max_output_tokens.or(request.max_output_tokens),
        timeout: fallback.timeout.unwrap_or(request.timeout),
        ..request
    }
}

/// Whether a failure means that the model does not work, so that another may be asked.
fn is_down(error: &ModelError) -> bool {
    let left_alone = matches!(error, ModelError::BreakerOpen { cause: OpenCause::Failures, .. });
    left_alone || ended(error) == super::breaker::Ended::Badly
}

/// Which of the two models' failures the caller gets: the first one's, unless the fallback's says more than that it may
/// work later.
fn worse(first: ModelError, second: ModelError) -> ModelError {
    match second.class() {
        ErrorClass::Retryable { .. } => first,
        ErrorClass::Terminal | ErrorClass::Fatal => second,
    }
}

/// Whether any budget is in money.
pub(crate) fn counts_money(settings: &Settings) -> bool {
    let budgets = &settings.budgets;
    budgets.per_case.money_micros.is_some() || budgets.per_agent_per_day.money_micros.is_some()
}

pub(crate) fn without_price(model: &str) -> ModelError {
    let message = format!("a budget counts money, and the model `{model}` has no price; write one under `prices`");
    ModelError::Misconfigured { message }
}

impl Model for Running {
    fn chat<'a>(&'a self, request: ChatRequest) -> BoxFuture<'a, Result<ChatResponse, ModelError>> {
        self.ask(request).boxed()
    }

    fn stream<'a>(&'a self, request: ChatRequest) -> BoxFuture<'a, Result<ChatStream<'a>, ModelError>> {
        self.open(request).boxed()
    }
}

/// A stream whose end is written down.
struct Metered<'a> {
    events: ChatStream<'a>,
    attempt: Option<Attempt<'a>>,
    permit: Option<Permit>,
    lane: &'a Lane,
}

impl<'a> Metered<'a> {
    fn into_stream(self) -> ChatStream<'a> {
        stream::unfold(self, |mut metered| async move {
            let event = metered.events.next().await?;
            Some((metered.pass(event).await, metered))
        })
        .boxed()
    }

    async fn pass(&mut self, event: Result<ChatEvent, ModelError>) -> Result<ChatEvent, ModelError> {
        let response = match event {
            Ok(ChatEvent::Content(text)) => return Ok(ChatEvent::Content(text)),
            Ok(ChatEvent::Done(response)) => Ok(response),
            Err(error) => Err(error),
        };
        if let Some(attempt) = self.attempt.take() {
            let tokens = attempt.end(response.as_ref()).await;
            if let Some(permit) = self.permit.take() {
                permit.took(tokens);
            }
        }
        match response {
            Ok(response) => {
                Ok(ChatEvent::Done(ChatResponse { fallback_for: self.lane.stands_in_for.clone(), ..response }))
            }
            Err(error) => Err(self.lane.judged(error)),
        }
    }
}
