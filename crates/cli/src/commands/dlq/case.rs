//! `dlq redrive --case`: a case that ended as a dead letter begins anew, with its own request and under its own id.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anabranch_core::join::{Phase, Saved, StateKey};
use anabranch_kafka::{OutRecord, Record, TopicPartition};
use anabranch_protocol::{CorrelationId, Envelope, Header, RecordView, Timestamp, dead_letter, header};
use anabranch_topology::TopicRole;

use super::Site;
use super::decide::{Left, Rules, is_of_case, sent_back};
use super::letter::{Letter, LetterId};
use super::marks::{How, Mark};
use super::redrive::{Going, Run};
use super::report::Done;
use crate::reading::{self, Present};

/// Most cases of one run: their requests are held in memory.
const MOST: usize = 10_000;

/// Where a case stands, as the composer's state says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Open,
    Decided,
    /// It ended as a dead letter, after its request was sent back so often.
    GivenUp(u32),
}

/// What is known of a case.
#[derive(Debug, Default)]
struct Known {
    /// Its letters, with what is marked of them.
    letters: Vec<(LetterId, Mark)>,
    /// One of them says that the whole case was given up.
    ended: bool,
    /// How often its request was sent back so far, as far as records say.
    redrives: u32,
    /// Its request.
    request: Option<Request>,
    standing: Option<Standing>,
}

/// A request, as it lay in its topic or beside it.
#[derive(Debug)]
enum Request {
    Letter(Box<Letter>),
    Record(Record),
}

impl Request {
    fn view(&self) -> RecordView<'_> {
        match self {
            Self::Letter(letter) => letter.view(),
            Self::Record(record) => record.view(),
        }
    }
}

/// Sends the requests of the cases whose letters are meant.
pub(super) async fn run(run: &mut Run<'_>) -> anyhow::Result<()> {
    let site = run.site;
    let inbound = site.topology.inbound.requests.name.clone();
    let mut cases = gather(run, &inbound).await?;
    standings(site, &mut cases).await?;
    requests(site, &inbound, &mut cases).await?;
    let exists = |topic: &str| site.survey.topic(topic).is_some();
    let (now, max_redrives) = (reading::now(), run.args.max_redrives);
    let rules = Rules { topology: &site.topology, now, max_redrives, exists: &exists };
    let mut going = Vec::new();
    for (case, known) in cases {
        let Some((first, _)) = known.letters.first().cloned() else { continue };
        match record(&rules, &case, &known, run.args.deadline, &inbound) {
            Ok((record, redrives)) => {
                let done = Done::new(&first, case.as_str()).sent(&inbound, redrives);
                going.push(Going { record, marks: known.letters, done });
            }
            Err(left) => run.report.left(&first, case.as_str(), &left)?,
        }
    }
    run.go(going).await.map(drop)
}

async fn gather(run: &mut Run<'_>, inbound: &str) -> anyhow::Result<BTreeMap<CorrelationId, Known>> {
    let mut cases: BTreeMap<CorrelationId, Known> = BTreeMap::new();
    let mut scan = run.args.which.scan(&run.site.cluster, &run.site.survey).await?;
    let mut more = false;
    while let Some(letters) = run.next(&mut scan).await? {
        for letter in letters {
            if cases.len() >= MOST && !cases.contains_key(&letter.case) {
                more = true;
                continue;
            }
            let known = cases.entry(letter.case.clone()).or_default();
            known.letters.push(Mark::of(&letter, How::CaseRedriven));
            let is_request = letter.id.origin() == inbound;
            known.ended |= is_request || is_of_case(&letter);
            if is_request || is_of_case(&letter) {
                known.redrives = known.redrives.max(letter.redrives());
            }
            if is_request {
                known.request = Some(Request::Letter(Box::new(letter)));
            }
        }
    }
    if more {
        eprintln!("warning: there are more than {MOST} cases; run it again for the rest");
    }
    Ok(cases)
}

/// Looks up where the cases stand.
async fn standings(site: &Site, cases: &mut BTreeMap<CorrelationId, Known>) -> anyhow::Result<()> {
    let Some(state) = site.survey.with_role(&[TopicRole::State]).next() else { return Ok(()) };
    let homes: BTreeSet<TopicPartition> = cases.keys().flat_map(|case| state.of_case(case)).collect();
    let spans = reading::spans(&site.cluster, &homes.into_iter().collect::<Vec<_>>(), None).await?;
    reading::scan(&site.cluster, spans, |record| {
        let Some(StateKey::Case(id)) = reading::state_key(&record) else { return };
        if let Some(known) = cases.get_mut(&CorrelationId::new(id)) {
            known.standing = record.value.as_deref().and_then(standing);
        }
    })
    .await
}

/// `None`: it is forgotten. A state that cannot be read is taken for an open case: nothing is begun beside it.
fn standing(value: &[u8]) -> Option<Standing> {
    let Ok(saved) = Saved::read(value) else { return Some(Standing::Open) };
    Some(match (saved.phase(), saved.given_up()) {
        (Ok(Phase::Closed { .. }), Some(redrives)) => Standing::GivenUp(redrives),
        (Ok(Phase::Closed { .. }), None) => Standing::Decided,
        _ => Standing::Open,
    })
}

/// Looks up the requests that no letter holds. The first of a case is its request; later ones are repeats, or were sent
/// back.
async fn requests(site: &Site, inbound: &str, cases: &mut BTreeMap<CorrelationId, Known>) -> anyhow::Result<()> {
    if cases.values().all(|known| matches!(known.request, Some(Request::Letter(_)))) {
        return Ok(());
    }
    let Some(topic) = site.survey.topic(inbound) else { return Ok(()) };
    let spans = reading::spans(&site.cluster, &Present::all(topic).collect::<Vec<_>>(), None).await?;
    reading::scan(&site.cluster, spans, |record| {
        let Some(known) = cases.get_mut(&reading::case_of(&record)) else { return };
        known.redrives = known.redrives.max(dead_letter::redrives(&record.headers));
        let earlier = match &known.request {
            None => true,
            Some(Request::Record(other)) => record.timestamp_ms < other.timestamp_ms,
            Some(Request::Letter(_)) => false,
        };
        if earlier {
            known.request = Some(Request::Record(record));
        }
    })
    .await
}

/// The request as it goes back, and how often it was sent back with this.
fn record(
    rules: &Rules<'_>,
    case: &CorrelationId,
    known: &Known,
    deadline: Option<Duration>,
    inbound: &str,
) -> Result<(OutRecord, u32), Left> {
    let before = match known.standing {
        Some(Standing::Open) => return Err(Left::Open),
        Some(Standing::Decided) => return Err(Left::Decided),
        Some(Standing::GivenUp(redrives)) => redrives.max(known.redrives),
        None if known.ended => known.redrives,
        None => return Err(Left::NotEnded),
    };
    rules.within_bounds(before)?;
    let request = known.request.as_ref().ok_or_else(|| Left::NoRequest(inbound.to_owned()))?;
    let mut out = sent_back(inbound, &request.view(), case, before + 1);
    if let Some(within) = deadline {
        out.headers.retain(|header| header.name != header::EXPIRY_TIME);
        out.headers.push(Header::text(header::EXPIRY_TIME, rules.now.plus(within).to_string()));
    }
    match expired(&out, rules.now) {
        Some(at) => Err(Left::Expired(at)),
        None => Ok((out, before + 1)),
    }
}

/// The deadline of a request, if it has passed.
fn expired(out: &OutRecord, now: Timestamp) -> Option<Timestamp> {
    let view = RecordView {
        topic: &out.topic,
        partition: -1,
        offset: -1,
        timestamp_ms: now.as_millis(),
        key: out.key.as_deref(),
        value: out.value.as_ref(),
        headers: &out.headers,
    };
    let deadline = Envelope::decode(&view).ok()?.envelope.deadline?;
    (deadline <= now).then_some(deadline)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::dlq::letter::example;

    const INBOUND: &str = "kyc.requests";

    fn decide(known: &Known, deadline: Option<Duration>) -> Result<(OutRecord, u32), Left> {
        let topology = reading::example();
        let (now, exists) = (Timestamp::from_millis(1_000_000), |_: &str| true);
        let rules = Rules { topology: &topology, now, max_redrives: 3, exists: &exists };
        record(&rules, &CorrelationId::new("case-1"), known, deadline, INBOUND)
    }

    fn known(standing: Option<Standing>, ended: bool, headers: &[Header]) -> Known {
        let request = example(INBOUND, 1, headers, b"{}", "boom");
        Known { standing, ended, request: Some(Request::Record(request.original)), ..Known::default() }
    }

    #[test]
    fn only_a_case_that_ended_as_a_dead_letter_begins_anew() {
        let redrives = |standing, ended| decide(&known(standing, ended, &[]), None).map(|(_, redrives)| redrives);
        assert_eq!(redrives(Some(Standing::GivenUp(0)), false), Ok(1));
        assert_eq!(redrives(Some(Standing::GivenUp(2)), false), Ok(3));
        assert_eq!(redrives(Some(Standing::GivenUp(3)), false), Err(Left::Looped(3)));
        assert_eq!(redrives(Some(Standing::Open), true), Err(Left::Open));
        assert_eq!(redrives(Some(Standing::Decided), true), Err(Left::Decided));
        assert_eq!(redrives(None, true), Ok(1), "it is forgotten, and its letter says how it ended");
        assert_eq!(redrives(None, false), Err(Left::NotEnded));
        let lost = Known { request: None, ..known(None, true, &[]) };
        assert_eq!(decide(&lost, None), Err(Left::NoRequest(INBOUND.into())));
    }

    #[test]
    fn a_request_whose_time_is_over_is_given_time_or_left() {
        let headers = [Header::text(header::EXPIRY_TIME, "1970-01-01T00:00:10.000Z")];
        let known = known(None, true, &headers);
        assert_eq!(decide(&known, None), Err(Left::Expired(Timestamp::from_millis(10_000))));
        let (out, _) = decide(&known, Some(Duration::from_secs(60))).unwrap();
        assert_eq!(header::last(&out.headers, header::EXPIRY_TIME), Some("1970-01-01T00:17:40.000Z"));
        assert_eq!(dead_letter::redrives(&out.headers), 1);
    }

    #[test]
    fn where_a_case_stands_is_read_from_its_state() {
        for (state, expected) in [
            (&br#"{"phase":"closed","since_ms":1}"#[..], Standing::Decided),
            (br#"{"phase":"closed","since_ms":1,"given_up":true}"#, Standing::GivenUp(0)),
            (br#"{"phase":"closed","since_ms":1,"redrives":2,"given_up":true}"#, Standing::GivenUp(2)),
            (br#"{"phase":"parked","since_ms":1}"#, Standing::Open),
            (b"{", Standing::Open),
        ] {
            assert_eq!(standing(state), Some(expected), "{}", String::from_utf8_lossy(state));
        }
    }
}
