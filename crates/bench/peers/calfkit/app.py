"""The KYC flow on calfkit: a process for each node; the supervisor is an agent, the four checks are its tools.

calfkit joins what an agent asked several tools at once: it folds their answers into a durable batch (compacted topics)
and runs the agent again. So the supervisor calls the four checks, and on its second turn is the composer. A calfkit
agent is driven by a model; the supervisor of this flow needs none, so its model is a function (`FunctionModel`, which
calfkit carries along from pydantic-ai). The customer is an agent with a real model over HTTP.

calfkit speaks its own envelope. The `edge` process is the way in and out: it turns a request into a call of the
supervisor, and what the supervisor publishes into an outcome.

Environment: BROKERS, MODEL_URL, IN_TOPIC, OUT_TOPIC; PREFIX of the topics between; PARTITIONS; REPLICAS; WORKERS (max_workers of
each worker, 1 is calfkit's default); FANOUT_MS (poll and wait of the batch store's readers; unset: calfkit's default);
IDEMPOTENT=1 for an idempotent producer (acks=all); SETTLE_MS before fraud judges.
"""

import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path

from calfkit import (Agent, Client, FanoutConfig, KTableReaderTuning, OpenAIModelClient, ProvisioningConfig, ToolContext,
                     Worker, agent_tool, consumer)
from calfkit._vendor.pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart, ToolReturnPart, UserPromptPart
from calfkit._vendor.pydantic_ai.models.function import FunctionModel
from calfkit._vendor.pydantic_ai.output import NativeOutput
from faststream.kafka import KafkaBroker, KafkaMessage
from pydantic import BaseModel

sys.path.insert(0, str(Path(__file__).parent.parent / "common"))
import kyc  # noqa: E402
import processes  # noqa: E402
import topics  # noqa: E402

BROKERS = os.environ["BROKERS"]
IN, OUT = os.environ["IN_TOPIC"], os.environ["OUT_TOPIC"]
PREFIX = os.environ.get("PREFIX", f"{OUT}.calfkit")
WORKERS, PARTITIONS = int(os.environ.get("WORKERS", "1")), int(os.environ.get("PARTITIONS", "6"))
FANOUT_MS, IDEMPOTENT = os.environ.get("FANOUT_MS"), os.environ.get("IDEMPOTENT") == "1" or None
SETTLE = int(os.environ.get("SETTLE_MS", "2000")) / 1000
OUTCOMES, LETTERS = f"{PREFIX}.outcomes", f"{PREFIX}.letters"
DLQ, ALERTS, MESSAGES = f"{IN}.dlq", f"{OUT}.alerts", f"{OUT}.messages"
MOST = 200_000  # cases that the edge remembers, so that a request that comes twice is one case

MODEL, HISTORY = kyc.Model(), kyc.History()


def check(name):
    """A check as a tool. The request travels beside the conversation, as its deps."""

    async def tool(ctx: ToolContext, round: int, question: str | None) -> dict:
        case, request, task = ctx.correlation_id, ctx.deps["request"], {"round": round, "question": question}
        if name != "fraud":
            return await getattr(kyc, name)(MODEL, case, request, task)
        HISTORY.add(case, request)
        await asyncio.sleep(SETTLE)
        return kyc.fraud(request, HISTORY.related(case, kyc.traits(request)), len(HISTORY.cases))

    return agent_tool(tool, name=name)


CHECKS = {name: check(name) for name in kyc.AGENTS}


async def decide(messages, _info):
    """The supervisor's turns: call the checks; then compose, or ask again those that are not sure."""
    start, parts, rounds = None, {}, 0
    for message in messages:
        for piece in message.parts:
            if isinstance(piece, UserPromptPart):
                start = json.loads(piece.content)
            elif isinstance(piece, ToolReturnPart):
                content = piece.content
                parts[piece.tool_name] = json.loads(content) if isinstance(content, str) else content
        rounds += isinstance(message, ModelResponse)
    if rounds == 0:
        asked = dict.fromkeys(kyc.AGENTS)
    else:
        what, asked = kyc.compose(start["case"], parts, rounds - 1, start["opened_at"])
        if what != "follow_up":
            return ModelResponse(parts=[TextPart(kyc.compact(asked))])
    calls = [ToolCallPart(tool_name=a, args={"round": rounds, "question": q}) for a, q in asked.items()]
    return ModelResponse(parts=calls)


class Letter(BaseModel):
    subject: str
    body: str


def supervisor():
    return Agent(name="supervisor", description="Plans a case and decides it.", model_client=FunctionModel(decide),
                 tools=list(CHECKS.values()), publish_topic=OUTCOMES)


def customer():
    model = OpenAIModelClient(MODEL.name, base_url=os.environ["MODEL_URL"], api_key=os.environ.get("OPENAI_API_KEY", "any"),
                              temperature=0, max_tokens=800, timeout=30, extra_headers={"x-agent": "customer"})
    system = f"{kyc.DATA['prompts']['customer_message']['system']}\n\n{kyc.DATA['preface']}"
    return Agent(name="customer", description="Tells the applicant what happens next.", system_prompt=system,
                 model_client=model, final_output_type=NativeOutput(Letter, name="customer_message"), publish_topic=LETTERS)


def edge(client, outside):
    """The nodes that lead out, and the way in on `outside`, a plain FastStream broker."""
    seen = {}

    async def publish(topic, case, value):
        await outside.publish(value, topic=topic, key=case.encode())

    @outside.subscriber(IN, group_id=f"{PREFIX}.edge", auto_offset_reset="earliest")
    async def on_request(msg: KafkaMessage):
        raw, request = msg.raw_message, await msg.decode()
        case = raw.key.decode(errors="replace") if raw.key else f"{raw.topic}-{raw.partition}-{raw.offset}"
        if not kyc.readable(request):
            return await publish(DLQ, case, msg.body)
        if case in seen:
            return
        seen[case] = None
        if len(seen) > MOST:
            del seen[next(iter(seen))]
        start = kyc.compact({"case": case, "opened_at": kyc.now()})
        await client.agent("supervisor").send(start, correlation_id=case, deps={"request": request})

    @consumer(name="edge-outcomes", subscribe_topics=OUTCOMES, agent_output_type=str)
    async def on_outcome(ctx):
        if ctx.output is None or ctx.emitter_node_id != "supervisor":
            return
        outcome, request = json.loads(ctx.output), ctx.deps["request"]
        await publish(OUT, ctx.correlation_id, outcome)
        asked = kyc.customer_asks(outcome)
        prompt = kyc.fence(kyc.DATA["prompts"]["customer_message"]["name"], kyc.compact(asked))
        await client.agent("customer").send(prompt, correlation_id=ctx.correlation_id, deps={"request": request, "asked": asked})

    @consumer(name="edge-alerts", subscribe_topics=["tool.document.output", "tool.fraud.output"], agent_output_type=dict)
    async def on_answer(ctx):
        if ctx.output and (alert := kyc.alert_of(ctx.correlation_id, ctx.output)):
            await publish(ALERTS, ctx.correlation_id, alert)

    @consumer(name="edge-letters", subscribe_topics=LETTERS, agent_output_type=Letter)
    async def on_letter(ctx):
        if ctx.output is not None:
            letter = kyc.letter(ctx.correlation_id, ctx.deps["request"], ctx.deps["asked"], ctx.output.model_dump())
            await publish(MESSAGES, ctx.correlation_id, letter)

    return [on_outcome, on_answer, on_letter]


async def run(role, ready):
    logging.disable(logging.INFO)  # a line for each record is not what is to be measured
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await topics.ensure(BROKERS, [IN, OUT, DLQ, ALERTS, MESSAGES], PARTITIONS)
    provisioning = ProvisioningConfig(enabled=True, num_partitions=PARTITIONS,
                                      replication_factor=int(os.environ.get("REPLICAS", "1")))
    client = Client.connect(BROKERS, provisioning=provisioning, enable_idempotence=IDEMPOTENT)
    outside = KafkaBroker(BROKERS, logger=None)
    if role == "edge":
        nodes = edge(client, outside)
    else:
        nodes = [{"supervisor": supervisor, "customer": customer}.get(role, lambda: CHECKS[role])()]
    tuning = {"poll_timeout_ms": int(FANOUT_MS), "fetch_max_wait_ms": int(FANOUT_MS)} if FANOUT_MS else {}
    workers = max(WORKERS, 256) if role == "fraud" and SETTLE else WORKERS  # a case that settles must not hold up the next
    worker = Worker(client, nodes, max_workers=workers, fanout=FanoutConfig(reader_tuning=KTableReaderTuning(**tuning)),
                    extra_subscribe_kwargs={"auto_offset_reset": "earliest"})
    async with worker:
        if role == "edge":
            await outside.start()
        subscribers = [s for s in (*client.broker.subscribers, *outside.subscribers) if s.consumer]
        while not all(s.consumer.assignment() for s in subscribers):
            await asyncio.sleep(0.1)
        ready()
        await stop.wait()
        await outside.stop()


if __name__ == "__main__":
    processes.run_all(run, [*kyc.AGENTS, "customer", "supervisor", "edge"])
