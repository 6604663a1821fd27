// KafkaJS. Its modules are found through NODE_PATH.
const fs = require('fs')
const { CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = require('kafkajs')
const SnappyCodec = require('kafkajs-snappy')
const { compressFrame, decompressFrame } = require('lz4-napi')

CompressionCodecs[CompressionTypes.Snappy] = SnappyCodec
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: encoder => compressFrame(encoder.buffer),
  decompress: buffer => decompressFrame(buffer),
})

const { BOOTSTRAP, CA_FILE, SASL_MECHANISM, SASL_USERNAME, SASL_PASSWORD } = process.env
const CODECS = (process.env.CODECS || 'none gzip snappy lz4').split(' ')
const TYPES = { none: 0, gzip: 1, snappy: 2, lz4: 3 }
const START_TIME = 1704067200000 // 2024-01-01, in ms

const kafka = new Kafka({
  clientId: 'kafkajs',
  brokers: [BOOTSTRAP],
  logLevel: logLevel.NOTHING,
  ssl: CA_FILE && { ca: [fs.readFileSync(CA_FILE, 'utf-8')] },
  sasl: SASL_MECHANISM && {
    mechanism: SASL_MECHANISM.toLowerCase(), username: SASL_USERNAME, password: SASL_PASSWORD,
  },
})

const messages = count => Array.from({ length: count }, (_, i) =>
  ({ key: `key-${i % 7}`, value: `value-${i}-${'x'.repeat(100)}` }))
const numbered = (from, to) => Array.from({ length: to - from }, (_, i) =>
  ({ key: `key-${from + i}`, value: String(from + i) }))

function same(expected, found, what) {
  const [left, right] = [JSON.stringify(expected), JSON.stringify(found)]
  if (left !== right) throw new Error(`${what}: expected ${left.slice(0, 2000)}\nfound ${right.slice(0, 2000)}`)
}

async function until(condition, what) {
  const end = Date.now() + 30000
  while (!await condition()) {
    if (Date.now() > end) throw new Error(`${what}: not within 30 s`)
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

async function send(topic, records, compression = 0, settings = {}) {
  const producer = kafka.producer(settings)
  await producer.connect()
  await producer.send({ topic, messages: records, compression })
  await producer.disconnect()
}

async function member(groupId, topic, onMessage, more = {}) {
  const settings = { groupId, sessionTimeout: 6000, heartbeatInterval: 500, rebalanceTimeout: 10000, ...more }
  const consumer = kafka.consumer(settings)
  const state = { consumer, partitions: [] }
  consumer.on(consumer.events.GROUP_JOIN, event => { state.partitions = event.payload.memberAssignment[topic] || [] })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({ eachMessage: async ({ message }) => onMessage(message, state) })
  return state
}

async function read(groupId, topic, count) {
  const found = []
  const { consumer } = await member(groupId, topic, ({ key, value }) =>
    found.push({ key: key.toString(), value: value.toString() }))
  await until(() => found.length >= count, `${topic}: reading ${count}`)
  await consumer.disconnect()
  return found
}

const sorted = records => records.map(record => JSON.stringify(record)).sort()

const scenarios = {
  async codecs() {
    for (const codec of CODECS) {
      const records = messages(50)
      await send(`codec-${codec}`, records, TYPES[codec])
      same(sorted(records), sorted(await read(`read-${codec}`, `codec-${codec}`, 50)), codec)
    }
  },

  async idempotent() {
    const records = messages(2000)
    await send('idempotent', records, 0, { idempotent: true, maxInFlightRequests: 1 })
    same(sorted(records), sorted(await read('idempotent', 'idempotent', 2000)), 'each once')
  },

  // Two members share a topic; one leaves; nothing is missed.
  async group() {
    const seen = []
    const note = message => seen.push(Number(message.value))
    const all = count => new Set(seen).size === count
    await send('shared', numbered(0, 200))
    const first = await member('sharers', 'shared', note)
    await until(() => first.partitions.length === 4, 'one member has every partition')
    const second = await member('sharers', 'shared', note)
    await until(() => first.partitions.length === 2 && second.partitions.length === 2, 'two members share')
    await send('shared', numbered(200, 400))
    await until(() => all(400), 'two members read')
    await second.consumer.disconnect()
    await send('shared', numbered(400, 600))
    await until(() => all(600) && first.partitions.length === 4, 'the one that stays reads on')
    await first.consumer.disconnect()
    console.log('read twice:', seen.length - 600)
  },

  async offsets() {
    const stamped = Array.from({ length: 10 }, (_, i) =>
      ({ value: String(i), partition: 0, timestamp: String(START_TIME + i * 1000) }))
    await send('times', stamped)
    const admin = kafka.admin()
    await admin.connect()
    const partition = (await admin.fetchTopicOffsets('times')).find(entry => entry.partition === 0)
    same(['0', '10'], [partition.low, partition.high], 'start and end')
    const byTime = await admin.fetchTopicOffsetsByTimestamp('times', START_TIME + 4500)
    same('5', byTime.find(entry => entry.partition === 0).offset, 'first record after a time')
    await admin.setOffsets({ groupId: 'times', topic: 'times', partitions: [{ partition: 0, offset: '7' }] })
    const committed = await admin.fetchOffsets({ groupId: 'times', topics: ['times'] })
    same('7', committed[0].partitions.find(entry => entry.partition === 0).offset, 'committed')
    const seen = []
    const reader = await member('times', 'times', message => seen.push(Number(message.value)))
    reader.consumer.seek({ topic: 'times', partition: 0, offset: '2' })
    await until(() => seen.includes(2) && seen.includes(9), 'after seek to 2')
    await reader.consumer.disconnect()
    await admin.disconnect()
  },

  // Commit, abort, offsets of a group, and a second holder of the transactional id.
  async transactions() {
    const holder = async () => {
      const producer = kafka.producer({ transactionalId: 'mover', idempotent: true, maxInFlightRequests: 1 })
      await producer.connect()
      return producer
    }
    const transact = async (producer, value, end, offset) => {
      const transaction = await producer.transaction()
      await transaction.send({ topic: 'moved', messages: [{ value, partition: 0 }] })
      if (offset) {
        const topics = [{ topic: 'moved-from', partitions: [{ partition: 0, offset }] }]
        await transaction.sendOffsets({ consumerGroupId: 'movers', topics })
      }
      await transaction[end]()
    }
    const moved = async readUncommitted => {
      const found = []
      const groupId = `moved-${readUncommitted}`
      const { consumer } = await member(groupId, 'moved', ({ value }) => found.push(value.toString()), { readUncommitted })
      await until(() => found.includes('last'), 'reading to the last')
      await consumer.disconnect()
      return found
    }
    await send('moved-from', Array.from({ length: 10 }, (_, i) => ({ value: String(i), partition: 0 })))
    const admin = kafka.admin()
    await admin.connect()
    const committed = async () => {
      const [found] = await admin.fetchOffsets({ groupId: 'movers', topics: ['moved-from'] })
      return found.partitions.find(entry => entry.partition === 0).offset
    }
    const older = await holder()
    await transact(older, 'committed', 'commit')
    await transact(older, 'aborted', 'abort')
    await transact(older, 'aborted with offsets', 'abort', '10')
    same('-1', await committed(), 'offsets of an aborted transaction')
    await transact(older, 'committed with offsets', 'commit', '10')
    same('10', await committed(), 'offsets of a committed transaction')
    const newer = await holder()
    // A producer takes its transactional id over with its first transaction, not when it connects.
    await transact(newer, 'newer', 'commit')
    const error = await transact(older, 'fenced', 'commit').then(() => 'none', failed => failed.type || failed.message)
    same(true, ['INVALID_PRODUCER_EPOCH', 'PRODUCER_FENCED'].includes(error), `the older holder: ${error}`)
    await transact(newer, 'last', 'commit')
    same(['committed', 'committed with offsets', 'newer', 'last'], await moved(false), 'committed')
    same(['committed', 'aborted', 'aborted with offsets', 'committed with offsets', 'newer', 'last'],
      (await moved(true)).filter(value => value !== 'fenced'), 'uncommitted')
    await admin.disconnect()
    await older.disconnect()
    await newer.disconnect()
  },

  async admin() {
    const admin = kafka.admin()
    await admin.connect()
    const resource = { type: ConfigResourceTypes.TOPIC, name: 'made' }
    const retention = async () => {
      const { resources } = await admin.describeConfigs({
        includeSynonyms: false, resources: [{ ...resource, configNames: ['retention.ms'] }],
      })
      return resources[0].configEntries.find(entry => entry.configName === 'retention.ms').configValue
    }
    const partitions = async () => (await admin.fetchTopicMetadata({ topics: ['made'] })).topics[0].partitions.length
    await admin.createTopics({
      topics: [{ topic: 'made', numPartitions: 3, configEntries: [{ name: 'retention.ms', value: '60000' }] }],
    })
    same(3, await partitions(), 'partitions')
    same('60000', await retention(), 'as created')
    await admin.createPartitions({ topicPartitions: [{ topic: 'made', count: 5 }] })
    await until(async () => await partitions() === 5, 'five partitions')
    await send('made', messages(10))
    await read('made-readers', 'made', 10)
    const { groups } = await admin.listGroups()
    same(true, groups.some(group => group.groupId === 'made-readers'), 'the group is listed')
    same('Empty', (await admin.describeGroups(['made-readers'])).groups[0].state, 'its state')
    await admin.deleteGroups(['made-readers'])
    await admin.deleteTopics({ topics: ['made'] })
    await until(async () => !(await admin.listTopics()).includes('made'), 'the topic is gone')
    await admin.disconnect()
  },
}

async function main() {
  const names = process.argv.slice(2)
  for (const name of names.length ? names : Object.keys(scenarios)) {
    await scenarios[name]()
    console.log('ok', name)
  }
}

main().then(() => process.exit(0), error => { console.error(error); process.exit(1) })
