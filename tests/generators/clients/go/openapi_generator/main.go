// Uses the client that openapi-generator generates for Go.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"time"

	"clients/openapi_generator/ingest"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func pointer[T any](value T) *T { return &value }

func main() {
	ctx := context.WithValue(context.Background(), ingest.ContextAccessToken, os.Getenv("KEY"))
	api := ingest.NewAPIClient(ingest.NewConfiguration()).IngestAPI

	ping, _, err := api.Ping(ctx).Execute()
	must(err)

	resolved := ingest.NewIngestEvent("ticket.resolved", ingest.PROJECT_MANAGEMENT,
		ingest.Actor{ExternalId: pointer("crm-user-42"), DisplayName: pointer("Alex Chen")})
	resolved.SetTimestamp(time.Date(2026, 4, 19, 12, 5, 30, 250_000_000, time.UTC))
	resolved.SetDuration(240)
	resolved.SetMetadata(map[string]interface{}{
		"ticket": "SUP-431", "nested": map[string]interface{}{"list": []interface{}{1, "two"}},
	})
	unknown := ingest.NewIngestEvent("not.whitelisted", ingest.OTHER,
		ingest.Actor{Email: pointer("alex@example.com")})
	batch, response, err := api.IngestEvents(ctx).IdempotencyKey("generated-1").
		IngestEventBatch(*ingest.NewIngestEventBatch([]ingest.IngestEvent{*resolved, *unknown})).Execute()
	must(err)

	csat := ingest.DetailedMetric{
		Value: 94.5, Unit: ingest.PERCENTAGE.Ptr(), Label: pointer("Satisfaction"),
	}
	card, _, err := api.IngestSnapshot(ctx).IngestSnapshot(*ingest.NewIngestSnapshot("support.desk",
		ingest.Actor{ExternalId: pointer("crm-user-42")},
		map[string]ingest.Metric{
			"open": ingest.Float64AsMetric(pointer(16777217.0)),
			"mood": ingest.StringAsMetric(pointer("steady")),
			"csat": ingest.DetailedMetricAsMetric(&csat),
		})).Execute()
	must(err)

	_, refusal, err := api.IngestEvents(ctx).
		IngestEventBatch(*ingest.NewIngestEventBatch([]ingest.IngestEvent{*unknown})).Execute()
	var failure *ingest.GenericOpenAPIError
	if !errors.As(err, &failure) {
		panic(err)
	}
	body := failure.Model().(ingest.BatchError)

	accepted, rejected := []string{}, [][]any{}
	for _, one := range batch.Results.Accepted {
		accepted = append(accepted, one.EventType)
	}
	for _, one := range batch.Results.Rejected {
		rejected = append(rejected, []any{one.Index, one.Code})
	}
	must(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"app":      ping.App.Slug,
		"status":   response.StatusCode,
		"accepted": accepted,
		"rejected": rejected,
		"worker":   card.Worker.DisplayName,
		"error":    []any{refusal.StatusCode, body.Error.Code},
	}))
}
