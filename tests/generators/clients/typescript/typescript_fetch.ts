import {
  BatchErrorFromJSON,
  Configuration,
  EventCategory,
  IngestApi,
  MetricUnit,
  ResponseError,
} from "./ingest";

async function refusal(api: IngestApi): Promise<[number, string]> {
  try {
    await api.ingestEvents({
      ingestEventBatch: {
        events: [
          {
            eventType: "not.whitelisted",
            category: EventCategory.Other,
            actor: { externalId: "x" },
          },
        ],
      },
    });
  } catch (error) {
    if (!(error instanceof ResponseError)) throw error;
    const body = BatchErrorFromJSON(await error.response.json());
    return [error.response.status, body.error.code];
  }
  throw new Error("nothing was refused");
}

async function main(): Promise<void> {
  const api = new IngestApi(new Configuration({ accessToken: process.env.KEY }));
  const ping = await api.ping();
  const batch = await api.ingestEventsRaw({
    idempotencyKey: "generated-1",
    ingestEventBatch: {
      events: [
        {
          eventType: "ticket.resolved",
          category: EventCategory.ProjectManagement,
          actor: { externalId: "crm-user-42", displayName: "Alex Chen" },
          timestamp: new Date("2026-04-19T12:05:30.25Z"),
          duration: 240,
          metadata: { ticket: "SUP-431", nested: { list: [1, "two"] } },
        },
        {
          eventType: "not.whitelisted",
          category: EventCategory.Other,
          actor: { email: "alex@example.com" },
        },
      ],
    },
  });
  const { results } = await batch.value();
  const card = await api.ingestSnapshot({
    ingestSnapshot: {
      snapshotType: "support.desk",
      actor: { externalId: "crm-user-42" },
      metrics: {
        open: 16777217,
        mood: "steady",
        csat: { value: 94.5, unit: MetricUnit.Percentage, label: "Satisfaction" },
      },
      metadata: { source: "export" },
    },
  });
  console.log(
    JSON.stringify({
      app: ping.app.slug,
      status: batch.raw.status,
      accepted: results.accepted.map((one) => one.eventType),
      rejected: results.rejected.map((one) => [one.index, one.code]),
      worker: card.worker.displayName,
      error: await refusal(api),
    }),
  );
}

void main();
