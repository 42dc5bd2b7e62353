// Stream sends the events of standard input, one JSON object a line, each exactly once.
//
//	buf generate ../../../proto
//	WEPEOPLE_API_KEY=... go run . HOST:PORT PRODUCER_ID < events.ndjson
//
// It goes on over any disconnect. It may also be stopped and run again with the same lines, to
// which others were added: it begins after those that the service has judged already. Prints the
// counts.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "wepeople.app/examples/stream/ingestv1"
)

const (
	batchEvents  = 100 // at most 500
	maxLineBytes = 1 << 20
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 10 * time.Second
)

// An event in the JSON form of the REST API.
type event struct {
	EventType string
	Category  string
	Actor     *struct{ WorkerID, ExternalID, Email, DisplayName *string }
	Timestamp *time.Time
	Duration  *int64
	Metadata  json.RawMessage
}

func (e event) message() *pb.IngestEvent {
	message := &pb.IngestEvent{
		EventType:       e.EventType,
		Category:        e.Category,
		DurationSeconds: e.Duration,
		MetadataJson:    e.Metadata,
	}
	if e.Actor != nil {
		message.Actor = &pb.Actor{
			WorkerId:    e.Actor.WorkerID,
			ExternalId:  e.Actor.ExternalID,
			Email:       e.Actor.Email,
			DisplayName: e.Actor.DisplayName,
		}
	}
	if e.Timestamp != nil {
		message.Timestamp = timestamppb.New(*e.Timestamp)
	}
	return message
}

type counts struct {
	Accepted  int `json:"accepted"`
	Rejected  int `json:"rejected"`
	Duplicate int `json:"duplicate"`
}

// A producer keeps each batch until it knows that the batch is committed.
type producer struct {
	id       string
	lines    *bufio.Scanner
	sequence uint64 // of the last batch that was made
	unacked  []*pb.StreamBatch
	resumed  bool
	counts   counts
}

// resume learns from the first answer of a stream which batches are committed.
func (p *producer) resume(opened *pb.StreamOpened) {
	if !p.resumed { // the first stream of this run
		for range opened.GetAccepted() + opened.GetRejected() {
			p.lines.Scan()
		}
		p.sequence = opened.GetLastSequence()
		p.resumed = true
	}
	for len(p.unacked) > 0 && p.unacked[0].GetSequence() <= opened.GetLastSequence() {
		p.counts.Duplicate += len(p.unacked[0].GetEvents()) // its ack was lost
		p.unacked = p.unacked[1:]
	}
}

// next makes a batch of the next lines; nil at the end of the input.
func (p *producer) next() (*pb.StreamBatch, error) {
	batch := &pb.StreamBatch{}
	for len(batch.Events) < batchEvents && p.lines.Scan() {
		var one event
		if err := json.Unmarshal(p.lines.Bytes(), &one); err != nil {
			return nil, err
		}
		batch.Events = append(batch.Events, one.message())
	}
	if len(batch.Events) == 0 {
		return nil, p.lines.Err()
	}
	p.sequence++
	batch.Sequence = p.sequence
	p.unacked = append(p.unacked, batch)
	return batch, nil
}

func (p *producer) acknowledge(ack *pb.StreamAck) {
	for _, one := range ack.GetRejected() {
		fmt.Fprintf(os.Stderr, "batch %d, event %d: %s: %s\n",
			ack.GetSequence(), one.GetIndex(), one.GetCode(), one.GetMessage())
	}
	p.counts.Accepted += int(ack.GetAccepted())
	p.counts.Rejected += len(ack.GetRejected())
	p.unacked = p.unacked[1:] // acks come in order
}

// stream opens one stream and sends what is left; nil once all is acked.
func (p *producer) stream(ctx context.Context, client pb.IngestServiceClient) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.StreamEvents(ctx)
	if err != nil {
		return err
	}
	// An error of Send only says that the stream has ended; Recv tells why.
	send := func(batch *pb.StreamBatch) {
		_ = stream.Send(&pb.StreamEventsRequest{
			Message: &pb.StreamEventsRequest_Batch{Batch: batch},
		})
	}
	_ = stream.Send(&pb.StreamEventsRequest{
		Message: &pb.StreamEventsRequest_Open{Open: &pb.StreamOpen{ProducerId: p.id}},
	})
	answer, err := stream.Recv()
	if err != nil {
		return err
	}
	p.resume(answer.GetOpened())
	maxInFlight := int(answer.GetOpened().GetMaxInFlight())
	for _, batch := range p.unacked {
		send(batch)
	}
	for {
		for len(p.unacked) < maxInFlight {
			batch, err := p.next()
			if err != nil {
				return err
			}
			if batch == nil {
				break
			}
			send(batch)
		}
		if len(p.unacked) == 0 {
			return stream.CloseSend()
		}
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		p.acknowledge(answer.GetAck())
	}
}

// passes tells whether another stream can help, and the delay that the server asks for.
func passes(err error) (bool, time.Duration) {
	if errors.Is(err, io.EOF) {
		return true, 0
	}
	failure, ok := status.FromError(err)
	if !ok {
		return false, 0
	}
	for _, detail := range failure.Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok {
			return true, retry.GetRetryDelay().AsDuration()
		}
	}
	switch failure.Code() {
	case codes.Unavailable, codes.Internal, codes.Unknown, codes.Canceled, codes.DeadlineExceeded,
		codes.OutOfRange:
		return true, 0
	}
	return false, 0
}

func run(target, id string) error {
	connection, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	key := os.Getenv("WEPEOPLE_API_KEY")
	ctx := metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+key)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, maxLineBytes)
	p := &producer{id: id, lines: lines}
	backoff := firstBackoff
	for {
		before := p.counts
		err := p.stream(ctx, pb.NewIngestServiceClient(connection))
		if err == nil {
			return json.NewEncoder(os.Stdout).Encode(p.counts)
		}
		again, delay := passes(err)
		if !again {
			return err
		}
		if p.counts != before { // progress
			backoff = firstBackoff
		}
		time.Sleep(delay + time.Duration((0.5+rand.Float64()/2)*float64(backoff)))
		backoff = min(2*backoff, maxBackoff)
	}
}

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
