//! TLS, SASL and ACLs of a real Apache Kafka: every mechanism on both clients, agents with no more rights than
//! `anabranch acls` prints, and what a person is told when something is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod secured_kafka;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anabranch_e2e::{App, KYC_AGENTS, binaries, demo_cases, kyc};
use anabranch_kafka::{
    Cluster, Error, FetchConfig, Header, NewTopic, OutRecord, Position, ProducerConfig, TopicPartition,
};
use anabranch_testkit::cluster::{TestCluster, foreign};
use bytes::Bytes;

use secured_kafka::{SESSION_MS, Secured, client, has_secret, password, token};

type Env = Vec<(String, String)>;

/// One broker for all: starting it is the slow part.
#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_with_tls_sasl_and_acls() {
    let users = [KYC_AGENTS, &["user-256", "user-512"]].concat();
    let Some(kafka) = Secured::start(&users) else { return };
    every_mechanism_works_on_both_clients(&kafka).await;
    let mut app = application(&kafka).await;
    what_is_wrong_is_said_at_once(&kafka, &mut app).await;
    the_printed_rights_are_enough(&kafka, &mut app).await;
    an_agent_is_denied_anothers_topics(&kafka, &mut app).await;
    mutual_tls_is_enough_too(&kafka, &mut app).await;
    for process in app.processes.values() {
        assert!(!has_secret(&process.log()), "{} tells a secret", process.name());
    }
}

async fn every_mechanism_works_on_both_clients(kafka: &Secured) {
    let (topic, plain) = ("mechanisms", client(&kafka.plain, &[]));
    create(&plain, topic).await;
    kafka.shell(&format!(
        "kafka-acls.sh --bootstrap-server {} --add --allow-principal User:plain --allow-principal User:user-256 \
         --allow-principal User:user-512 --allow-principal User:bearer --allow-principal User:CN=certified \
         --operation Read --operation Write --topic {topic}",
        kafka.plain
    ));
    let bearer = token("bearer", &kafka.path(""));
    let ways: Vec<(&str, &str, Env)> = vec![
        ("PLAIN", &kafka.sasl_ssl, kafka.user("PLAIN", "plain", &password("plain"))),
        ("SCRAM-SHA-256", &kafka.sasl_ssl, kafka.user("SCRAM-SHA-256", "user-256", &password("user-256"))),
        ("SCRAM-SHA-512", &kafka.sasl_ssl, kafka.scram("user-512")),
        ("OAUTHBEARER", &kafka.sasl_ssl, kafka.bearer(&bearer)),
        ("mutual TLS", &kafka.ssl, kafka.mutual(Some("certified"))),
    ];
    let all = ways.into_iter().map(|(way, bootstrap, env)| {
        let cluster = client(bootstrap, &env);
        tokio::spawn(async move { writes_and_reads_over_several_sessions(way, &cluster, topic).await })
    });
    for way in all.collect::<Vec<_>>() {
        way.await.unwrap();
    }
}

/// Longer than two sessions: a broker closes the connection of a client that does not authenticate again.
async fn writes_and_reads_over_several_sessions(way: &str, cluster: &Cluster, topic: &str) {
    let producer = cluster.producer(ProducerConfig::default());
    let until = Instant::now() + Duration::from_millis(SESSION_MS * 5 / 2);
    let mut offsets = Vec::new();
    while Instant::now() < until {
        // The second one is not for rskafka, which has no null headers.
        for headers in [vec![], vec![Header { name: "null".into(), value: None }]] {
            let (key, topic) = (Some(Bytes::from(way.to_owned())), topic.to_owned());
            let record = OutRecord { topic, key, headers, partition: Some(0), ..OutRecord::default() };
            let sent = producer.send(record).await;
            offsets.push(sent.unwrap_or_else(|e| panic!("{way}: {e}")).offset);
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    let mut fetcher = cluster.fetcher(FetchConfig::default());
    fetcher.add(TopicPartition::new(topic, 0), Position::Earliest);
    let mut seen = Vec::new();
    while seen.len() < offsets.len() {
        let fetched = tokio::time::timeout(Duration::from_secs(10), fetcher.next()).await.unwrap().unwrap();
        let mine = fetched.records.iter().filter(|r| r.key.as_deref() == Some(way.as_bytes()));
        seen.extend(mine.map(|r| r.offset));
    }
    assert_eq!(seen, offsets, "{way}: each once, in order");
    println!("{way}: {} records over {SESSION_MS} ms sessions", seen.len());
}

async fn create(cluster: &Cluster, topic: &str) {
    let name = topic.to_owned();
    let new = NewTopic { name, partitions: 1, replication_factor: 1, configs: BTreeMap::new() };
    for (_, created) in cluster.admin().create_topics(vec![new]).await.unwrap() {
        created.unwrap();
    }
}

/// The reference application with its topics, as an operator creates them; no process runs yet.
async fn application(kafka: &Secured) -> App {
    let app = App::prepare_on(TestCluster::at(kafka.plain.clone()), kyc()).await.unwrap();
    app.create_topics(KYC_AGENTS).await.unwrap();
    app
}

/// Each of these ends the agent within seconds, not with 0, and with words that help.
async fn what_is_wrong_is_said_at_once(kafka: &Secured, app: &mut App) {
    let mut no_mechanism = kafka.scram("identity");
    no_mechanism.retain(|(name, _)| !name.ends_with("SASL_MECHANISM"));
    let mut no_file = kafka.scram("identity");
    no_file.push(("ANABRANCH_KAFKA_SASL_PASSWORD_FILE".into(), "/no/such/file".into()));
    let wrong = kafka.user("SCRAM-SHA-512", "identity", &password("somebody-else"));
    let cases: Vec<(&str, &str, Env, &str)> = vec![
        ("wrong-password", &kafka.sasl_ssl, wrong, "SaslAuthenticationFailed"),
        ("bad-token", &kafka.sasl_ssl, kafka.bearer("s3cret-of-nobody.e30."), "SaslAuthenticationFailed"),
        ("wrong-authority", &kafka.sasl_ssl, kafka.wrong_authority("identity"), "ANABRANCH_KAFKA_SSL_CA_FILE"),
        ("no-certificate", &kafka.ssl, kafka.mutual(None), "client certificate"),
        ("no-tls", &kafka.ssl, vec![], "speaks TLS"),
        ("no-mechanism", &kafka.sasl_ssl, no_mechanism, "ANABRANCH_KAFKA_SASL_MECHANISM"),
        ("no-password-file", &kafka.sasl_ssl, no_file, "ANABRANCH_KAFKA_SASL_PASSWORD_FILE"),
    ];
    let anabranch = binaries(&[]).unwrap().join("anabranch");
    for (name, bootstrap, env, words) in cases {
        let began = Instant::now();
        app.spawn_at(name, "identity", bootstrap, &[&env[..], &[("RUST_LOG".into(), "trace".into())]].concat())
            .unwrap();
        let process = app.process(name).unwrap();
        let status = process.ended(Duration::from_secs(20)).await.unwrap();
        let log = process.log();
        println!("{name}: {status} after {} ms", began.elapsed().as_millis());
        assert!(!status.success() && log.contains(words), "{name}: {status}: {log}");
        assert!(!has_secret(&log), "{name} tells a secret");

        let mut status = Command::new(&anabranch);
        status.args(["status", "--brokers", bootstrap, "--topology"]).arg(&app.topology_file).envs(env);
        let output = status.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(words) && !has_secret(&told), "{name}: {told}");
    }
}

fn printed_rights(app: &App, arguments: &[&str]) -> String {
    let mut acls = Command::new(binaries(&[]).unwrap().join("anabranch"));
    acls.arg("acls").args(arguments).arg("--topology").arg(&app.topology_file);
    // Away from the workspace: the agents are the topology's.
    let output = acls.current_dir(app.topology_file.parent().unwrap()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn the_printed_rights_are_enough(kafka: &Secured, app: &mut App) {
    kafka.shell(&printed_rights(app, &[]));
    for agent in KYC_AGENTS {
        app.spawn_at(agent, agent, &kafka.sasl_ssl, &kafka.scram(agent)).unwrap();
    }
    let running: Vec<_> = KYC_AGENTS.to_vec();
    for agent in &running {
        app.process(agent).unwrap().ready(Duration::from_secs(60)).await.unwrap();
    }
    // Several sessions, so that groups, readers and writers have authenticated again.
    // The third application with the same particulars is one for a person: either way there is an outcome.
    let mut outcomes = app.reader(&[app.outbound("decisions"), app.outbound("cases")]).await.unwrap();
    let clean = demo_cases().into_iter().find(|c| c.id == "S1").unwrap();
    for number in 0..3 {
        let case = format!("secured-{number}");
        app.send(vec![foreign(app.requests(), Some(case.as_bytes()), Some(&clean.value()))]).await.unwrap();
        let decided =
            |records: &[anabranch_kafka::Record]| records.iter().any(|r| r.key.as_deref() == Some(case.as_bytes()));
        if let Err(error) = outcomes.until("the outcome", Duration::from_secs(60), decided).await {
            panic!("{error}\n{}", running.iter().map(|a| app.processes[*a].log()).collect::<String>());
        }
        tokio::time::sleep(Duration::from_millis(SESSION_MS)).await;
    }
    for agent in &running {
        let log = app.process(agent).unwrap().log();
        assert!(!log.contains("AuthorizationFailed"), "{agent} lacks a right: {log}");
    }
}

fn is_denied<T>(what: &str, result: Result<T, Error>) {
    let Err(error) = result else { panic!("{what} is not denied") };
    assert!(error.is_fatal() && !error.is_retryable() && error.to_string().contains("AuthorizationFailed"), "{error}");
    println!("{what}: {error}");
}

async fn an_agent_is_denied_anothers_topics(kafka: &Secured, app: &mut App) {
    let identity = client(&kafka.sasl_ssl, &kafka.scram("identity"));
    let topology = &app.topology;
    let producer = identity.producer(ProducerConfig::default());
    for topic in [topology.tasks_topic("fraud"), topology.tasks_topic("identity"), app.outbound("decisions")] {
        let record = OutRecord { topic: topic.clone(), partition: Some(0), ..OutRecord::default() };
        is_denied(&format!("writing {topic}"), producer.send(record).await);
    }
    for topic in [topology.tasks_topic("fraud"), topology.results_topic(), app.requests().to_owned()] {
        let mut fetcher = identity.fetcher(FetchConfig::default());
        fetcher.add(TopicPartition::new(topic.as_str(), 0), Position::Earliest);
        let read = tokio::time::timeout(Duration::from_secs(10), fetcher.next()).await.unwrap();
        is_denied(&format!("reading {topic}"), read);
    }
    // The program of one agent with the account of another: it ends, and says why.
    app.spawn_at("impostor", "fraud", &kafka.sasl_ssl, &kafka.scram("identity")).unwrap();
    let impostor = app.process("impostor").unwrap();
    let status = impostor.ended(Duration::from_secs(20)).await.unwrap();
    assert!(!status.success() && impostor.log().contains("tasks.fraud"), "{status}: {}", impostor.log());
}

async fn mutual_tls_is_enough_too(kafka: &Secured, app: &mut App) {
    let rights = printed_rights(app, &["--principal", "User:CN={agent}"]);
    let own: Vec<&str> = rights.lines().filter(|line| line.contains("CN=identity")).collect();
    kafka.shell(&own.join("\n"));
    let env = kafka.mutual(Some("identity"));
    app.spawn_at("identity-mutual", "identity", &kafka.ssl, &env).unwrap();
    let process = app.process("identity-mutual").unwrap();
    process.ready(Duration::from_secs(60)).await.unwrap();
    let status = process.stop(Duration::from_secs(60)).await.unwrap();
    assert!(status.success() && !process.log().contains("AuthorizationFailed"), "{status}: {}", process.log());
}
