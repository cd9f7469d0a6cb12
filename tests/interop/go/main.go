// A diatribe peer in Go, with the command line and the JSON lines of `diatribe node --json`. It is written from proto/
// alone, on go-libp2p and go-libp2p-pubsub.
//
//	tests/interop/go/install                                    builds it: tests/interop/.cache/go-peer
//	tests/interop/.cache/go-peer --listen /ip4/127.0.0.1/tcp/9000/ws --room lobby
//	tests/interop/.cache/go-peer --dial /ip4/127.0.0.1/tcp/9000/ws --room lobby
//	tests/interop/go/test                                       the vectors, and strangers before the gate
//
//	[--listen MULTIADDR]… [--dial MULTIADDR]… [--room NAME]… [--network-key FILE] [--seed HEX]
//	[--trust PEERID]… [--deny PEERID]… [--max-links N] [--json]
//
// stdin: one object a line, {"room"?, "name"?, "text" | "data"}; data is base64. stdout: one object a line, as
// proto/output.schema.json says. SIGTERM ends it; the end of stdin does not.
//
// It obeys redirects (proto/overlay.proto), and checks no data: it answers `na` to /diatribe/sync/1.0.0.
//
// The packages, from the bottom up: identity, wire (frames and fields), handshake (a pure state machine), batch, node.
package main

import (
	"crypto/rand"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"diatribe.invalid/peer/batch"
	"diatribe.invalid/peer/identity"
	"diatribe.invalid/peer/node"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// stopMost is how long an orderly end may take.
const stopMost = 1500 * time.Millisecond

// list is an option that may be given several times.
type list[T any] struct {
	values []T
	parse  func(string) (T, error)
}

func (l *list[T]) String() string { return "" }

func (l *list[T]) Set(text string) error {
	value, err := l.parse(text)
	l.values = append(l.values, value)
	return err
}

type options struct {
	config node.Config
	dial   []ma.Multiaddr
	rooms  []string
}

func parse(args []string) (*options, error) {
	set := flag.NewFlagSet("go-peer", flag.ContinueOnError)
	listen := list[ma.Multiaddr]{parse: ma.NewMultiaddr}
	dial := list[ma.Multiaddr]{parse: ma.NewMultiaddr}
	trust, deny := list[peer.ID]{parse: peer.Decode}, list[peer.ID]{parse: peer.Decode}
	rooms := list[string]{parse: func(name string) (string, error) {
		name = batch.NFC(name)
		return name, batch.CheckRoom(name)
	}}
	seed := list[[]byte]{parse: func(text string) ([]byte, error) {
		seed, err := hex.DecodeString(text)
		if err == nil && len(seed) != 32 {
			err = fmt.Errorf("a seed has 32 bytes, this one %d", len(seed))
		}
		return seed, err
	}}
	networkKey := list[[]byte]{parse: func(name string) ([]byte, error) {
		file, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		return identity.ParseNetworkKey(file)
	}}
	set.Var(&listen, "listen", "an address to listen on: /ip4/127.0.0.1/tcp/9000/ws")
	set.Var(&dial, "dial", "an address to dial for as long as the node runs")
	set.Var(&rooms, "room", "a room to be in (lobby)")
	set.Var(&trust, "trust", "a PeerId that may link; when there is any, nobody else may")
	set.Var(&deny, "deny", "a PeerId that may not link")
	set.Var(&seed, "seed", "the identity: 32 bytes in hex (random)")
	set.Var(&networkKey, "network-key", "a file with the network key (the open network)")
	maxLinks := set.Int("max-links", 0, "how many links to keep (5)")
	set.Bool("json", true, "JSON lines: there is no other form")
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	if set.NArg() > 0 {
		return nil, fmt.Errorf("%s is no option: see --help", set.Arg(0))
	}
	o := &options{dial: dial.values, rooms: rooms.values}
	o.config = node.Config{Listen: listen.values, Trust: trust.values, Deny: deny.values, MaxLinks: *maxLinks, Tell: tell}
	o.config.Seed = make([]byte, 32)
	rand.Read(o.config.Seed)
	if len(seed.values) > 0 {
		o.config.Seed = seed.values[len(seed.values)-1]
	}
	if len(networkKey.values) > 0 {
		o.config.NetworkKey = networkKey.values[len(networkKey.values)-1]
	}
	if len(o.rooms) == 0 {
		o.rooms = []string{"lobby"}
	}
	return o, nil
}

func main() {
	o, err := parse(os.Args[1:])
	if err == flag.ErrHelp {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(2)
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		tell("error", map[string]any{"reason": err.Error()})
		os.Exit(1)
	}
}

func run(o *options) error {
	// A link that starts while the rooms are joined is reported after `online`.
	hold.Lock()
	n, err := node.New(o.config)
	for _, room := range o.rooms {
		if err == nil {
			err = n.Join(room)
		}
	}
	if err != nil {
		hold.Unlock()
		return err
	}
	addresses := []string{}
	for _, address := range n.Addresses() {
		addresses = append(addresses, address.String())
	}
	write("online", map[string]any{"peer_id": n.ID().String(), "addresses": addresses, "rooms": o.rooms})
	hold.Unlock()
	for _, address := range o.dial {
		go n.KeepDialing(address)
	}
	go serve(n, o.rooms[0])

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
	time.AfterFunc(stopMost, func() { os.Exit(0) })
	n.Close()
	return nil
}
