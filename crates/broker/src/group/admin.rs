//! What tools ask: which groups there are, who is in them, and to delete one.

use std::collections::BTreeSet;

use bytes::{Buf, Bytes};
use kafka_protocol::{
    error::ResponseError,
    messages::{
        DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
        ListGroupsRequest, ListGroupsResponse,
        delete_groups_response::DeletableGroupResult,
        describe_groups_response::{DescribedGroup, DescribedGroupMember},
        list_groups_response::ListedGroup,
    },
    protocol::StrBytes,
};

use super::{
    Groups, Inner, code,
    machine::{Group, State},
    member::Member,
    owned,
    store::{Entry, Record},
};

/// READ, DELETE and DESCRIBE, as bits: there is no authorizer, so everybody may.
const ALL_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8;

/// The kind of group this broker has.
const CLASSIC: &str = "classic";

impl Groups {
    /// ListGroups, versions 0 to 5.
    pub(crate) fn list_groups(&self, request: &ListGroupsRequest) -> ListGroupsResponse {
        let any_of = |filter: &[StrBytes], value: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        let inner = self.lock();
        let listed = inner.groups.iter().filter(|(_, entry)| {
            any_of(&request.states_filter, entry.group.state_name()) && any_of(&request.types_filter, CLASSIC)
        });
        let group = |(name, entry): (&String, &Entry)| {
            ListedGroup::default()
                .with_group_id(GroupId(StrBytes::from_string(name.clone())))
                .with_protocol_type(text(entry.group.protocol_type.as_deref()))
                .with_group_state(StrBytes::from_static_str(entry.group.state_name()))
                .with_group_type(StrBytes::from_static_str(CLASSIC))
        };
        ListGroupsResponse::default().with_groups(listed.map(group).collect())
    }

    /// DescribeGroups, versions 0 to 6.
    pub(crate) fn describe_groups(&self, request: &DescribeGroupsRequest, version: i16) -> DescribeGroupsResponse {
        let inner = self.lock();
        let describe = |id: &GroupId| {
            let described = match inner.groups.get(id.as_str()) {
                Some(entry) => described(&entry.group, version),
                None => missing(version),
            };
            let asked = version >= 3 && request.include_authorized_operations;
            let described = described.with_group_id(id.clone());
            if asked { described.with_authorized_operations(ALL_OPERATIONS) } else { described }
        };
        DescribeGroupsResponse::default().with_groups(request.groups.iter().map(describe).collect())
    }

    /// DeleteGroups, versions 0 to 2.
    pub(crate) fn delete_groups(&self, request: &DeleteGroupsRequest) -> DeleteGroupsResponse {
        let mut inner = self.lock();
        let delete = |id: &GroupId| {
            let result = inner.delete_group(id);
            DeletableGroupResult::default().with_group_id(id.clone()).with_error_code(code(&result))
        };
        DeleteGroupsResponse::default().with_results(request.groups_names.iter().map(delete).collect())
    }
}

impl Inner {
    fn delete_group(&mut self, id: &GroupId) -> Result<(), ResponseError> {
        let entry = self.groups.get(id.as_str()).ok_or(ResponseError::GroupIdNotFound)?;
        if entry.group.state != State::Empty {
            return Err(ResponseError::NonEmptyGroup);
        }
        self.write_and_apply(Record::DeleteGroup { group: owned(id) })
    }
}

fn text(text: Option<&str>) -> StrBytes {
    StrBytes::from_string(text.unwrap_or_default().to_owned())
}

fn missing(version: i16) -> DescribedGroup {
    let dead = DescribedGroup::default().with_group_state(StrBytes::from_static_str("Dead"));
    if version < 6 {
        return dead;
    }
    dead.with_error_code(ResponseError::GroupIdNotFound.code())
        .with_error_message(Some(StrBytes::from_static_str("There is no such group.")))
}

fn described(group: &Group, version: i16) -> DescribedGroup {
    let is_stable = group.state == State::Stable;
    let protocol = group.protocol.as_deref().filter(|_| is_stable);
    let member = |(id, member): (&String, &Member)| {
        DescribedGroupMember::default()
            .with_member_id(StrBytes::from_string(id.clone()))
            .with_group_instance_id(member.about.instance.clone().filter(|_| version >= 4).map(StrBytes::from_string))
            .with_client_id(text(Some(&member.about.client_id)))
            .with_client_host(text(Some(&member.about.client_host)))
            .with_member_metadata(protocol.map(|p| member.metadata(p)).unwrap_or_default())
            .with_member_assignment(if is_stable { member.assignment.clone() } else { Bytes::new() })
    };
    DescribedGroup::default()
        .with_group_state(StrBytes::from_static_str(group.state_name()))
        .with_protocol_type(text(group.protocol_type.as_deref()))
        .with_protocol_data(text(protocol))
        .with_members(group.members.iter().map(member).collect())
}

/// The topics whose offsets a group's members need.
pub(super) enum Subscribed {
    Topics(BTreeSet<String>),
    /// Consumers, but not all of their subscriptions can be read: every topic may be among them.
    Any,
    /// Members that are no consumers: what they need is theirs to know.
    Opaque,
}

impl Subscribed {
    pub(super) fn of(group: &Group) -> Self {
        if group.members.is_empty() {
            return Self::Topics(BTreeSet::new());
        }
        if group.protocol_type.as_deref() != Some("consumer") {
            return Self::Opaque;
        }
        let read = |member: &Member| {
            let protocol = group.protocol.as_deref().or(member.protocols.first().map(|p| p.name.as_str()))?;
            subscription(member.metadata(protocol))
        };
        let topics: Option<Vec<_>> = group.members.values().map(read).collect();
        topics.map_or(Self::Any, |topics| Self::Topics(topics.into_iter().flatten().collect()))
    }

    pub(super) fn is_opaque(&self) -> bool {
        matches!(self, Self::Opaque)
    }

    pub(super) fn contains(&self, topic: &str) -> bool {
        match self {
            Self::Topics(topics) => topics.contains(topic),
            Self::Any | Self::Opaque => true,
        }
    }
}

/// The topics of a consumer's subscription: a version, then a list of names, whatever the version.
fn subscription(mut metadata: Bytes) -> Option<Vec<String>> {
    let _version = metadata.try_get_i16().ok()?;
    let count = usize::try_from(metadata.try_get_i32().ok()?).ok()?;
    let mut topics = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(metadata.try_get_i16().ok()?).ok()?;
        let name = metadata.get(..length)?.to_vec();
        metadata.advance(length);
        topics.push(String::from_utf8(name).ok()?);
    }
    Some(topics)
}
