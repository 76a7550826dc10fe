//! The requests of members, between the wire and the state machine.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::{
    error::ResponseError,
    messages::{
        HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
        LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse, join_group_response::JoinGroupResponseMember,
        leave_group_request::MemberIdentity, leave_group_response::MemberResponse,
    },
    protocol::StrBytes,
};

use super::{
    Groups,
    answer::{Answer, Joined, JoinedMember, Refusal, Synced},
    code,
    machine::{Claim, Syncing},
    member::{About, Joining, Protocol},
    owned,
};

impl Groups {
    /// JoinGroup, versions 0 to 9. Waits until the rebalance is complete.
    pub(crate) async fn join_group(
        &self,
        request: &JoinGroupRequest,
        version: i16,
        client_id: &str,
        client_host: &str,
    ) -> JoinGroupResponse {
        let session = millis(request.session_timeout_ms);
        let refusal = if request.group_id.is_empty() {
            Some(ResponseError::InvalidGroupId)
        } else if session < self.settings.min_session_timeout || session > self.settings.max_session_timeout {
            Some(ResponseError::InvalidSessionTimeout)
        } else {
            None
        };
        if let Some(error) = refusal {
            return refused(Refusal { error, member_id: owned(&request.member_id) }, version);
        }
        let joining = joining(request, version, client_id, client_host);
        match self.wait(&request.group_id, |group, now, token| group.join(now, token, joining)).await {
            Some(Answer::Join(Ok(joined))) => welcome(joined, version),
            Some(Answer::Join(Err(refusal))) => refused(refusal, version),
            Some(Answer::Sync(_)) | None => {
                let error = ResponseError::UnknownServerError;
                refused(Refusal { error, member_id: owned(&request.member_id) }, version)
            }
        }
    }

    /// SyncGroup, versions 0 to 5. Waits until the leader has said who gets what.
    pub(crate) async fn sync_group(&self, request: &SyncGroupRequest, version: i16) -> SyncGroupResponse {
        let is_known = self.lock().groups.contains_key(request.group_id.as_str());
        if request.group_id.is_empty() {
            return synced(Err(ResponseError::InvalidGroupId), version);
        }
        if !is_known {
            return synced(Err(ResponseError::UnknownMemberId), version);
        }
        let syncing = syncing(request);
        let answer = match self.wait(&request.group_id, |group, now, token| group.sync(now, token, syncing)).await {
            Some(Answer::Sync(answer)) => answer,
            Some(Answer::Join(_)) | None => Err(ResponseError::UnknownServerError),
        };
        synced(answer, version)
    }

    /// Heartbeat, versions 0 to 4.
    pub(crate) fn heartbeat(&self, request: &HeartbeatRequest) -> HeartbeatResponse {
        let claim = claim(&request.member_id, request.group_instance_id.as_ref(), request.generation_id);
        let result = if request.group_id.is_empty() {
            Err(ResponseError::InvalidGroupId)
        } else {
            self.with_known(&request.group_id, |group, now| group.heartbeat(now, &claim))
        };
        HeartbeatResponse::default().with_error_code(code(&result))
    }

    /// LeaveGroup, versions 0 to 5.
    pub(crate) fn leave_group(&self, request: &LeaveGroupRequest, version: i16) -> LeaveGroupResponse {
        if request.group_id.is_empty() {
            return LeaveGroupResponse::default().with_error_code(ResponseError::InvalidGroupId.code());
        }
        if version < 3 {
            let result = self.leave(&request.group_id, &request.member_id, None);
            return LeaveGroupResponse::default().with_error_code(code(&result));
        }
        let leave = |member: &MemberIdentity| {
            let instance = member.group_instance_id.as_ref();
            let result = self.leave(&request.group_id, &member.member_id, instance.map(StrBytes::as_str));
            MemberResponse::default()
                .with_member_id(member.member_id.clone())
                .with_group_instance_id(member.group_instance_id.clone())
                .with_error_code(code(&result))
        };
        LeaveGroupResponse::default().with_members(request.members.iter().map(leave).collect())
    }

    fn leave(&self, group: &str, member_id: &str, instance: Option<&str>) -> Result<(), ResponseError> {
        self.with_known(group, |group, now| group.leave(now, member_id, instance))
    }
}

fn millis(value: i32) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or_default())
}

/// Who speaks, from the fields that several requests share.
pub(super) fn claim(member_id: &StrBytes, instance: Option<&StrBytes>, generation: i32) -> Claim {
    Claim { member_id: owned(member_id), instance: instance.map(owned), generation }
}

fn joining(request: &JoinGroupRequest, version: i16, client_id: &str, client_host: &str) -> Joining {
    let session = millis(request.session_timeout_ms);
    let instance = request.group_instance_id.as_ref().map(owned);
    let prefix = instance.as_deref().unwrap_or(client_id);
    Joining {
        member_id: owned(&request.member_id),
        fresh_id: format!("{prefix}-{}", uuid::Uuid::new_v4()),
        about: About {
            instance,
            client_id: client_id.to_owned(),
            client_host: client_host.to_owned(),
            session,
            // Version 0 has no field for it.
            rebalance: if request.rebalance_timeout_ms < 0 { session } else { millis(request.rebalance_timeout_ms) },
        },
        protocol_type: owned(&request.protocol_type),
        protocols: request
            .protocols
            .iter()
            .map(|p| Protocol { name: owned(&p.name), metadata: Bytes::copy_from_slice(&p.metadata) })
            .collect(),
        must_know_id: version >= 4,
        can_skip: version >= 9,
    }
}

fn syncing(request: &SyncGroupRequest) -> Syncing {
    let part = |a: &kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment| {
        (owned(&a.member_id), Bytes::copy_from_slice(&a.assignment))
    };
    Syncing {
        claim: claim(&request.member_id, request.group_instance_id.as_ref(), request.generation_id),
        protocol_type: request.protocol_type.as_ref().map(owned),
        protocol: request.protocol_name.as_ref().map(owned),
        assignments: request.assignments.iter().map(part).collect(),
    }
}

/// A protocol's name; before version 7 it cannot be null.
fn protocol_name(name: Option<String>, version: i16) -> Option<StrBytes> {
    match name {
        None if version < 7 => Some(StrBytes::new()),
        name => name.map(StrBytes::from_string),
    }
}

fn welcome(joined: Joined, version: i16) -> JoinGroupResponse {
    let member = |m: JoinedMember| {
        JoinGroupResponseMember::default()
            .with_member_id(m.id.into())
            .with_group_instance_id(m.instance.map(StrBytes::from_string))
            .with_metadata(m.metadata)
    };
    JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_type(joined.protocol_type.map(StrBytes::from_string))
        .with_protocol_name(protocol_name(joined.protocol, version))
        .with_leader(joined.leader.into())
        .with_skip_assignment(joined.skip_assignment)
        .with_member_id(joined.member_id.into())
        .with_members(joined.members.into_iter().map(member).collect())
}

fn refused(refusal: Refusal, version: i16) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_error_code(refusal.error.code())
        .with_protocol_name(protocol_name(None, version))
        .with_member_id(refusal.member_id.into())
}

fn synced(answer: Result<Synced, ResponseError>, version: i16) -> SyncGroupResponse {
    let response = SyncGroupResponse::default().with_error_code(code(&answer));
    let Ok(synced) = answer else { return response };
    let response = response.with_assignment(synced.assignment);
    if version < 5 {
        return response;
    }
    response
        .with_protocol_type(synced.protocol_type.map(StrBytes::from_string))
        .with_protocol_name(synced.protocol.map(StrBytes::from_string))
}
