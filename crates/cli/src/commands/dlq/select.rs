//! Which dead letters a command is about.

use std::collections::BTreeMap;

use anabranch_kafka::{Cluster, Isolation, TopicPartition};
use anabranch_protocol::Timestamp;
use anabranch_topology::{COMPOSER, SUPERVISOR, TopicRole};
use anyhow::anyhow;

use super::letter::{Letter, LetterId};
use crate::options::time_span;
use crate::reading::{self, Present, Scan, Span, Survey};
use crate::usage::usage;

/// Dead letters by what they say.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Filters {
    /// Only of this agent, or of supervisor or composer.
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// Only of this class: terminal (it can never work), retryable (attempts used up), unreadable.
    #[arg(long, value_name = "CLASS", value_parser = ["terminal", "retryable", "unreadable"])]
    class: Option<String>,
    /// Only of this topic, or of the topic whose dead letters lie there.
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Only of this case.
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// Only those given up since then: a time span back from now (90s, 5m, 1h30m, 7d), or a time (2026-11-27T10:00:00Z).
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    since: Option<Timestamp>,
    /// Only those given up before then; written as --since is.
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    until: Option<Timestamp>,
}

/// Dead letters by name or by what they say.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Which {
    /// Dead letters, as `dlq list --each` prints them.
    #[arg(value_name = "LETTER")]
    pub(super) letters: Vec<LetterId>,
    #[command(flatten)]
    pub(super) filters: Filters,
    /// All there are.
    #[arg(long, conflicts_with_all = ["letters", "agent", "class", "topic", "correlation_id", "since", "until"])]
    all: bool,
}

/// A time, or how long ago.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(span) = time_span(text) {
        let back = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        return Ok(Timestamp::from_millis(reading::now().as_millis().saturating_sub(back)));
    }
    let wrong = || {
        format!("{text:?} is no time; write how long ago, as 90s, 5m, 1h30m or 7d, or when, as 2026-11-27T10:00:00Z")
    };
    Timestamp::parse(text).ok_or_else(wrong)
}

impl Filters {
    fn is_empty(&self) -> bool {
        let Self { agent, class, topic, correlation_id, since, until } = self;
        let words = [agent, class, topic, correlation_id];
        words.iter().all(|word| word.is_none()) && since.is_none() && until.is_none()
    }

    /// Whether there can be such letters at all.
    ///
    /// # Errors
    /// What the user is to write instead.
    pub(super) fn check(&self, survey: &Survey) -> anyhow::Result<()> {
        if let Some(agent) = &self.agent
            && ![SUPERVISOR, COMPOSER].contains(&agent.as_str())
            && !survey.agents.contains(agent)
        {
            let known: Vec<&str> = survey.agents.iter().map(String::as_str).chain([SUPERVISOR, COMPOSER]).collect();
            return Err(usage(format!("no agent is called {agent:?}; there are {}", known.join(", "))));
        }
        if let Some(topic) = &self.topic
            && !letter_topics(survey).any(|present| self.is_of(&present.spec.name))
        {
            let known: Vec<&str> = letter_topics(survey).map(|present| present.spec.name.as_str()).collect();
            return Err(usage(format!("{topic:?} has no dead letters topic; there are {}", known.join(", "))));
        }
        if let Some((since, until)) = self.since.zip(self.until)
            && since >= until
        {
            return Err(usage(format!(
                "nothing is since {since} and before {until}: --until is to be later than --since"
            )));
        }
        Ok(())
    }

    /// Whether letters of this topic may be meant.
    fn is_of(&self, dlq_topic: &str) -> bool {
        self.topic.as_ref().is_none_or(|t| t == dlq_topic || dlq_topic.strip_suffix(".dlq") == Some(t.as_str()))
    }

    /// Whether this one is meant.
    pub(super) fn matches(&self, letter: &Letter) -> bool {
        let is =
            |wanted: &Option<String>, said: Option<&str>| wanted.as_deref().is_none_or(|wanted| said == Some(wanted));
        is(&self.agent, letter.agent.as_deref())
            && is(&self.class, letter.class.as_deref())
            && is(&self.correlation_id, Some(letter.case.as_str()))
            && self.is_of(&letter.id.topic)
            && self.since.is_none_or(|since| letter.at >= since)
            && self.until.is_none_or(|until| letter.at < until)
    }

    /// All that are meant, as far as they are there now.
    pub(super) async fn scan(&self, cluster: &Cluster, survey: &Survey) -> anyhow::Result<Scan> {
        let topics = letter_topics(survey).filter(|topic| self.is_of(&topic.spec.name));
        let tps: Vec<TopicPartition> = topics.flat_map(Present::all).collect();
        Ok(Scan::new(cluster, reading::spans(cluster, &tps, self.since).await?))
    }
}

impl Which {
    /// This one.
    pub(super) fn named(letter: LetterId) -> Self {
        Self { letters: vec![letter], ..Self::default() }
    }

    /// # Errors
    /// If nothing is named: a slip must not be taken for everything. Or as [`Filters::check`].
    pub(super) fn check(&self, survey: &Survey) -> anyhow::Result<()> {
        if !self.all && self.letters.is_empty() && self.filters.is_empty() {
            return Err(usage(
                "name dead letters, or say which with --agent, --class, --topic, --correlation-id, --since or --until; --all means all",
            ));
        }
        self.filters.check(survey)
    }

    /// Whether this one is meant.
    pub(super) fn matches(&self, letter: &Letter) -> bool {
        (self.letters.is_empty() || self.letters.contains(&letter.id)) && self.filters.matches(letter)
    }

    /// All that are meant, as far as they are there now.
    ///
    /// # Errors
    /// If one that is named is not there.
    pub(super) async fn scan(&self, cluster: &Cluster, survey: &Survey) -> anyhow::Result<Scan> {
        if self.letters.is_empty() {
            return self.filters.scan(cluster, survey).await;
        }
        let mut spans: BTreeMap<TopicPartition, (i64, i64)> = BTreeMap::new();
        for letter in &self.letters {
            let span = spans.entry(letter.tp()).or_insert((letter.offset, letter.offset + 1));
            *span = (span.0.min(letter.offset), span.1.max(letter.offset + 1));
        }
        let tps: Vec<TopicPartition> = spans.keys().cloned().collect();
        let there = |tp: &TopicPartition| {
            letter_topics(survey).any(|t| *t.spec.name == *tp.topic && (0..t.partitions).contains(&tp.partition))
        };
        if let Some(tp) = tps.iter().find(|tp| !there(tp)) {
            return Err(anyhow!("there is no dead letters partition {}/{} on this cluster", tp.topic, tp.partition));
        }
        let admin = cluster.admin();
        let (starts, ends) =
            (admin.earliest_offsets(&tps).await?, admin.end_offsets(&tps, Isolation::ReadCommitted).await?);
        for letter in &self.letters {
            let at = |offsets: &BTreeMap<TopicPartition, i64>| offsets.get(&letter.tp()).copied().unwrap_or(0);
            if letter.offset < at(&starts) {
                return Err(anyhow!("{letter} is gone: the broker keeps dead letters no longer (retention)"));
            }
            if letter.offset >= at(&ends) {
                return Err(anyhow!("there is no dead letter {letter}"));
            }
        }
        Ok(Scan::new(cluster, spans.into_iter().map(|(tp, (from, to))| Span::between(tp, from, to)).collect()))
    }
}

/// The topics of dead letters that exist.
pub(super) fn letter_topics(survey: &Survey) -> impl Iterator<Item = &Present> {
    survey.with_role(&[TopicRole::DeadLetters])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::dlq::letter::example;

    #[test]
    fn times_are_spans_or_moments() {
        let hour_ago = moment("1h").unwrap();
        let since = reading::now().since(hour_ago).as_secs();
        assert!((3_600..3_700).contains(&since), "{since}");
        assert_eq!(moment("2026-11-27T10:00:00Z").unwrap().to_string(), "2026-11-27T10:00:00.000Z");
        for wrong in ["", "yesterday", "-5m", "10", "999999999999h", "2026-13-01T00:00:00Z"] {
            assert!(moment(wrong).unwrap_err().contains("write"), "{wrong}");
        }
    }

    #[test]
    fn every_filter_filters() {
        let letter = example("kyc.tasks.identity", 1, &[], b"{}", "boom");
        let word = |text: &str| Some(text.to_owned());
        let at = |millis| Some(Timestamp::from_millis(millis));
        let none = Filters::default();
        assert!(none.is_empty() && none.matches(&letter));
        for (matching, other) in [
            (Filters { agent: word("identity"), ..none.clone() }, Filters { agent: word("fraud"), ..none.clone() }),
            (Filters { class: word("terminal"), ..none.clone() }, Filters { class: word("retryable"), ..none.clone() }),
            (
                Filters { topic: word("kyc.tasks.identity"), ..none.clone() },
                Filters { topic: word("kyc.tasks"), ..none.clone() },
            ),
            (
                Filters { topic: word("kyc.tasks.identity.dlq"), ..none.clone() },
                Filters { topic: word("x.dlq"), ..none.clone() },
            ),
            (
                Filters { correlation_id: word("case-1"), ..none.clone() },
                Filters { correlation_id: word("case"), ..none.clone() },
            ),
            (Filters { since: at(2_001), ..none.clone() }, Filters { since: at(2_002), ..none.clone() }),
            (Filters { until: at(2_002), ..none.clone() }, Filters { until: at(2_001), ..none }),
        ] {
            assert!(matching.matches(&letter) && !matching.is_empty(), "{matching:?}");
            assert!(!other.matches(&letter), "{other:?}");
        }
        let named = Which { letters: vec!["kyc.tasks.identity.dlq/0/1".parse().unwrap()], ..Which::default() };
        assert!(named.matches(&letter));
        assert!(!named.matches(&example("kyc.tasks.identity", 2, &[], b"{}", "boom")));
    }
}
