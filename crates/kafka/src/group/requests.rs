//! The membership's requests, on its own connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use anabranch_core::group::{Failure, JoinReply, JoinRequest, Member, Outcome, Subscription, SyncRequest};
use kafka_protocol::{
    messages::{
        GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
        join_group_request::JoinGroupRequestProtocol, leave_group_request::MemberIdentity,
        sync_group_request::SyncGroupRequestAssignment,
    },
    protocol::StrBytes,
};

use super::wire::{decode_assignment, decode_subscription, encode_assignment, encode_subscription};
use crate::{
    cluster::{Cluster, Purpose},
    config::GroupConfig,
    error::{Error, ErrorKind},
    link::Link,
    types::TopicPartition,
};

const PROTOCOL_TYPE: StrBytes = StrBytes::from_static_str("consumer");
/// Our assignor's name, as `kafka-consumer-groups.sh --describe --state` shows it.
const ASSIGNOR: StrBytes = StrBytes::from_static_str("anabranch-cooperative-sticky");
const UNSUPPORTED_VERSION: i16 = 35;
const SASL_AUTHENTICATION_FAILED: i16 = 58;

/// What the requests of one membership share.
pub(super) struct Requests {
    pub(super) cluster: Cluster,
    pub(super) config: GroupConfig,
    pub(super) link: Link,
}

fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// An error as the state machine knows it.
pub(super) fn failure(error: &Error) -> Failure {
    match error.kind() {
        ErrorKind::Broker { code, .. } => Failure::Code(*code, None),
        ErrorKind::UnsupportedVersion { .. } => Failure::Code(UNSUPPORTED_VERSION, None),
        ErrorKind::Security(_) => {
            tracing::error!(%error, "the coordinator cannot be reached with these settings");
            Failure::Code(SASL_AUTHENTICATION_FAILED, None)
        }
        _ => Failure::Transport(error.to_string()),
    }
}

fn check(code: i16) -> Outcome<()> {
    if code == 0 { Ok(()) } else { Err(Failure::Code(code, None)) }
}

impl Requests {
    fn group_id(&self) -> GroupId {
        GroupId(text(&self.config.group))
    }

    fn instance_id(&self) -> Option<StrBytes> {
        self.config.instance_id.as_deref().map(text)
    }

    /// A coordinator that does not answer must be noticed well within the session.
    fn short_limit(&self) -> Duration {
        self.cluster.config().request_timeout.min(self.config.session_timeout / 2)
    }

    pub(super) async fn join(&self, address: &str, request: JoinRequest) -> Outcome<JoinReply> {
        let limit = self.config.rebalance_timeout + self.cluster.config().request_timeout;
        let ask = async {
            let metadata = encode_subscription(&request.subscription)?;
            let protocol = JoinGroupRequestProtocol::default().with_name(ASSIGNOR).with_metadata(metadata);
            let connection = self.link.connection(&self.cluster, address).await?;
            connection
                .call(limit, |version| {
                    let body = JoinGroupRequest::default()
                        .with_group_id(self.group_id())
                        .with_session_timeout_ms(millis(self.config.session_timeout))
                        .with_rebalance_timeout_ms(millis(self.config.rebalance_timeout))
                        .with_member_id(text(&request.member_id))
                        .with_protocol_type(PROTOCOL_TYPE)
                        .with_protocols(vec![protocol]);
                    if version >= 5 { body.with_group_instance_id(self.instance_id()) } else { body }
                })
                .await
        };
        let answer: JoinGroupResponse = ask.await.map_err(|e| failure(&e))?;
        if answer.error_code != 0 {
            let member_id = Some(answer.member_id.to_string()).filter(|id| !id.is_empty());
            return Err(Failure::Code(answer.error_code, member_id));
        }
        Ok(self.read_join(answer))
    }

    fn read_join(&self, answer: JoinGroupResponse) -> JoinReply {
        let member = |m: kafka_protocol::messages::join_group_response::JoinGroupResponseMember| {
            Member {
            member_id: m.member_id.to_string(),
            instance_id: m.group_instance_id.map(|i| i.to_string()),
            subscription: decode_subscription(m.metadata).unwrap_or_else(|| {
                tracing::warn!(group = %self.config.group, member = %m.member_id, "a member's subscription cannot be read");
                Subscription::default()
            }),
        }
        };
        JoinReply {
            member_id: answer.member_id.to_string(),
            generation: answer.generation_id,
            leader: answer.leader.to_string(),
            members: answer.members.into_iter().map(member).collect(),
            skip_assignment: answer.skip_assignment,
        }
    }

    pub(super) async fn sync(&self, address: &str, request: SyncRequest) -> Outcome<BTreeSet<TopicPartition>> {
        // The answer comes when the leader has decided.
        let limit = self.config.rebalance_timeout + self.cluster.config().request_timeout;
        let ask = async {
            let mut assignments = Vec::new();
            for (member, tps) in &request.assignments {
                let assignment = encode_assignment(tps)?;
                assignments.push(
                    SyncGroupRequestAssignment::default().with_member_id(text(member)).with_assignment(assignment),
                );
            }
            let connection = self.link.connection(&self.cluster, address).await?;
            connection
                .call(limit, |version| {
                    let mut body = SyncGroupRequest::default()
                        .with_group_id(self.group_id())
                        .with_generation_id(request.generation)
                        .with_member_id(text(&request.member_id))
                        .with_assignments(assignments);
                    if version >= 3 {
                        body = body.with_group_instance_id(self.instance_id());
                    }
                    if version >= 5 {
                        body = body.with_protocol_type(Some(PROTOCOL_TYPE)).with_protocol_name(Some(ASSIGNOR));
                    }
                    body
                })
                .await
        };
        let answer = ask.await.map_err(|e| failure(&e))?;
        check(answer.error_code)?;
        decode_assignment(answer.assignment)
            .ok_or_else(|| Failure::Transport("SyncGroup: the leader's assignment cannot be read".into()))
    }

    pub(super) async fn heartbeat(&self, address: &str, member_id: &str, generation: i32) -> Outcome<()> {
        let ask = async {
            let connection = self.link.connection(&self.cluster, address).await?;
            connection
                .call(self.short_limit(), |version| {
                    let body = HeartbeatRequest::default()
                        .with_group_id(self.group_id())
                        .with_generation_id(generation)
                        .with_member_id(text(member_id));
                    if version >= 3 { body.with_group_instance_id(self.instance_id()) } else { body }
                })
                .await
        };
        check(ask.await.map_err(|e| failure(&e))?.error_code)
    }

    /// Leaves on a pooled connection: the membership's own may be waiting in a join.
    pub(super) async fn leave(&self, address: &str, member_id: &str) -> Result<(), Error> {
        let connection = self.cluster.connection(address, Purpose::Control).await?;
        let answer = connection
            .call(self.short_limit(), |version| {
                let body = LeaveGroupRequest::default().with_group_id(self.group_id());
                if version < 3 {
                    return body.with_member_id(text(member_id));
                }
                let member = MemberIdentity::default().with_member_id(text(member_id));
                body.with_members(vec![member.with_group_instance_id(self.instance_id())])
            })
            .await?;
        let code = answer.members.iter().map(|m| m.error_code).chain([answer.error_code]).find(|code| *code != 0);
        match code {
            // UNKNOWN_MEMBER_ID: the group has forgotten us already.
            None | Some(25) => Ok(()),
            Some(code) => Err(Error::broker_code("LeaveGroup", code, None).at_broker(address)),
        }
    }

    /// The number of partitions of those topics that exist.
    pub(super) async fn counts(&self, topics: BTreeSet<Arc<str>>) -> Outcome<BTreeMap<Arc<str>, i32>> {
        let names: Vec<&str> = topics.iter().map(|t| &**t).collect();
        self.cluster.partition_counts(&names).await.map_err(|e| failure(&e))
    }
}
