// A webhook notifier built as FluxMQ's is: a bounded queue and a pool of workers, each of which encodes
// an event and posts it with net/http as it comes, on Go's default transport.
//
//	notifier --url http://127.0.0.1:8080/ --requests 10000 --in-flight 5
//
// It is not FluxMQ and has none of its code; and no topic filters, breaker, retries or log, which would
// cost more. Bodies are as long as those of bench.programs.bare and have the same fields; like FluxMQ's
// they have a random UUID and are not signed. `--in-flight` is the number of workers.
//
// Prints one line of JSON.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// FluxMQ's defaults; the client's own limit is the longer one and never decides.
const (
	queueSize       = 10_000
	deliveryTimeout = 5 * time.Second
	clientTimeout   = 30 * time.Second
)

const warmUp = 1000 // connections, caches

const eventType = "bench.e0000"

type event struct {
	Text string `json:"text"`
}

type envelope struct {
	ID        string `json:"id"`
	Type      string `json:"type"`
	Timestamp string `json:"timestamp"`
	Node      string `json:"gateway_node"`
	Data      any    `json:"data"`
}

// MarshalJSON is there because FluxMQ's envelope has one too: for its sake encoding/json reads the
// text a second time, to compact it.
func (e *envelope) MarshalJSON() ([]byte, error) {
	type plain envelope
	return json.Marshal((*plain)(e))
}

// encode makes an event's body. The id and the time are made here, as late as FluxMQ makes them.
func encode(data any) ([]byte, error) {
	id, err := uuid()
	if err != nil {
		return nil, err
	}
	return json.Marshal(&envelope{
		ID:        id,
		Type:      eventType,
		Timestamp: time.Now().UTC().Format(time.RFC3339),
		Node:      "bench",
		Data:      data,
	})
}

// uuid draws a random one (RFC 9562, version 4).
func uuid() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	var text [36]byte
	place := 0
	for _, part := range [][]byte{b[:4], b[4:6], b[6:8], b[8:10], b[10:]} {
		if place > 0 {
			text[place] = '-'
			place++
		}
		place += hex.Encode(text[place:], part)
	}
	return string(text[:]), nil
}

// filling is the event whose body is that many bytes long.
func filling(payload int) (event, error) {
	empty, err := encode(event{})
	if missing := payload - len(empty); err == nil && missing > 0 {
		return event{strings.Repeat("x", missing)}, nil
	}
	return event{}, err
}

type endpoint struct {
	url     string
	types   map[string]bool
	headers map[string]string
	timeout time.Duration
}

// job is what the queue holds: as in FluxMQ with all that is known of the endpoint, which the garbage
// collector looks at for each of 10,000.
type job struct {
	event    any
	endpoint endpoint
}

type notifier struct {
	endpoint endpoint
	client   *http.Client
	queue    chan job
	stop     chan struct{}
	pending  sync.WaitGroup
	failed   int64
}

// start returns a notifier whose workers wait for events, until `stop` is closed.
func start(url string, workers int) *notifier {
	n := &notifier{
		endpoint: endpoint{
			url:     url,
			types:   map[string]bool{eventType: true},
			headers: map[string]string{"User-Agent": "fluxhook-bench"},
			timeout: deliveryTimeout,
		},
		client: &http.Client{Timeout: clientTimeout},
		queue:  make(chan job, queueSize),
		stop:   make(chan struct{}),
	}
	for i := 0; i < workers; i++ {
		go n.work()
	}
	return n
}

// notify waits for a place in the queue, where FluxMQ drops an event: here each of them counts.
func (n *notifier) notify(e event) {
	if n.endpoint.types[eventType] {
		n.pending.Add(1)
		n.queue <- job{e, n.endpoint}
	}
}

func (n *notifier) work() {
	for {
		select {
		case <-n.stop:
			return
		case j := <-n.queue:
			if err := n.post(j); err != nil && atomic.AddInt64(&n.failed, 1) == 1 {
				fmt.Fprintln(os.Stderr, "notifier: the first that failed:", err)
			}
			n.pending.Done()
		}
	}
}

func (n *notifier) post(j job) error {
	body, err := encode(j.event)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), j.endpoint.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(
		ctx, http.MethodPost, j.endpoint.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	for name, value := range j.endpoint.headers {
		request.Header.Set(name, value)
	}
	answer, err := n.client.Do(request)
	if err != nil {
		return err
	}
	// Closed and not read, as FluxMQ has it: an answer with a body costs its connection.
	defer answer.Body.Close()
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return fmt.Errorf("answered with %d", answer.StatusCode)
	}
	return nil
}

// run sends that many events and waits until all are answered.
func (n *notifier) run(requests int, e event) {
	for i := 0; i < requests; i++ {
		n.notify(e)
	}
	n.pending.Wait()
}

// cpu is the user and system time of this process.
func cpu() (time.Duration, error) {
	var usage syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), err
}

func measure(url string, requests, payload, workers int) error {
	e, err := filling(payload)
	if err != nil {
		return err
	}
	n := start(url, workers)
	defer close(n.stop)
	n.run(warmUp, e)
	begun := time.Now()
	before, err := cpu()
	if err != nil {
		return err
	}
	n.run(requests, e)
	after, err := cpu()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"requests": requests,
		"warm_up":  warmUp,
		"failed":   atomic.LoadInt64(&n.failed),
		"seconds":  time.Since(begun).Seconds(),
		"cpu_us":   float64((after - before).Nanoseconds()) / 1000 / float64(requests),
	})
}

func main() {
	url := flag.String("url", "", "where to post")
	requests := flag.Int("requests", 10_000, "how many events")
	payload := flag.Int("payload", 600, "bytes of a body")
	workers := flag.Int("in-flight", 5, "how many workers")
	flag.Parse()
	if err := measure(*url, *requests, *payload, *workers); err != nil {
		fmt.Fprintln(os.Stderr, "notifier:", err)
		os.Exit(1)
	}
}
