import com.fasterxml.jackson.databind.ObjectMapper;
import java.time.OffsetDateTime;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.ApiResponse;
import org.openapitools.client.api.IngestApi;
import org.openapitools.client.model.Actor;
import org.openapitools.client.model.BatchError;
import org.openapitools.client.model.DetailedMetric;
import org.openapitools.client.model.EventCategory;
import org.openapitools.client.model.IngestBatchResponse;
import org.openapitools.client.model.IngestEvent;
import org.openapitools.client.model.IngestEventBatch;
import org.openapitools.client.model.IngestSnapshot;
import org.openapitools.client.model.Metric;
import org.openapitools.client.model.MetricUnit;
import org.openapitools.client.model.SnapshotResponse;

/** Uses the client that openapi-generator generates for Java. */
public class Main {
  public static void main(String[] arguments) throws Exception {
    String credential = "Bearer " + System.getenv("KEY");
    ApiClient client = new ApiClient();
    client.setRequestInterceptor(request -> request.header("Authorization", credential));
    IngestApi api = new IngestApi(client);
    Map<String, Object> said = new LinkedHashMap<>();

    said.put("app", api.ping().getApp().getSlug());

    IngestEvent resolved =
        new IngestEvent()
            .eventType("ticket.resolved")
            .category(EventCategory.PROJECT_MANAGEMENT)
            .actor(new Actor().externalId("crm-user-42").displayName("Alex Chen"))
            .timestamp(OffsetDateTime.parse("2026-04-19T12:05:30.25Z"))
            .duration(240)
            .putMetadataItem("ticket", "SUP-431")
            .putMetadataItem("nested", Map.of("list", List.of(1, "two")));
    IngestEvent unknown =
        new IngestEvent()
            .eventType("not.whitelisted")
            .category(EventCategory.OTHER)
            .actor(new Actor().email("alex@example.com"));
    ApiResponse<IngestBatchResponse> batch =
        api.ingestEventsWithHttpInfo(
            new IngestEventBatch().addEventsItem(resolved).addEventsItem(unknown), "generated-1");
    said.put("status", batch.getStatusCode());
    said.put(
        "accepted",
        batch.getData().getResults().getAccepted().stream()
            .map(one -> one.getEventType())
            .toList());
    said.put(
        "rejected",
        batch.getData().getResults().getRejected().stream()
            .map(one -> List.of(one.getIndex(), one.getCode().getValue()))
            .toList());

    SnapshotResponse card =
        api.ingestSnapshot(
            new IngestSnapshot()
                .snapshotType("support.desk")
                .actor(new Actor().externalId("crm-user-42"))
                .putMetricsItem("open", new Metric(16777217.0))
                .putMetricsItem("mood", new Metric("steady"))
                .putMetricsItem(
                    "csat",
                    new Metric(
                        new DetailedMetric()
                            .value(94.5)
                            .unit(MetricUnit.PERCENTAGE)
                            .label("Satisfaction"))),
            null);
    said.put("worker", card.getWorker().getDisplayName());

    try {
      api.ingestEvents(new IngestEventBatch().addEventsItem(unknown), null);
    } catch (ApiException refused) {
      BatchError body =
          client.getObjectMapper().readValue(refused.getResponseBody(), BatchError.class);
      said.put("error", List.of(refused.getCode(), body.getError().getCode().getValue()));
    }
    System.out.println(new ObjectMapper().writeValueAsString(said));
  }
}
