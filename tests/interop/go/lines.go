package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unicode/utf8"

	"diatribe.invalid/peer/batch"
	"diatribe.invalid/peer/node"
)

const (
	// maxLine is the longest line of input: the largest event in base64, or as text in which every byte is escaped.
	maxLine = 8 << 20
	// maxUnanswered is how many events may be on their way to `sent`.
	maxUnanswered = 1024

	timeForm = "2006-01-02T15:04:05.000Z"
)

var (
	// hold keeps lines back until `online` has been printed.
	hold   sync.Mutex
	stdout = bufio.NewWriter(os.Stdout)
)

// tell prints one line of output.
func tell(kind string, fields map[string]any) {
	hold.Lock()
	defer hold.Unlock()
	write(kind, fields)
}

func write(kind string, fields map[string]any) {
	if kind == "message" {
		data := fields["data"].([]byte)
		fields["data"] = base64.StdEncoding.EncodeToString(data)
		if utf8.Valid(data) {
			fields["text"] = string(data)
		}
		fields["sent_at"] = time.UnixMilli(int64(fields["sent_at"].(uint64))).UTC().Format(timeForm)
	}
	fields["time"], fields["type"] = time.Now().UTC().Format(timeForm), kind
	encoder := json.NewEncoder(stdout)
	encoder.SetEscapeHTML(false)
	if encoder.Encode(fields) != nil || stdout.Flush() != nil {
		os.Exit(0) // nobody listens any more
	}
}

// input is a line of stdin.
type input struct {
	Room *string `json:"room"`
	Name *string `json:"name"`
	Text *string `json:"text"`
	Data *string `json:"data"`
}

// answer is the outcome of a line of input, in the order of the input.
type answer struct {
	room string
	sent <-chan node.Sent
	err  error
}

// serve takes the lines of stdin.
func serve(n *node.Node, firstRoom string) {
	answers := make(chan answer, maxUnanswered)
	go func() {
		for a := range answers {
			a.tell()
		}
	}()
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) > 0 {
			answers <- say(n, lines.Bytes(), firstRoom)
		}
	}
	if err := lines.Err(); err != nil {
		answers <- answer{firstRoom, nil, fmt.Errorf("a line of input has more than %d bytes, nothing more is read: %w", maxLine, err)}
	}
}

func say(n *node.Node, line []byte, firstRoom string) answer {
	room, event, err := read(line, firstRoom)
	if err != nil {
		return answer{room, nil, err}
	}
	sent, err := n.Say(room, event)
	return answer{room, sent, err}
}

func read(line []byte, firstRoom string) (room string, event batch.Event, err error) {
	room, event.Name = firstRoom, "chat"
	var in input
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil {
		return room, event, fmt.Errorf("a line of input is one JSON object: %w", err)
	}
	if in.Room != nil {
		room = batch.NFC(*in.Room)
		if err := batch.CheckRoom(room); err != nil {
			return firstRoom, event, err
		}
	}
	if in.Name != nil {
		event.Name = *in.Name
	}
	switch {
	case (in.Text == nil) == (in.Data == nil):
		return room, event, errors.New("a line of input has either text or data")
	case in.Text != nil:
		event.Data = []byte(*in.Text)
	default:
		if event.Data, err = base64.StdEncoding.DecodeString(*in.Data); err != nil {
			return room, event, fmt.Errorf("data is base64: %w", err)
		}
	}
	return room, event, nil
}

func (a answer) tell() {
	sent := node.Sent{Err: a.err}
	if a.sent != nil {
		sent = <-a.sent
	}
	if sent.Err != nil {
		tell("error", map[string]any{"reason": sent.Err.Error(), "room": a.room})
		return
	}
	tell("sent", map[string]any{"id": sent.ID, "seq": sent.Seq, "room": a.room, "links": sent.Links})
}
