"""confluent-kafka (librdkafka)."""
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, ResourceType)

from common import (
    BOOTSTRAP, CA_FILE, CODECS, PROTOCOL, SASL_MECHANISM, SASL_PASSWORD, SASL_USERNAME, START_TIME,
    deadline, main, messages, same)


def settings(**more):
    basics = {"bootstrap.servers": BOOTSTRAP, "security.protocol": PROTOCOL}
    if CA_FILE:
        basics["ssl.ca.location"] = CA_FILE
    if SASL_MECHANISM:
        basics |= {"sasl.mechanism": SASL_MECHANISM, "sasl.username": SASL_USERNAME, "sasl.password": SASL_PASSWORD}
    return basics | {name.replace("_", "."): value for name, value in more.items()}


def consumer(group, **more):
    return Consumer(settings(group_id=group, auto_offset_reset="earliest", session_timeout_ms=6000, **more))


def send(topic, records, **more):
    failures = []
    producer = Producer(settings(linger_ms=20, **more))
    for key, value in records:
        producer.produce(topic, key=key, value=value, on_delivery=lambda error, _: error and failures.append(error))
        producer.poll(0)
    same(0, producer.flush(30), f"{topic}: messages left after flush")
    same([], failures, f"{topic}: failed deliveries")


def read(group, topic, count):
    reader = consumer(group)
    reader.subscribe([topic])
    found = []
    for _ in deadline(30, f"{topic}: reading {count}"):
        message = reader.poll(0.2)
        if message is not None and not message.error():
            found.append((message.key().decode(), message.value().decode()))
        if len(found) >= count:
            break
    reader.close()
    return found


def codecs():
    for codec in CODECS:
        records = messages(50)
        send(f"codec-{codec}", records, compression_type=codec)
        same(sorted(records), sorted(read(f"read-{codec}", f"codec-{codec}", 50)), codec)


def idempotent():
    records = messages(2000)
    send("idempotent", records, enable_idempotence=True)
    same(sorted(records), sorted(read("idempotent", "idempotent", 2000)), "each once")


def group():
    """Two members share a topic; one leaves; nothing is missed."""
    records = [(f"key-{i}", str(i)) for i in range(600)]
    send("shared", records[:200])
    first, second = consumer("sharers"), consumer("sharers")
    seen = []

    def poll(*members):
        for member in members:
            message = member.poll(0.05)
            if message is not None and not message.error():
                seen.append(int(message.value()))

    first.subscribe(["shared"])
    for _ in deadline(30, "one member has every partition"):
        poll(first)
        if len(first.assignment()) == 4:
            break
    second.subscribe(["shared"])
    for _ in deadline(30, "two members share"):
        poll(first, second)
        if len(first.assignment()) == len(second.assignment()) == 2:
            break
    send("shared", records[200:400])
    for _ in deadline(30, "two members read"):
        poll(first, second)
        if set(seen) >= set(range(400)):
            break
    second.close()
    send("shared", records[400:])
    for _ in deadline(30, "the one that stays reads on"):
        poll(first)
        if set(seen) >= set(range(600)):
            break
    same(4, len(first.assignment()), "partitions of the last member")
    print("read twice:", len(seen) - len(set(seen)))
    first.close()


def offsets():
    producer = Producer(settings())
    for i in range(10):
        producer.produce("times", value=str(i), partition=0, timestamp=START_TIME + i * 1000)
        producer.flush()
    reader = consumer("times", enable_auto_commit=False)
    same((0, 10), reader.get_watermark_offsets(TopicPartition("times", 0), timeout=10), "watermarks")
    asked = [TopicPartition("times", 0, START_TIME + 4500)]
    same(5, reader.offsets_for_times(asked, timeout=10)[0].offset, "first record after a time")
    reader.assign([TopicPartition("times", 0, 5)])
    same(b"5", reader.poll(10).value(), "assigned at 5")
    reader.seek(TopicPartition("times", 0, 2))
    same(b"2", reader.poll(10).value(), "after seek to 2")
    reader.commit(offsets=[TopicPartition("times", 0, 7)], asynchronous=False)
    same(7, reader.committed([TopicPartition("times", 0)], timeout=10)[0].offset, "committed")
    reader.close()


def moved(isolation):
    """What a consumer of this isolation sees, up to the value that is committed last."""
    reader = consumer("unused", isolation_level=isolation)
    reader.assign([TopicPartition("moved", 0, 0)])
    found = []
    for _ in deadline(30, f"{isolation}: reading to the last"):
        message = reader.poll(0.2)
        if message is not None and not message.error():
            found.append(message.value().decode())
        if found[-1:] == ["last"]:
            break
    reader.close()
    return found


def transactions():
    """Commit, abort, offsets with a group's metadata, and a second holder of the transactional id."""
    producer = Producer(settings(transactional_id="mover"))
    producer.init_transactions(20)

    def transact(value, end, offsets=None):
        producer.begin_transaction()
        producer.produce("moved", value=value, partition=0)
        # An abort would throw away what is not sent yet.
        same(0, producer.flush(20), f"{value}: messages left after flush")
        if offsets:
            producer.send_offsets_to_transaction(offsets, reader.consumer_group_metadata(), 20)
        end(20)

    transact("committed", producer.commit_transaction)
    transact("aborted", producer.abort_transaction)
    send("moved-from", [("key", str(i)) for i in range(10)])
    reader = consumer("movers", enable_auto_commit=False)
    reader.subscribe(["moved-from"])
    read_so_far = 0
    for _ in deadline(30, "reading what is to be moved"):
        message = reader.poll(0.2)
        read_so_far += message is not None and not message.error()
        if read_so_far == 10:
            break
    assignment = reader.assignment()
    offsets = [it for it in reader.position(assignment) if it.offset > 0]

    def committed():
        return sum(max(it.offset, 0) for it in reader.committed(assignment, timeout=20))

    transact("aborted with offsets", producer.abort_transaction, offsets)
    same(0, committed(), "offsets of an aborted transaction")
    transact("committed with offsets", producer.commit_transaction, offsets)
    same(10, committed(), "offsets of a committed transaction")
    reader.close()
    newer = Producer(settings(transactional_id="mover"))
    newer.init_transactions(20)
    try:
        transact("fenced", producer.commit_transaction)
        same("an error", "none", "the older holder")
    except KafkaException as error:
        same(True, error.args[0].fatal(), f"fatal: {error}")
    producer = newer
    transact("last", producer.commit_transaction)
    same(["committed", "committed with offsets", "last"], moved("read_committed"), "committed")
    same(["committed", "aborted", "aborted with offsets", "committed with offsets", "last"],
         [value for value in moved("read_uncommitted") if value != "fenced"], "uncommitted")


def admin():
    client = AdminClient(settings())

    def done(futures):
        return [future.result(20) for future in futures.values()]

    done(client.create_topics([NewTopic("made", 3, 1, config={"retention.ms": "60000"})]))
    same(3, len(client.list_topics("made", 10).topics["made"].partitions), "partitions")
    resource = ConfigResource(ResourceType.TOPIC, "made")
    same("60000", done(client.describe_configs([resource]))[0]["retention.ms"].value, "as created")
    change = ConfigEntry("retention.ms", "120000", incremental_operation=AlterConfigOpType.SET)
    done(client.incremental_alter_configs(
        [ConfigResource(ResourceType.TOPIC, "made", incremental_configs=[change])]))
    same("120000", done(client.describe_configs([resource]))[0]["retention.ms"].value, "as altered")
    done(client.create_partitions([NewPartitions("made", 5)]))
    for _ in deadline(10, "five partitions"):
        if len(client.list_topics("made", 10).topics["made"].partitions) == 5:
            break
    send("made", messages(10))
    read("made-readers", "made", 10)
    groups = {listed.group_id for listed in client.list_consumer_groups().result(20).valid}
    same(True, "made-readers" in groups, f"the group is listed in {groups}")
    same("EMPTY", done(client.describe_consumer_groups(["made-readers"]))[0].state.name, "its state")
    done(client.delete_consumer_groups(["made-readers"]))
    done(client.delete_topics(["made"]))
    for _ in deadline(10, "the topic is gone"):
        if "made" not in client.list_topics(timeout=10).topics:
            break


main({"codecs": codecs, "idempotent": idempotent, "group": group, "offsets": offsets, "transactions": transactions,
      "admin": admin})
