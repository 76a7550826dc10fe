"""The other side of tests/cloudevents.rs: reads records of ours and writes records for us.

Standard input: {"records": [{"name", "mode", "key", "headers", "value"}]}, bytes in base64. Standard output: what was
read of each, the same events written again, and events of this side's own.
"""

import base64
import json
import sys
from datetime import datetime, timedelta, timezone

from cloudevents.core.bindings import kafka
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1 import http as old_http
from cloudevents.v1 import kafka as old

FORMAT = JSONFormat()


def encode(data):
    return base64.b64encode(data).decode("ascii")


def as_bytes(text):
    return text.encode("utf-8") if isinstance(text, str) else text


def as_record(message):
    return {
        "key": None if message.key is None else encode(as_bytes(message.key)),
        "headers": [[name, encode(value)] for name, value in message.headers.items()],
        "value": encode(as_bytes(message.value)),
    }


def as_text(attributes):
    """The attributes as the specification writes them in a header."""
    out = {}
    for name, value in attributes.items():
        if isinstance(value, bool):
            out[name] = "true" if value else "false"
        elif isinstance(value, datetime):
            out[name] = value.isoformat()
        elif value is not None:
            out[name] = str(value)
    return out


def read(record):
    headers = {name: base64.b64decode(value) for name, value in record["headers"]}
    key = None if record["key"] is None else base64.b64decode(record["key"])
    value = base64.b64decode(record["value"])
    message = kafka.KafkaMessage(headers=headers, key=key, value=value)
    old_message = old.KafkaMessage(headers, None if key is None else key.decode("utf-8"), value)
    if record["mode"] == "binary":
        event = kafka.from_binary(message, FORMAT)
        old_event = old.from_binary(old_message)
    else:
        event = kafka.from_structured(message, FORMAT)
        old_event = old.from_structured(old_message)
    detected = kafka.from_kafka(message, FORMAT)
    assert detected.get_attributes() == event.get_attributes(), "the mode is not recognised"
    return {
        "name": record["name"],
        "attributes": as_text(event.get_attributes()),
        "data": event.get_data(),
        "old_attributes": as_text(old_event.get_attributes()),
        "old_data": old_event.get_data(),
        "again": {
            "binary": as_record(kafka.to_binary(event, FORMAT)),
            "structured": as_record(kafka.to_structured(event, FORMAT)),
        },
    }


def own(name, attributes, data, expected_data):
    event = CloudEvent(attributes=dict(attributes), data=data)
    modes = {
        "binary": as_record(kafka.to_binary(event, FORMAT)),
        "structured": as_record(kafka.to_structured(event, FORMAT)),
    }
    texts = {k: v.isoformat() if isinstance(v, datetime) else v for k, v in attributes.items()}
    if isinstance(data, dict) and all(isinstance(text, str) for text in texts.values()):
        # The binding of 1.x writes no content type of a structured event; with one of the data, it writes that.
        old_event = old_http.CloudEvent.create(texts, data)
        modes["old_structured"] = as_record(old.to_structured(old_event))
        if "datacontenttype" in texts:
            modes["old_binary"] = as_record(old.to_binary(old_event))
    return {"name": name, "attributes": as_text(attributes), "data": encode(expected_data), "modes": modes}


def own_events():
    required = {"specversion": "1.0", "id": "p-1", "source": "/python", "type": "kyc.request"}
    later = datetime(2030, 3, 17, 19, 46, 40, 123456, tzinfo=timezone(timedelta(hours=2)))
    full = {
        **required,
        "datacontenttype": "application/json",
        "subject": "identity",
        "time": later,
        "correlationid": "case-7",
        "causationid": "cause-1",
        "expirytime": "2030-03-17T17:51:40Z",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-1111111111111111-00",
        "partitionkey": "case-7",
    }
    data = {"name": "Žofie Špecimen", "amount": 1250.1, "list": [1, None, True]}
    text = json.dumps(data).encode("utf-8")
    return [
        own("required only", {**required, "time": later}, data, text),
        own("everything", full, data, text),
        own("numbers and booleans", {**full, "correlationid": 42, "urgent": True}, data, text),
        own("JSON as bytes", full, text, text),
        own("text", {**full, "datacontenttype": "text/plain"}, "plain – text", "plain – text".encode("utf-8")),
        own("bytes", {**full, "datacontenttype": "application/octet-stream"}, b"\xff\x00\x01", b"\xff\x00\x01"),
        own("unicode", {**full, "subject": "東京 🙂", "correlationid": "případ-7"}, data, text),
    ]


def main():
    records = json.load(sys.stdin)["records"]
    json.dump({"read": [read(record) for record in records], "own": own_events()}, sys.stdout)


if __name__ == "__main__":
    main()
