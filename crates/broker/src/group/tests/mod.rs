//! Groups as their clients see them: requests in, responses out, on a clock that the test moves.
//!
//! Every response is encoded and decoded in the version under test, since a field that the version lacks is an error.

mod admin;
mod alarm;
mod chaos;
mod membership;
mod offsets;
mod statics;

use std::{path::Path, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        GroupId, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
        LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse, join_group_request::JoinGroupRequestProtocol,
        leave_group_request::MemberIdentity, sync_group_request::SyncGroupRequestAssignment,
    },
    protocol::{Decodable, Encodable, StrBytes},
};
use tokio::task::JoinHandle;

use super::{Groups, Settings};
use crate::journal::Journal;

pub(super) const OK: i16 = 0;
pub(super) const ILLEGAL_GENERATION: i16 = 22;
pub(super) const INCONSISTENT_PROTOCOL: i16 = 23;
pub(super) const UNKNOWN_MEMBER: i16 = 25;
pub(super) const REBALANCE: i16 = 27;
pub(super) const MEMBER_ID_REQUIRED: i16 = 79;
pub(super) const FENCED_INSTANCE: i16 = 82;

/// The response as a client of that version reads it.
pub(super) fn over_the_wire<T: Encodable + Decodable>(response: &T, version: i16) -> T {
    let mut bytes = BytesMut::new();
    response.encode(&mut bytes, version).unwrap();
    T::decode(&mut bytes.freeze(), version).unwrap()
}

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(super) fn group_id() -> GroupId {
    GroupId(text("g"))
}

pub(super) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Lets time pass; timers fire on the way.
pub(super) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Lets spawned requests reach the groups.
pub(super) async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

pub(super) fn groups() -> Arc<Groups> {
    Groups::open(Settings::default(), Journal::memory()).unwrap()
}

pub(super) fn groups_in(dir: &Path) -> Arc<Groups> {
    Groups::open(Settings::default(), Journal::open(dir.join("groups")).unwrap()).unwrap()
}

/// A client that joins one group.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) groups: Arc<Groups>,
    pub(super) version: i16,
    pub(super) id: String,
    pub(super) generation: i32,
    pub(super) instance: Option<&'static str>,
    pub(super) protocols: Vec<(&'static str, &'static str)>,
    pub(super) session: Duration,
    pub(super) rebalance: Duration,
}

impl Client {
    pub(super) fn new(groups: &Arc<Groups>) -> Self {
        Self {
            groups: Arc::clone(groups),
            version: 9,
            id: String::new(),
            generation: -1,
            instance: None,
            protocols: vec![("range", "topics")],
            session: secs(10),
            rebalance: secs(60),
        }
    }

    pub(super) fn of_version(groups: &Arc<Groups>, version: i16) -> Self {
        Self { version, ..Self::new(groups) }
    }

    pub(super) fn fixed(groups: &Arc<Groups>, instance: &'static str) -> Self {
        Self { instance: Some(instance), ..Self::new(groups) }
    }

    fn instance(&self) -> Option<StrBytes> {
        self.instance.map(StrBytes::from_static_str)
    }

    pub(super) fn join_request(&self) -> JoinGroupRequest {
        let protocol = |(name, metadata): &(&'static str, &'static str)| {
            JoinGroupRequestProtocol::default()
                .with_name(StrBytes::from_static_str(name))
                .with_metadata(Bytes::from_static(metadata.as_bytes()))
        };
        JoinGroupRequest::default()
            .with_group_id(group_id())
            .with_session_timeout_ms(self.session.as_millis() as i32)
            .with_rebalance_timeout_ms(self.rebalance.as_millis() as i32)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance())
            .with_protocol_type(text("consumer"))
            .with_protocols(self.protocols.iter().map(protocol).collect())
    }

    /// One request to join.
    pub(super) async fn try_join(&mut self) -> JoinGroupResponse {
        let response = self.groups.join_group(&self.join_request(), self.version, "client", "/127.0.0.1").await;
        let response = over_the_wire(&response, self.version);
        if response.error_code == OK {
            self.generation = response.generation_id;
        }
        if response.error_code == OK || response.error_code == MEMBER_ID_REQUIRED {
            self.id = response.member_id.to_string();
        }
        response
    }

    /// Joins as a client does: once more with the id it is given.
    pub(super) async fn join(&mut self) -> JoinGroupResponse {
        let response = self.try_join().await;
        if response.error_code == MEMBER_ID_REQUIRED { self.try_join().await } else { response }
    }

    /// The same, while the test goes on.
    pub(super) fn join_later(&self) -> JoinHandle<(Self, JoinGroupResponse)> {
        let mut client = self.clone();
        tokio::spawn(async move {
            let response = client.join().await;
            (client, response)
        })
    }

    /// Asks for the assignment; a leader gives everyone of `parts` a part.
    pub(super) async fn sync(&self, parts: &[(&str, &'static str)]) -> SyncGroupResponse {
        let part = |(id, part): &(&str, &'static str)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(id))
                .with_assignment(Bytes::from_static(part.as_bytes()))
        };
        let request = SyncGroupRequest::default()
            .with_group_id(group_id())
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance())
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")))
            .with_assignments(parts.iter().map(part).collect());
        over_the_wire(&self.groups.sync_group(&request, 5).await, 5)
    }

    pub(super) fn sync_later(&self) -> JoinHandle<SyncGroupResponse> {
        let client = self.clone();
        tokio::spawn(async move { client.sync(&[]).await })
    }

    pub(super) fn heartbeat(&self) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(group_id())
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance());
        let response: HeartbeatResponse = over_the_wire(&self.groups.heartbeat(&request), 4);
        response.error_code
    }

    pub(super) fn leave(&self) -> i16 {
        let member = MemberIdentity::default().with_member_id(text(&self.id)).with_group_instance_id(self.instance());
        let request = LeaveGroupRequest::default().with_group_id(group_id()).with_members(vec![member]);
        let response: LeaveGroupResponse = over_the_wire(&self.groups.leave_group(&request, 5), 5);
        assert_eq!(response.error_code, OK);
        response.members[0].error_code
    }
}

/// A stable group of one.
pub(super) async fn alone(groups: &Arc<Groups>) -> Client {
    let mut client = Client::new(groups);
    assert_eq!(client.join().await.error_code, OK);
    assert_eq!(client.sync(&[(&client.id, "all")]).await.error_code, OK);
    client
}

/// A stable group of these, the first one leading.
pub(super) async fn together<const N: usize>(mut clients: [Client; N]) -> [Client; N] {
    clients[0].join().await;
    let joins: Vec<_> = clients[1..].iter().map(Client::join_later).collect();
    settle().await;
    let (leader, response) = clients[0].join_later().await.unwrap();
    assert_eq!(response.members.len(), N);
    clients[0] = leader;
    for (client, join) in clients[1..].iter_mut().zip(joins) {
        *client = join.await.unwrap().0;
    }
    let ids: Vec<_> = clients.iter().map(|client| client.id.clone()).collect();
    let parts: Vec<_> = ids.iter().map(|id| (id.as_str(), "part")).collect();
    assert_eq!(clients[0].sync(&parts).await.error_code, OK);
    for client in &clients {
        assert_eq!(client.sync(&[]).await.assignment, "part");
        assert_eq!(client.heartbeat(), OK);
    }
    clients
}
