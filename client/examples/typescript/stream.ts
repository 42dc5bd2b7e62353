// Sends the events of standard input, one JSON object a line, each exactly once.
//
//     npm install && npm run build
//     WEPEOPLE_API_KEY=... node out/stream.js ../../../proto HOST:PORT PRODUCER_ID < events.ndjson
//
// It goes on over any disconnect. It may also be stopped and run again with the same lines, to
// which others were added: it begins after those that the service has judged already. Prints the
// counts.

import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const BATCH_EVENTS = 100; // at most 500
const FIRST_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 10_000;

type Event = {
  timestamp?: string;
  duration?: number;
  metadata?: object;
  [member: string]: unknown;
};
type Batch = { sequence: number; events: object[] };
type Opened = { lastSequence: number; maxInFlight: number; accepted: number; rejected: number };
type Ack = { sequence: number; accepted: number; rejected: Rejected[] };
type Rejected = { index: number; code: string; message: string };
type Answer = { opened?: Opened; ack?: Ack };
type Stream = grpc.ClientDuplexStream<object, Answer>;

// Opening another stream can cure these; the others are final.
const PASSING = new Set([
  grpc.status.UNAVAILABLE,
  grpc.status.INTERNAL,
  grpc.status.UNKNOWN,
  grpc.status.CANCELLED,
  grpc.status.DEADLINE_EXCEEDED,
  grpc.status.OUT_OF_RANGE,
]);
// The library does not decode the details of a status. RATE_LIMITED alone is RESOURCE_EXHAUSTED
// with RetryInfo.
const RETRY_INFO = "google.rpc.RetryInfo";

/** The message of an event in the JSON form of the REST API. */
function message({ timestamp, duration, metadata, ...event }: Event): object {
  return {
    ...event,
    ...(timestamp !== undefined && { timestamp: instant(Date.parse(timestamp)) }),
    ...(duration !== undefined && { durationSeconds: duration }),
    ...(metadata !== undefined && { metadataJson: Buffer.from(JSON.stringify(metadata)) }),
  };
}

/** A moment, to the millisecond, as google.protobuf.Timestamp. */
function instant(milliseconds: number): object {
  const seconds = Math.floor(milliseconds / 1_000);
  return { seconds, nanos: (milliseconds - 1_000 * seconds) * 1_000_000 };
}

/** Keeps each batch until it knows that the batch is committed. */
class Producer {
  readonly counts = { accepted: 0, rejected: 0, duplicate: 0 };
  private readonly unacked: Batch[] = [];
  private readonly lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  private sequence = 0; // of the last batch that was made
  private resumed = false;

  constructor(private readonly id: string) {}

  /** Uses one stream; returns once all is acked. */
  async send(call: Stream): Promise<void> {
    const answers = call[Symbol.asyncIterator]() as AsyncIterator<Answer>;
    call.write({ open: { producerId: this.id } });
    const { opened } = await answer(answers);
    await this.resume(opened!);
    for (const batch of this.unacked) call.write({ batch });
    for (;;) {
      while (this.unacked.length < opened!.maxInFlight) {
        const batch = await this.next();
        if (batch === undefined) break;
        call.write({ batch });
      }
      if (this.unacked.length === 0) {
        call.end();
        return;
      }
      this.acknowledge((await answer(answers)).ack!);
    }
  }

  /** Learns from the first answer of a stream which batches are committed. */
  private async resume(opened: Opened): Promise<void> {
    if (!this.resumed) {
      const judged = opened.accepted + opened.rejected;
      for (let line = 0; line < judged; line++) await this.lines.next();
      this.sequence = opened.lastSequence;
      this.resumed = true;
    }
    while (this.unacked.length > 0 && this.unacked[0].sequence <= opened.lastSequence) {
      this.counts.duplicate += this.unacked.shift()!.events.length; // its ack was lost
    }
  }

  /** A batch of the next lines; undefined at the end of the input. */
  private async next(): Promise<Batch | undefined> {
    const events: object[] = [];
    while (events.length < BATCH_EVENTS) {
      const line = await this.lines.next();
      if (line.done) break;
      events.push(message(JSON.parse(line.value)));
    }
    if (events.length === 0) return undefined;
    const batch = { sequence: ++this.sequence, events };
    this.unacked.push(batch);
    return batch;
  }

  private acknowledge(ack: Ack): void {
    for (const one of ack.rejected) {
      console.error(`batch ${ack.sequence}, event ${one.index}: ${one.code}: ${one.message}`);
    }
    this.counts.accepted += ack.accepted;
    this.counts.rejected += ack.rejected.length;
    this.unacked.shift(); // acks come in order
  }
}

async function answer(answers: AsyncIterator<Answer>): Promise<Answer> {
  const { done, value } = await answers.next();
  if (done) {
    throw Object.assign(new Error("the stream has ended"), { code: grpc.status.UNAVAILABLE });
  }
  return value;
}

function passes(error: Partial<grpc.ServiceError>): boolean {
  const details = error.metadata?.get("grpc-status-details-bin")[0];
  return PASSING.has(error.code!) || (details?.includes(RETRY_INFO) ?? false);
}

async function main(protos: string, target: string, producerId: string): Promise<void> {
  const definition = loadSync("wepeople/ingest/v1/ingest.proto", {
    includeDirs: [protos],
    longs: Number,
    defaults: true,
    oneofs: true,
  });
  const { wepeople } = grpc.loadPackageDefinition(definition) as any;
  const client = new wepeople.ingest.v1.IngestService(target, grpc.credentials.createInsecure());
  const metadata = new grpc.Metadata();
  metadata.set("authorization", `Bearer ${process.env.WEPEOPLE_API_KEY}`);
  const producer = new Producer(producerId);
  let backoff = FIRST_BACKOFF_MS;
  for (;;) {
    const before = JSON.stringify(producer.counts);
    const call: Stream = client.StreamEvents(metadata);
    try {
      await producer.send(call);
      break;
    } catch (error) {
      call.on("error", () => {}); // told already
      call.cancel();
      if (!passes(error as grpc.ServiceError)) throw error;
    }
    if (JSON.stringify(producer.counts) !== before) backoff = FIRST_BACKOFF_MS; // progress
    await sleep(backoff * (0.5 + Math.random() / 2));
    backoff = Math.min(2 * backoff, MAX_BACKOFF_MS);
  }
  client.close();
  console.log(JSON.stringify(producer.counts));
}

const [protos, target, producerId] = process.argv.slice(2);
await main(protos, target, producerId);
