//! Groups: at every broker, or at their coordinator.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use kafka_protocol::{
    messages::{
        DescribeGroupsRequest, GroupId, ListGroupsRequest,
        describe_groups_response::{DescribedGroup, DescribedGroupMember},
    },
    protocol::StrBytes,
};

use crate::{
    Cluster, Error, GroupInfo, GroupListing, MemberInfo,
    api::Api,
    cluster::Purpose,
    group::{Coordinator, wire::decode_assignment},
};

/// Groups asked for at the same time.
const AT_ONCE: usize = 8;
/// The protocol type of groups of consumers.
const CONSUMER: &str = "consumer";
/// From here on the broker tells states.
const WITH_STATES: i16 = 4;

pub(super) async fn list(cluster: &Cluster) -> Result<Vec<GroupListing>, Error> {
    cluster.retrying(|| list_once(cluster)).await
}

async fn list_once(cluster: &Cluster) -> Result<Vec<GroupListing>, Error> {
    cluster.refresh(&[]).await?;
    let brokers = cluster.read_metadata().addresses();
    let mut groups: BTreeMap<String, GroupListing> = BTreeMap::new();
    for address in brokers {
        let connection = cluster.connection(&address, Purpose::Control).await?;
        let has_states = connection.version_of::<ListGroupsRequest>()? >= WITH_STATES;
        let answer = connection.call(cluster.config().request_timeout, |_| ListGroupsRequest::default()).await?;
        if answer.error_code != 0 {
            return Err(Error::broker_code(ListGroupsRequest::NAME, answer.error_code, None).at_broker(address));
        }
        for g in answer.groups {
            let listing = GroupListing {
                group: g.group_id.to_string(),
                protocol_type: g.protocol_type.to_string(),
                state: has_states.then(|| g.group_state.to_string()),
            };
            groups.insert(listing.group.clone(), listing);
        }
    }
    Ok(groups.into_values().collect())
}

pub(super) async fn describe(cluster: &Cluster, groups: &[String]) -> Result<Vec<GroupInfo>, Error> {
    let ask = |group: &String| {
        let coordinator = Coordinator::new(cluster.clone(), group);
        async move {
            let describe = || async {
                let described = describe_once(&coordinator).await;
                described.inspect_err(|_| coordinator.forget())
            };
            coordinator.cluster.retrying(describe).await
        }
    };
    let asking: Vec<_> = groups.iter().map(ask).collect();
    stream::iter(asking).buffered(AT_ONCE).try_collect().await
}

async fn describe_once(coordinator: &Coordinator) -> Result<GroupInfo, Error> {
    let connection = coordinator.connection(Purpose::Control).await?;
    let group = GroupId(StrBytes::from_string(coordinator.group.to_string()));
    let limit = coordinator.cluster.config().request_timeout;
    let answer = connection.call(limit, |_| DescribeGroupsRequest::default().with_groups(vec![group])).await?;
    let Some(described) = answer.groups.into_iter().next() else {
        return Err(Error::malformed(DescribeGroupsRequest::NAME, "the answer leaves out the group"));
    };
    if described.error_code != 0 {
        let message = described.error_message.map(|m| m.to_string());
        let error = Error::broker_code(DescribeGroupsRequest::NAME, described.error_code, message);
        return Err(error.at_broker(connection.address()));
    }
    Ok(info(described))
}

fn info(group: DescribedGroup) -> GroupInfo {
    let consumers = group.protocol_type.as_str() == CONSUMER;
    let mut members: Vec<MemberInfo> = group.members.into_iter().map(|m| member(m, consumers)).collect();
    members.sort_by(|a, b| a.member_id.cmp(&b.member_id));
    GroupInfo {
        group: group.group_id.to_string(),
        state: group.group_state.to_string(),
        protocol: group.protocol_data.to_string(),
        members,
    }
}

fn member(m: DescribedGroupMember, consumers: bool) -> MemberInfo {
    let assignment = if consumers { decode_assignment(m.member_assignment) } else { None };
    MemberInfo {
        member_id: m.member_id.to_string(),
        instance_id: m.group_instance_id.map(|i| i.to_string()),
        client_id: m.client_id.to_string(),
        client_host: m.client_host.to_string(),
        assignment: assignment.unwrap_or_default().into_iter().collect(),
    }
}
