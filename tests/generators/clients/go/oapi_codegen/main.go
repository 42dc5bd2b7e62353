// Uses the client that oapi-codegen generates.
package main

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"time"

	"clients/oapi_codegen/ingest"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func pointer[T any](value T) *T { return &value }

func metrics() map[string]ingest.Metric {
	var open, mood, csat ingest.Metric
	must(0, open.FromMetric0(16777217))
	must(0, mood.FromMetric1("steady"))
	must(0, csat.FromDetailedMetric(ingest.DetailedMetric{
		Value: 94.5, Unit: pointer(ingest.Percentage), Label: pointer("Satisfaction"),
	}))
	return map[string]ingest.Metric{"open": open, "mood": mood, "csat": csat}
}

func main() {
	ctx := context.Background()
	withKey := func(_ context.Context, request *http.Request) error {
		request.Header.Set("Authorization", "Bearer "+os.Getenv("KEY"))
		return nil
	}
	url := os.Getenv("BASE_URL")
	client := must(ingest.NewClientWithResponses(url, ingest.WithRequestEditorFn(withKey)))
	unknown := ingest.IngestEvent{
		EventType: "not.whitelisted",
		Category:  ingest.Other,
		Actor:     ingest.Actor{Email: pointer("alex@example.com")},
	}
	ping := must(client.PingWithResponse(ctx))
	batch := must(client.IngestEventsWithResponse(ctx,
		&ingest.IngestEventsParams{IdempotencyKey: pointer("generated-1")},
		ingest.IngestEventBatch{Events: []ingest.IngestEvent{{
			EventType: "ticket.resolved",
			Category:  ingest.ProjectManagement,
			Actor:     ingest.Actor{ExternalId: pointer("crm-user-42"), DisplayName: pointer("Alex Chen")},
			Timestamp: pointer(time.Date(2026, 4, 19, 12, 5, 30, 250_000_000, time.UTC)),
			Duration:  pointer(int32(240)),
			Metadata: &map[string]interface{}{
				"ticket": "SUP-431", "nested": map[string]interface{}{"list": []interface{}{1, "two"}},
			},
		}, unknown}}))
	card := must(client.IngestSnapshotWithResponse(ctx, nil, ingest.IngestSnapshot{
		SnapshotType: "support.desk",
		Actor:        ingest.Actor{ExternalId: pointer("crm-user-42")},
		Metrics:      metrics(),
	}))
	refused := must(client.IngestEventsWithResponse(ctx, nil,
		ingest.IngestEventBatch{Events: []ingest.IngestEvent{unknown}}))

	accepted, rejected := []string{}, [][]any{}
	for _, one := range batch.JSON207.Results.Accepted {
		accepted = append(accepted, one.EventType)
	}
	for _, one := range batch.JSON207.Results.Rejected {
		rejected = append(rejected, []any{one.Index, one.Code})
	}
	must(0, json.NewEncoder(os.Stdout).Encode(map[string]any{
		"app":      ping.JSON200.App.Slug,
		"status":   batch.StatusCode(),
		"accepted": accepted,
		"rejected": rejected,
		"worker":   card.JSON202.Worker.DisplayName,
		"error":    []any{refused.StatusCode(), refused.JSON403.Error.Code},
	}))
}
