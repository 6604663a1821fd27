"""aiokafka."""
import asyncio
import ssl

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from common import (
    BOOTSTRAP, CA_FILE, CODECS, PROTOCOL, SASL_MECHANISM, SASL_PASSWORD, SASL_USERNAME, START_TIME,
    main, messages, same)


def settings(**more):
    basics = {"bootstrap_servers": BOOTSTRAP, "security_protocol": PROTOCOL}
    if CA_FILE:
        basics["ssl_context"] = ssl.create_default_context(cafile=CA_FILE)
    if SASL_MECHANISM:
        basics |= {"sasl_mechanism": SASL_MECHANISM, "sasl_plain_username": SASL_USERNAME,
                   "sasl_plain_password": SASL_PASSWORD}
    return basics | more


async def send(topic, records, **more):
    async with AIOKafkaProducer(**settings(linger_ms=20, **more)) as producer:
        sent = [await producer.send(topic, key=key.encode(), value=value.encode()) for key, value in records]
        await asyncio.gather(*sent)


async def read(group, topic, count):
    found = []
    async with AIOKafkaConsumer(topic, **settings(group_id=group, auto_offset_reset="earliest")) as reader:
        while len(found) < count:
            message = await reader.getone()
            found.append((message.key.decode(), message.value.decode()))
    return found


async def codecs():
    for codec in CODECS:
        records = messages(50)
        await send(f"codec-{codec}", records, compression_type=None if codec == "none" else codec)
        same(sorted(records), sorted(await read(f"read-{codec}", f"codec-{codec}", 50)), codec)


async def idempotent():
    records = messages(2000)
    await send("idempotent", records, enable_idempotence=True)
    same(sorted(records), sorted(await read("idempotent", "idempotent", 2000)), "each once")


async def until(condition):
    while not condition():
        await asyncio.sleep(0.05)


async def group():
    """Two members share a topic; one leaves; nothing is missed."""
    records = [(f"key-{i}", str(i)) for i in range(600)]
    seen = []
    await send("shared", records[:200])

    async def member():
        reader = AIOKafkaConsumer("shared", **settings(
            group_id="sharers", auto_offset_reset="earliest", session_timeout_ms=6000, heartbeat_interval_ms=500))
        await reader.start()

        async def keep_reading():
            async for message in reader:
                seen.append(int(message.value))
        return reader, asyncio.create_task(keep_reading())

    first, first_task = await member()
    await until(lambda: len(first.assignment()) == 4)
    second, second_task = await member()
    await until(lambda: len(first.assignment()) == len(second.assignment()) == 2)
    await send("shared", records[200:400])
    await until(lambda: set(seen) >= set(range(400)))
    await second.stop()
    await send("shared", records[400:])
    await until(lambda: set(seen) >= set(range(600)) and len(first.assignment()) == 4)
    await first.stop()
    await asyncio.gather(first_task, second_task, return_exceptions=True)
    print("read twice:", len(seen) - len(set(seen)))


async def offsets():
    async with AIOKafkaProducer(**settings()) as producer:
        for i in range(10):
            await producer.send_and_wait("times", str(i).encode(), partition=0, timestamp_ms=START_TIME + i * 1000)
    partition = TopicPartition("times", 0)
    async with AIOKafkaConsumer(**settings(group_id="times", enable_auto_commit=False)) as reader:
        reader.assign([partition])
        same({partition: 0}, await reader.beginning_offsets([partition]), "start")
        same({partition: 10}, await reader.end_offsets([partition]), "end")
        found = await reader.offsets_for_times({partition: START_TIME + 4500})
        same(5, found[partition].offset, "first record after a time")
        reader.seek(partition, 2)
        same(b"2", (await reader.getone()).value, "after seek to 2")
        await reader.commit()
        same(3, await reader.committed(partition), "committed")


async def moved(isolation):
    """What a consumer of this isolation sees, up to the value that is committed last."""
    found = []
    async with AIOKafkaConsumer(**settings(isolation_level=isolation, auto_offset_reset="earliest")) as reader:
        reader.assign([TopicPartition("moved", 0)])
        await reader.seek_to_beginning()
        while found[-1:] != ["last"]:
            found.append((await reader.getone()).value.decode())
    return found


async def transactions():
    """Commit, abort, offsets of a group, and a second holder of the transactional id."""
    partition = TopicPartition("moved-from", 0)
    async with AIOKafkaProducer(**settings()) as producer:
        for i in range(10):
            await producer.send_and_wait("moved-from", str(i).encode(), partition=0)

    async def committed():
        async with AIOKafkaConsumer(**settings(group_id="movers", enable_auto_commit=False)) as reader:
            reader.assign([partition])
            return await reader.committed(partition) or 0

    async def transact(producer, value, end, offsets=None):
        await producer.begin_transaction()
        await producer.send_and_wait("moved", value.encode(), partition=0)
        if offsets:
            await producer.send_offsets_to_transaction(offsets, "movers")
        await end()

    producer = AIOKafkaProducer(**settings(transactional_id="mover"))
    await producer.start()
    await transact(producer, "committed", producer.commit_transaction)
    await transact(producer, "aborted", producer.abort_transaction)
    await transact(producer, "aborted with offsets", producer.abort_transaction, {partition: 10})
    same(0, await committed(), "offsets of an aborted transaction")
    await transact(producer, "committed with offsets", producer.commit_transaction, {partition: 10})
    same(10, await committed(), "offsets of a committed transaction")
    newer = AIOKafkaProducer(**settings(transactional_id="mover"))
    await newer.start()
    try:
        await transact(producer, "fenced", producer.commit_transaction)
        same("an error", "none", "the older holder")
    except KafkaError as error:
        print("the older holder:", type(error).__name__)
    await transact(newer, "last", newer.commit_transaction)
    same(["committed", "committed with offsets", "last"], await moved("read_committed"), "committed")
    same(["committed", "aborted", "aborted with offsets", "committed with offsets", "last"],
         [value for value in await moved("read_uncommitted") if value != "fenced"], "uncommitted")
    await newer.stop()
    try:
        await producer.stop()
    except KafkaError as error:
        print("closing the older holder:", type(error).__name__)


def within(seconds, scenario):
    return lambda: asyncio.run(asyncio.wait_for(scenario(), seconds))


main({scenario.__name__: within(60, scenario) for scenario in (codecs, idempotent, group, offsets, transactions)})
