//! The KYC flow on Restate: a workflow for each case that calls the agents, services whose calls are durable. Restate
//! takes requests from Kafka by a subscription; what leaves is produced to Kafka in a `ctx.run`.
//!
//! Environment: BROKERS, MODEL_URL, IN_TOPIC, OUT_TOPIC; PARTITIONS; REPLICAS; SETTLE_MS before fraud judges; LISTEN, where the
//! Restate server finds the service. `peer-restate topics` only creates the topics.

mod kafka;
mod kyc;
mod model;

use std::sync::Arc;
use std::time::Duration;

use restate_sdk::prelude::*;
use serde_json::{Map, Value, json};

use crate::kafka::Kafka;
use crate::kyc::{AGENTS, Check, History, Traits, Verdict};
use crate::model::Model;

/// What all services share.
struct Shared {
    model: Model,
    kafka: Kafka,
    history: History,
    settle: Duration,
}

/// Supervisor and composer: its run is a case. A key runs once, so a request that comes twice is one case.
struct Case(Arc<Shared>);

#[restate_sdk::workflow]
impl Case {
    #[handler]
    async fn run(&self, ctx: WorkflowContext<'_>, body: Vec<u8>) -> Result<(), HandlerError> {
        let case = ctx.key().to_owned();
        let request = match serde_json::from_slice::<Value>(&body) {
            Ok(request) if kyc::readable(&request) => request,
            _ => {
                let kafka = &self.0.kafka;
                ctx.run(|| async { Ok(kafka.send_bytes(&kafka.dead_letters, &case, body.clone()).await?) })
                    .name("dead letter")
                    .await?;
                return Ok(());
            }
        };
        self.0.history.add(&case, &request);
        let opened_at =
            ctx.run(|| async { Ok(Json(chrono::Utc::now().timestamp_millis())) }).name("plan").await?.into_inner();
        let mut parts = Map::new();
        let mut asks: Vec<(String, Option<String>)> = AGENTS.iter().map(|a| ((*a).to_owned(), None)).collect();
        let mut round = 0;
        let outcome = loop {
            // All calls are sent before the first is waited for.
            let mut calls = Vec::new();
            for (agent, question) in &asks {
                let task =
                    json!({ "agent": agent, "case": case, "round": round, "question": question, "request": request });
                calls.push(ctx.service_client::<AgentClient>().work(Json(task)).call());
            }
            for call in calls {
                let part = call.await?.into_inner();
                if let Some(alert) = kyc::alert(&case, &part).filter(|_| round == 0) {
                    let kafka = &self.0.kafka;
                    ctx.run(|| async { Ok(kafka.send(&kafka.alerts, &case, &alert).await?) }).name("alert").await?;
                }
                parts.insert(model::text(&part["agent"]).to_owned(), part);
            }
            match kyc::compose(&case, &parts, round, opened_at) {
                Verdict::Outcome(outcome) => break outcome,
                Verdict::FollowUp(again) => asks = again.into_iter().map(|(a, q)| (a, Some(q))).collect(),
            }
            round += 1;
        };
        let kafka = &self.0.kafka;
        ctx.run(|| async { Ok(kafka.send(&kafka.out, &case, &outcome).await?) }).name("outcome").await?;
        let task = json!({ "case": case, "request": request, "outcome": outcome });
        ctx.service_client::<CustomerClient>().write(Json(task)).send();
        Ok(())
    }
}

/// The four checks. Each call is an invocation of its own, with its own journal and retries.
struct Agent(Arc<Shared>);

#[restate_sdk::service]
impl Agent {
    #[handler]
    async fn work(&self, ctx: Context<'_>, Json(task): Json<Value>) -> Result<Json<Value>, HandlerError> {
        let (agent, case, request) = (model::text(&task["agent"]), model::text(&task["case"]), &task["request"]);
        if agent == "fraud" {
            if !self.0.settle.is_zero() {
                ctx.sleep(self.0.settle).await?;
            }
            let own = Traits::of(request);
            let judged = ctx.run(|| async {
                let (related, compared_with) = self.0.history.related(case, &own);
                Ok(Json(kyc::fraud(&own, &related, compared_with)))
            });
            return Ok(judged.name("history").await?);
        }
        let check = Check::question(agent, request, &task);
        let mut answers = Vec::new();
        for (schema, question) in &check.questions {
            let asked = ctx.run(|| async { Ok(Json(self.0.model.ask(agent, case, schema, question).await?)) });
            answers.push(asked.name(*schema).await?.into_inner());
        }
        Ok(Json(check.answered(answers)))
    }
}

/// Once there is an outcome. It has no vote.
struct Customer(Arc<Shared>);

#[restate_sdk::service]
impl Customer {
    #[handler]
    async fn write(&self, ctx: Context<'_>, Json(task): Json<Value>) -> Result<(), HandlerError> {
        let (case, asked) = (model::text(&task["case"]), kyc::customer_asks(&task["outcome"]));
        let draft =
            ctx.run(|| async { Ok(Json(self.0.model.ask("customer", case, "customer_message", &asked).await?)) });
        let letter = kyc::letter(case, &task["request"], &asked, &draft.name("customer_message").await?.into_inner());
        let kafka = &self.0.kafka;
        ctx.run(|| async { Ok(kafka.send(&kafka.messages, case, &letter).await?) }).name("message").await?;
        Ok(())
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let kafka = Kafka::from_env(i32::try_from(number("PARTITIONS", 6))?).await?;
    if std::env::args().nth(1).as_deref() == Some("topics") {
        return Ok(());
    }
    kyc::load(&std::env::var("KYC_DATA")?);
    let settle = Duration::from_millis(number("SETTLE_MS", 2000));
    let shared = Arc::new(Shared { model: Model::from_env(), kafka, history: History::default(), settle });
    let endpoint =
        Endpoint::builder().bind(Case(shared.clone())).bind(Agent(shared.clone())).bind(Customer(shared)).build();
    HttpServer::new(endpoint).listen_and_serve(std::env::var("LISTEN")?.parse()?).await;
    Ok(())
}
