import static org.apache.kafka.clients.admin.AlterConfigOp.OpType.SET;

import java.time.Duration;
import java.util.*;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.*;

/** Apache Kafka's own Java client. */
public class Client {
    static final long START_TIME = 1_704_067_200_000L; // 2024-01-01, in ms
    static final Map<String, String> ENV = System.getenv();

    interface Scenario { void run() throws Exception; }

    public static void main(String[] names) throws Exception {
        var scenarios = new LinkedHashMap<String, Scenario>();
        scenarios.put("codecs", Client::codecs);
        scenarios.put("idempotent", Client::idempotent);
        scenarios.put("group", Client::group);
        scenarios.put("offsets", Client::offsets);
        scenarios.put("transactions", Client::transactions);
        scenarios.put("admin", Client::admin);
        for (var name : names.length > 0 ? List.of(names) : scenarios.keySet()) {
            scenarios.get(name).run();
            System.out.println("ok " + name);
        }
    }

    static void codecs() throws Exception {
        for (var codec : ENV.getOrDefault("CODECS", "none gzip snappy lz4 zstd").split(" ")) {
            var records = messages(50);
            send("codec-" + codec, records, Map.of("compression.type", codec, "enable.idempotence", "false"));
            same(sorted(records), sorted(read("read-" + codec, "codec-" + codec, 50)), codec);
        }
    }

    static void idempotent() throws Exception {
        var records = messages(2000);
        send("idempotent", records, Map.of("enable.idempotence", "true"));
        same(sorted(records), sorted(read("idempotent", "idempotent", 2000)), "each once");
    }

    /** Two members share a topic; one leaves; nothing is missed. */
    static void group() throws Exception {
        var seen = new ArrayList<Integer>();
        send("shared", numbered(0, 200), Map.of());
        var first = consumer("sharers", Map.of());
        var second = consumer("sharers", Map.of());
        first.subscribe(List.of("shared"));
        until("one member has every partition", () -> note(seen, first) == 4);
        second.subscribe(List.of("shared"));
        until("two members share", () -> note(seen, first) == 2 & note(seen, second) == 2);
        send("shared", numbered(200, 400), Map.of());
        until("two members read", () -> {
            note(seen, first);
            note(seen, second);
            return new HashSet<>(seen).size() == 400;
        });
        second.close();
        send("shared", numbered(400, 600), Map.of());
        until("the one that stays reads on", () -> note(seen, first) == 4 && new HashSet<>(seen).size() == 600);
        first.close();
        System.out.println("read twice: " + (seen.size() - 600));
    }

    static void offsets() throws Exception {
        try (var producer = new KafkaProducer<String, String>(settings(Map.of()))) {
            for (int i = 0; i < 10; i++) {
                producer.send(new ProducerRecord<>("times", 0, START_TIME + i * 1000L, null, "" + i)).get();
            }
        }
        var partition = new TopicPartition("times", 0);
        try (var reader = consumer("times", Map.of("enable.auto.commit", "false"))) {
            reader.assign(List.of(partition));
            same(0L, reader.beginningOffsets(List.of(partition)).get(partition), "start");
            same(10L, reader.endOffsets(List.of(partition)).get(partition), "end");
            var found = reader.offsetsForTimes(Map.of(partition, START_TIME + 4500));
            same(5L, found.get(partition).offset(), "first record after a time");
            reader.seek(partition, 2);
            var next = reader.poll(Duration.ofSeconds(10)).records(partition).get(0);
            same("2", next.value(), "after seek to 2");
            reader.commitSync(Map.of(partition, new OffsetAndMetadata(7)));
            same(7L, reader.committed(Set.of(partition)).get(partition).offset(), "committed");
        }
    }

    /** Commit, abort, offsets with a group's metadata, and a second holder of the transactional id. */
    static void transactions() throws Exception {
        send("moved-from", numbered(0, 10), Map.of());
        var older = new KafkaProducer<String, String>(settings(Map.of("transactional.id", "mover")));
        older.initTransactions();
        transact(older, "committed", older::commitTransaction, null, null);
        transact(older, "aborted", older::abortTransaction, null, null);
        try (var reader = consumer("movers", Map.of("enable.auto.commit", "false"))) {
            reader.subscribe(List.of("moved-from"));
            var offsets = new HashMap<TopicPartition, OffsetAndMetadata>();
            until("reading what is to be moved", () -> {
                reader.poll(Duration.ofMillis(200)).forEach(record -> offsets.put(
                    new TopicPartition(record.topic(), record.partition()), new OffsetAndMetadata(record.offset() + 1)));
                return offsets.values().stream().mapToLong(OffsetAndMetadata::offset).sum() == 10;
            });
            transact(older, "aborted with offsets", older::abortTransaction, offsets, reader.groupMetadata());
            same(0L, committed(reader), "offsets of an aborted transaction");
            transact(older, "committed with offsets", older::commitTransaction, offsets, reader.groupMetadata());
            same(10L, committed(reader), "offsets of a committed transaction");
        }
        var newer = new KafkaProducer<String, String>(settings(Map.of("transactional.id", "mover")));
        newer.initTransactions();
        try {
            transact(older, "fenced", older::commitTransaction, null, null);
            throw new AssertionError("the older holder is not fenced");
        } catch (java.util.concurrent.ExecutionException | KafkaException error) {
            var cause = error instanceof KafkaException ? error : error.getCause();
            var fenced = cause instanceof ProducerFencedException || cause instanceof InvalidProducerEpochException;
            if (!fenced) throw new AssertionError("the older holder", error);
        }
        older.close(Duration.ZERO);
        transact(newer, "last", newer::commitTransaction, null, null);
        newer.close();
        same(List.of("committed", "committed with offsets", "last"), moved("read_committed"), "committed");
        var all = new ArrayList<>(moved("read_uncommitted"));
        all.removeIf("fenced"::equals);
        same(List.of("committed", "aborted", "aborted with offsets", "committed with offsets", "last"), all, "uncommitted");
        try (var admin = Admin.create(settings(Map.of()))) {
            var listed = admin.listTransactions().all().get().stream().map(TransactionListing::transactionalId).toList();
            same(true, listed.contains("mover"), "the transactional id is listed in " + listed);
            var described = admin.describeTransactions(List.of("mover")).description("mover").get();
            same("CompleteCommit", described.state().toString(), "its state");
            var partition = new TopicPartition("moved", 0);
            var producers = admin.describeProducers(List.of(partition)).partitionResult(partition).get().activeProducers();
            var own = producers.stream().filter(it -> it.producerId() == described.producerId()).toList();
            same(1, own.size(), "producers with its id in " + producers);
            same(OptionalLong.empty(), own.get(0).currentTransactionStartOffset(), "no transaction is open");
        }
    }

    static void transact(
        KafkaProducer<String, String> producer, String value, Runnable end,
        Map<TopicPartition, OffsetAndMetadata> offsets, ConsumerGroupMetadata group) throws Exception {
        producer.beginTransaction();
        producer.send(new ProducerRecord<>("moved", 0, null, value)).get();
        if (offsets != null) producer.sendOffsetsToTransaction(offsets, group);
        end.run();
    }

    static long committed(KafkaConsumer<String, String> reader) {
        return reader.committed(reader.assignment()).values().stream()
            .filter(Objects::nonNull).mapToLong(OffsetAndMetadata::offset).sum();
    }

    /** What a consumer of this isolation sees, up to the value that is committed last. */
    static List<String> moved(String isolation) throws Exception {
        var found = new ArrayList<String>();
        try (var reader = consumer("unused", Map.of("isolation.level", isolation, "enable.auto.commit", "false"))) {
            var partition = new TopicPartition("moved", 0);
            reader.assign(List.of(partition));
            reader.seekToBeginning(List.of(partition));
            until(isolation + ": reading to the last", () -> {
                reader.poll(Duration.ofMillis(200)).forEach(record -> found.add(record.value()));
                return !found.isEmpty() && found.get(found.size() - 1).equals("last");
            });
        }
        return found;
    }

    static void admin() throws Exception {
        try (var admin = Admin.create(settings(Map.of()))) {
            var topic = new NewTopic("made", 3, (short) 1).configs(Map.of("retention.ms", "60000"));
            admin.createTopics(List.of(topic)).all().get();
            same(3, partitions(admin), "partitions");
            same("60000", retention(admin), "as created");
            var change = new AlterConfigOp(new ConfigEntry("retention.ms", "120000"), SET);
            admin.incrementalAlterConfigs(Map.of(made(), List.of(change))).all().get();
            same("120000", retention(admin), "as altered");
            admin.createPartitions(Map.of("made", NewPartitions.increaseTo(5))).all().get();
            until("five partitions", () -> partitions(admin) == 5);
            send("made", messages(10), Map.of());
            read("made-readers", "made", 10);
            var listed = admin.listGroups().all().get().stream().map(GroupListing::groupId).toList();
            same(true, listed.contains("made-readers"), "the group is listed in " + listed);
            var described = admin.describeConsumerGroups(List.of("made-readers")).all().get();
            same("Empty", described.get("made-readers").groupState().toString(), "its state");
            var committed = admin.listConsumerGroupOffsets("made-readers").partitionsToOffsetAndMetadata().get();
            same(10L, committed.values().stream().mapToLong(OffsetAndMetadata::offset).sum(), "its offsets");
            admin.deleteConsumerGroups(List.of("made-readers")).all().get();
            admin.deleteTopics(List.of("made")).all().get();
            until("the topic is gone", () -> !got(admin.listTopics().names()).contains("made"));
        }
    }

    static ConfigResource made() { return new ConfigResource(ConfigResource.Type.TOPIC, "made"); }

    static int partitions(Admin admin) {
        return got(admin.describeTopics(List.of("made")).allTopicNames()).get("made").partitions().size();
    }

    static String retention(Admin admin) {
        return got(admin.describeConfigs(List.of(made())).all()).get(made()).get("retention.ms").value();
    }

    static <T> T got(org.apache.kafka.common.KafkaFuture<T> future) {
        try {
            return future.get();
        } catch (Exception error) {
            throw new RuntimeException(error);
        }
    }

    static Map<String, Object> settings(Map<String, String> more) throws Exception {
        var settings = new HashMap<String, Object>(Map.of(
            "bootstrap.servers", ENV.get("BOOTSTRAP"), "key.serializer", StringSerializer.class,
            "value.serializer", StringSerializer.class, "key.deserializer", StringDeserializer.class,
            "value.deserializer", StringDeserializer.class));
        var mechanism = ENV.get("SASL_MECHANISM");
        var authority = ENV.get("CA_FILE");
        settings.put("security.protocol", (mechanism == null ? "" : "SASL_") + (authority == null ? "PLAINTEXT" : "SSL"));
        if (authority != null) {
            settings.put("ssl.truststore.type", "PEM");
            settings.put("ssl.truststore.location", authority);
        }
        if (mechanism != null) {
            settings.put("sasl.mechanism", mechanism);
            settings.put("sasl.jaas.config", String.format(
                "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"%s\" password=\"%s\";",
                ENV.get("SASL_USERNAME"), ENV.get("SASL_PASSWORD")));
        }
        settings.putAll(more);
        return settings;
    }

    static KafkaConsumer<String, String> consumer(String group, Map<String, String> more) throws Exception {
        var settings = settings(more);
        settings.put("group.id", group);
        settings.put("auto.offset.reset", "earliest");
        settings.put("session.timeout.ms", "6000");
        settings.put("heartbeat.interval.ms", "500");
        return new KafkaConsumer<>(settings);
    }

    static List<String[]> messages(int count) {
        var records = new ArrayList<String[]>();
        for (int i = 0; i < count; i++) records.add(new String[] {"key-" + i % 7, "value-" + i + "-" + "x".repeat(100)});
        return records;
    }

    static List<String[]> numbered(int from, int to) {
        var records = new ArrayList<String[]>();
        for (int i = from; i < to; i++) records.add(new String[] {"key-" + i, "" + i});
        return records;
    }

    static void send(String topic, List<String[]> records, Map<String, String> more) throws Exception {
        var linger = new HashMap<>(Map.of("linger.ms", "20"));
        linger.putAll(more);
        try (var producer = new KafkaProducer<String, String>(settings(linger))) {
            var sent = new ArrayList<java.util.concurrent.Future<RecordMetadata>>();
            for (var record : records) sent.add(producer.send(new ProducerRecord<>(topic, record[0], record[1])));
            for (var delivery : sent) delivery.get();
        }
    }

    static List<String[]> read(String group, String topic, int count) throws Exception {
        var found = new ArrayList<String[]>();
        try (var reader = consumer(group, Map.of())) {
            reader.subscribe(List.of(topic));
            until(topic + ": reading " + count, () -> {
                reader.poll(Duration.ofMillis(200)).forEach(record -> found.add(new String[] {record.key(), record.value()}));
                return found.size() >= count;
            });
        }
        return found;
    }

    /** Notes what the member has read, and returns how many partitions it has. */
    static int note(List<Integer> seen, KafkaConsumer<String, String> member) {
        member.poll(Duration.ofMillis(50)).forEach(record -> seen.add(Integer.valueOf(record.value())));
        return member.assignment().size();
    }

    static List<String> sorted(List<String[]> records) {
        return records.stream().map(record -> String.join("=", record)).sorted().toList();
    }

    static void same(Object expected, Object found, String what) {
        if (!expected.equals(found)) throw new AssertionError(what + ": expected " + expected + "\nfound " + found);
    }

    static void until(String what, BooleanSupplier condition) {
        var end = System.nanoTime() + Duration.ofSeconds(30).toNanos();
        while (!condition.getAsBoolean()) {
            if (System.nanoTime() > end) throw new AssertionError(what + ": not within 30 s");
        }
    }
}
