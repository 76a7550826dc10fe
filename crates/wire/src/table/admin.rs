//! Topics and configurations.

use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest,
    CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

use super::shapes;
use crate::shape::{array, fixed, numbers, text, texts};

shapes! {
    CreateTopicsRequest: 5 => [
        array("topics", &[
            text("name"), fixed(6), array("assignments", &[fixed(4), numbers("broker_ids", 4)]),
            array("configs", &[text("name"), text("value")]),
        ]),
        fixed(5),
    ],
    DeleteTopicsRequest: 4 => [
        array("topics", &[text("name"), fixed(16)]).since(6), texts("topic_names").until(5), fixed(4),
    ],
    CreatePartitionsRequest: 2 => [
        array("topics", &[text("name"), fixed(4), array("assignments", &[numbers("broker_ids", 4)])]), fixed(5),
    ],
    DescribeConfigsRequest: 4 => [
        array("resources", &[fixed(1), text("resource_name"), texts("configuration_keys")]), fixed(1),
        fixed(1).since(3),
    ],
    AlterConfigsRequest: 2 => [
        array("resources", &[fixed(1), text("resource_name"), array("configs", &[text("name"), text("value")])]),
        fixed(1),
    ],
    IncrementalAlterConfigsRequest: 1 => [
        array("resources", &[
            fixed(1), text("resource_name"), array("configs", &[text("name"), fixed(1), text("value")]),
        ]),
        fixed(1),
    ],
    CreateTopicsResponse: 5 => [
        fixed(4),
        array("topics", &[
            text("name"), fixed(16).since(7), fixed(2), text("error_message"), fixed(6).since(5),
            array("configs", &[text("name"), text("value"), fixed(3)]).since(5), fixed(2).tag(0).since(5),
        ]),
    ],
    DeleteTopicsResponse: 4 => [
        fixed(4), array("responses", &[text("name"), fixed(16).since(6), fixed(2), text("error_message").since(5)]),
    ],
    CreatePartitionsResponse: 2 => [fixed(4), array("results", &[text("name"), fixed(2), text("error_message")])],
    DescribeConfigsResponse: 4 => [
        fixed(4),
        array("results", &[
            fixed(2), text("error_message"), fixed(1), text("resource_name"),
            array("configs", &[
                text("name"), text("value"), fixed(3), array("synonyms", &[text("name"), text("value"), fixed(1)]),
                fixed(1).since(3), text("documentation").since(3),
            ]),
        ]),
    ],
    AlterConfigsResponse: 2 => [
        fixed(4), array("responses", &[fixed(2), text("error_message"), fixed(1), text("resource_name")]),
    ],
    IncrementalAlterConfigsResponse: 1 => [
        fixed(4), array("responses", &[fixed(2), text("error_message"), fixed(1), text("resource_name")]),
    ],
}
