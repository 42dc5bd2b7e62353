import createClient from "openapi-fetch";
import type { paths } from "./api";

async function main(): Promise<void> {
  const client = createClient<paths>({
    baseUrl: process.env.BASE_URL,
    headers: { Authorization: `Bearer ${process.env.KEY}` },
  });
  const ping = await client.GET("/api/v1/ingest/ping");
  const batch = await client.POST("/api/v1/ingest/events", {
    params: { header: { "Idempotency-Key": "generated-1" } },
    body: {
      events: [
        {
          eventType: "ticket.resolved",
          category: "project_management",
          actor: { externalId: "crm-user-42", displayName: "Alex Chen" },
          timestamp: "2026-04-19T12:05:30.25Z",
          duration: 240,
          metadata: { ticket: "SUP-431", nested: { list: [1, "two"] } },
        },
        { eventType: "not.whitelisted", category: "other", actor: { email: "alex@example.com" } },
      ],
    },
  });
  const card = await client.POST("/api/v1/ingest/snapshots", {
    body: {
      snapshotType: "support.desk",
      actor: { externalId: "crm-user-42" },
      metrics: {
        open: 16777217,
        mood: "steady",
        csat: { value: 94.5, unit: "percentage", label: "Satisfaction" },
      },
      metadata: { source: "export" },
    },
  });
  const refused = await client.POST("/api/v1/ingest/events", {
    body: {
      events: [{ eventType: "not.whitelisted", category: "other", actor: { externalId: "x" } }],
    },
  });
  if (!ping.data || !batch.data || !card.data || !refused.error) throw new Error("no answer");
  console.log(
    JSON.stringify({
      app: ping.data.app.slug,
      status: batch.response.status,
      accepted: batch.data.results.accepted.map((one) => one.eventType),
      rejected: batch.data.results.rejected.map((one) => [one.index, one.code]),
      worker: card.data.worker.displayName,
      error: [refused.response.status, refused.error.error.code],
    }),
  );
}

void main();
