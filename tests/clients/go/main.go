// franz-go, with its admin package.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

const startTime = 1704067200000 // 2024-01-01, in ms

var codecTypes = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

func main() {
	scenarios := []struct {
		name string
		run  func(context.Context)
	}{{"codecs", codecs}, {"idempotent", idempotent}, {"group", group}, {"offsets", offsets}, {"transactions", transactions},
		{"admin", admin}}
	wanted := os.Args[1:]
	for _, scenario := range scenarios {
		if len(wanted) == 0 || slices.Contains(wanted, scenario.name) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			scenario.run(ctx)
			cancel()
			fmt.Println("ok", scenario.name)
		}
	}
}

func client(more ...kgo.Opt) *kgo.Client {
	return got(kgo.NewClient(options(more...)...))
}

func options(more ...kgo.Opt) []kgo.Opt {
	settings := []kgo.Opt{kgo.SeedBrokers(os.Getenv("BOOTSTRAP")), kgo.AllowAutoTopicCreation()}
	if file := os.Getenv("CA_FILE"); file != "" {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(got(os.ReadFile(file)))
		settings = append(settings, kgo.DialTLSConfig(&tls.Config{RootCAs: roots}))
	}
	auth := scram.Auth{User: os.Getenv("SASL_USERNAME"), Pass: os.Getenv("SASL_PASSWORD")}
	switch os.Getenv("SASL_MECHANISM") {
	case "SCRAM-SHA-256":
		settings = append(settings, kgo.SASL(auth.AsSha256Mechanism()))
	case "SCRAM-SHA-512":
		settings = append(settings, kgo.SASL(auth.AsSha512Mechanism()))
	}
	return append(settings, more...)
}

func codecs(ctx context.Context) {
	for _, codec := range strings.Fields(or(os.Getenv("CODECS"), "none gzip snappy lz4 zstd")) {
		sent := messages("codec-"+codec, 0, 50)
		send(ctx, sent, kgo.ProducerBatchCompression(codecTypes[codec]), kgo.DisableIdempotentWrite())
		same(values(sent), values(read(ctx, "read-"+codec, "codec-"+codec, 50)), codec)
	}
}

func idempotent(ctx context.Context) {
	sent := messages("idempotent", 0, 2000)
	send(ctx, sent)
	same(values(sent), values(read(ctx, "idempotent", "idempotent", 2000)), "each once")
}

// member reads "shared" on a goroutine of its own until its client is closed.
type member struct {
	client   *kgo.Client
	assigned int
}

// group lets two members share a topic; one leaves; nothing is missed.
func group(ctx context.Context) {
	var lock sync.Mutex
	seen, total := map[string]bool{}, 0
	join := func() *member {
		joined := &member{}
		count := func(by int) func(context.Context, *kgo.Client, map[string][]int32) {
			return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
				lock.Lock()
				defer lock.Unlock()
				joined.assigned += by * len(changed["shared"])
			}
		}
		joined.client = client(kgo.ConsumerGroup("sharers"), kgo.ConsumeTopics("shared"), kgo.SessionTimeout(6*time.Second),
			kgo.HeartbeatInterval(500*time.Millisecond), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.OnPartitionsAssigned(count(1)), kgo.OnPartitionsRevoked(count(-1)), kgo.OnPartitionsLost(count(-1)))
		go func() {
			for fetches := joined.client.PollFetches(ctx); !fetches.IsClientClosed() && ctx.Err() == nil; {
				lock.Lock()
				fetches.EachRecord(func(record *kgo.Record) { seen[string(record.Value)] = true; total++ })
				lock.Unlock()
				fetches = joined.client.PollFetches(ctx)
			}
		}()
		return joined
	}
	holds := func(condition func() bool) func() bool {
		return func() bool {
			lock.Lock()
			defer lock.Unlock()
			return condition()
		}
	}
	send(ctx, messages("shared", 0, 200))
	first := join()
	until(ctx, "one member has every partition", holds(func() bool { return first.assigned == 4 }))
	second := join()
	until(ctx, "two members share", holds(func() bool { return first.assigned == 2 && second.assigned == 2 }))
	send(ctx, messages("shared", 200, 400))
	until(ctx, "two members read", holds(func() bool { return len(seen) == 400 }))
	second.client.Close()
	send(ctx, messages("shared", 400, 600))
	until(ctx, "the one that stays reads on", holds(func() bool { return len(seen) == 600 && first.assigned == 4 }))
	first.client.Close()
	fmt.Println("read twice:", total-600)
}

func offsets(ctx context.Context) {
	producer := client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for i := range 10 {
		record := &kgo.Record{Topic: "times", Value: []byte(strconv.Itoa(i)), Timestamp: time.UnixMilli(startTime + int64(i)*1000)}
		check(producer.ProduceSync(ctx, record).FirstErr())
	}
	admin := kadm.NewClient(producer)
	start, _ := got(admin.ListStartOffsets(ctx, "times")).Lookup("times", 0)
	end, _ := got(admin.ListEndOffsets(ctx, "times")).Lookup("times", 0)
	same([]int64{0, 10}, []int64{start.Offset, end.Offset}, "start and end")
	found, _ := got(admin.ListOffsetsAfterMilli(ctx, startTime+4500, "times")).Lookup("times", 0)
	same(int64(5), found.Offset, "first record after a time")
	reader := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"times": {0: kgo.NewOffset().At(2)}}))
	same("2", string(reader.PollFetches(ctx).Records()[0].Value), "from 2")
	reader.Close()
	committed := kadm.Offsets{}
	committed.AddOffset("times", 0, 7, -1)
	check(admin.CommitAllOffsets(ctx, "times", committed))
	stored, _ := got(admin.FetchOffsets(ctx, "times")).Lookup("times", 0)
	same(int64(7), stored.At, "committed")
	producer.Close()
}

// transactions commits, aborts, moves a group's offsets, and has a second holder of the transactional id.
func transactions(ctx context.Context) {
	manual := kgo.RecordPartitioner(kgo.ManualPartitioner())
	send(ctx, messages("moved-from", 0, 10))
	transact := func(producer *kgo.Client, value string, end kgo.TransactionEndTry) error {
		check(producer.BeginTransaction())
		sent := producer.ProduceSync(ctx, &kgo.Record{Topic: "moved", Value: []byte(value)}).FirstErr()
		if sent != nil {
			end = kgo.TryAbort
		}
		return errors.Join(sent, producer.EndTransaction(ctx, end))
	}
	older := client(kgo.TransactionalID("mover"), manual)
	check(transact(older, "committed", kgo.TryCommit))
	check(transact(older, "aborted", kgo.TryAbort))

	session := got(kgo.NewGroupTransactSession(options(kgo.TransactionalID("group-mover"), manual, kgo.ConsumerGroup("movers"),
		kgo.ConsumeTopics("moved-from"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.RequireStableFetchOffsets())...))
	admin := kadm.NewClient(older)
	committed := func() (sum int64) {
		got(admin.FetchOffsets(ctx, "movers")).Each(func(offset kadm.OffsetResponse) { sum += max(offset.At, 0) })
		return sum
	}
	for _, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
		value, offsets := "aborted with offsets", int64(0)
		if end == kgo.TryCommit {
			value, offsets = "committed with offsets", 10
		}
		// After an abort the session goes back to what is committed, and reads the same again.
		for read := 0; read < 10; {
			check(ctx.Err())
			read += session.PollFetches(ctx).NumRecords()
		}
		check(session.Begin())
		check(session.ProduceSync(ctx, &kgo.Record{Topic: "moved", Value: []byte(value)}).FirstErr())
		same(end == kgo.TryCommit, got(session.End(ctx, end)), "committed: "+value)
		same(offsets, committed(), "offsets: "+value)
	}
	session.Close()

	newer := client(kgo.TransactionalID("mover"), manual)
	check(transact(newer, "newer", kgo.TryCommit))
	fenced := transact(older, "fenced", kgo.TryCommit)
	same(true, errors.Is(fenced, kerr.InvalidProducerEpoch) || errors.Is(fenced, kerr.ProducerFenced),
		fmt.Sprint("the older holder: ", fenced))
	check(transact(newer, "last", kgo.TryCommit))
	older.Close()
	newer.Close()
	same([]string{"committed", "committed with offsets", "newer", "last"}, moved(ctx, kgo.ReadCommitted()), "committed")
	all := slices.DeleteFunc(moved(ctx, kgo.ReadUncommitted()), func(value string) bool { return value == "fenced" })
	same([]string{"committed", "aborted", "aborted with offsets", "committed with offsets", "newer", "last"}, all, "uncommitted")
}

// moved is what a consumer of this isolation sees, up to the value that is committed last.
func moved(ctx context.Context, isolation kgo.IsolationLevel) []string {
	reader := client(kgo.FetchIsolationLevel(isolation),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"moved": {0: kgo.NewOffset().AtStart()}}))
	defer reader.Close()
	found := []string{}
	for len(found) == 0 || found[len(found)-1] != "last" {
		check(ctx.Err())
		for _, record := range reader.PollFetches(ctx).Records() {
			found = append(found, string(record.Value))
		}
	}
	return found
}

func admin(ctx context.Context) {
	admin := kadm.NewClient(client())
	partitions := func() int { return len(got(admin.ListTopics(ctx, "made"))["made"].Partitions) }
	retention := func() string {
		described := got(got(admin.DescribeTopicConfigs(ctx, "made")).On("made", nil))
		index := slices.IndexFunc(described.Configs, func(c kadm.Config) bool { return c.Key == "retention.ms" })
		return *described.Configs[index].Value
	}
	sixty, more := "60000", "120000"
	got(admin.CreateTopic(ctx, 3, 1, map[string]*string{"retention.ms": &sixty}, "made"))
	same(3, partitions(), "partitions")
	same("60000", retention(), "as created")
	change := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &more}}
	check(got(got(admin.AlterTopicConfigs(ctx, change, "made")).On("made", nil)).Err)
	same("120000", retention(), "as altered")
	check(got(got(admin.UpdatePartitions(ctx, 5, "made")).On("made", nil)).Err)
	until(ctx, "five partitions", func() bool { return partitions() == 5 })
	send(ctx, messages("made", 0, 10))
	read(ctx, "made-readers", "made", 10)
	same(true, slices.Contains(got(admin.ListGroups(ctx)).Groups(), "made-readers"), "the group is listed")
	until(ctx, "the group is empty", func() bool {
		return got(admin.DescribeGroups(ctx, "made-readers"))["made-readers"].State == "Empty"
	})
	got(admin.DeleteGroup(ctx, "made-readers"))
	got(admin.DeleteTopic(ctx, "made"))
	until(ctx, "the topic is gone", func() bool { return !got(admin.ListTopics(ctx)).Has("made") })
	admin.Close()
}

func messages(topic string, from, to int) []*kgo.Record {
	records := []*kgo.Record{}
	for i := from; i < to; i++ {
		value := fmt.Sprintf("value-%d-%s", i, strings.Repeat("x", 100))
		records = append(records, &kgo.Record{Topic: topic, Key: []byte("key-" + strconv.Itoa(i%7)), Value: []byte(value)})
	}
	return records
}

func send(ctx context.Context, records []*kgo.Record, more ...kgo.Opt) {
	producer := client(append(more, kgo.ProducerLinger(20*time.Millisecond))...)
	check(producer.ProduceSync(ctx, records...).FirstErr())
	producer.Close()
}

func read(ctx context.Context, group, topic string, count int) []*kgo.Record {
	reader := client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	found := []*kgo.Record{}
	for len(found) < count {
		check(ctx.Err())
		found = append(found, reader.PollFetches(ctx).Records()...)
	}
	check(reader.CommitUncommittedOffsets(ctx))
	reader.Close()
	return found
}

func values(records []*kgo.Record) []string {
	texts := []string{}
	for _, record := range records {
		texts = append(texts, string(record.Key)+"="+string(record.Value))
	}
	slices.Sort(texts)
	return texts
}

func until(ctx context.Context, what string, condition func() bool) {
	for !condition() {
		select {
		case <-ctx.Done():
			panic(what + ": not in time")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func same(expected, found any, what string) {
	if !reflect.DeepEqual(expected, found) {
		panic(fmt.Sprintf("%s: expected %.2000v\nfound %.2000v", what, expected, found))
	}
}

func got[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
